"""What signatures have in common: accuracy with parts of the model switched off."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import AblationKind, list_edges, run_edges, write_outputs
from mini_transformer.toys.truth import Batch, Case


def draw_prompts(case: Case, corrupt: str | None = None, n: int = 256) -> Batch:
    """All prompts of a task with a small domain; otherwise, or for a corruption that is not its first, `n` drawn ones."""
    if case.task.everything is not None and corrupt in (None, case.task.corruptions[0]):
        return case.task.everything()
    return case.task.draw(n, seed=1 + 1000 * case.data_seed, corrupt=corrupt)


def measure_accuracy(case: Case, without: Iterable[str] = (), kind: AblationKind = "zero") -> float:
    """Share of prompts answered correctly when these edges, and all edges out of these nodes (or roles), are ablated.

    >>> from mini_transformer import toys
    >>> measure_accuracy(toys.load("boolean_and"), without=["x"])
    0.75
    """
    batch = draw_prompts(case) if kind == "resample" else draw_prompts(case).distinct()
    with torch.no_grad():
        off = write_outputs(case.model, batch.corrupt if kind == "resample" else batch.clean, kind)
        return (
            batch.correct(run_edges(case.model, batch.clean, _mask_without(case, without), off)).float().mean().item()
        )


def measure_change(case: Case, without: Iterable[str]) -> float:
    """Largest change of any logit at the answer, over all prompts, when these edges, nodes or roles are zero-ablated.

    >>> from mini_transformer import toys
    >>> measure_change(toys.load("unused_feature"), without=["unused"])
    0.0
    """
    batch = draw_prompts(case).distinct()
    with torch.no_grad():
        off = write_outputs(case.model, batch.clean, "zero")
        ablated, whole = run_edges(
            case.model, batch.clean, torch.cat([_mask_without(case, without), _mask_without(case)]), off
        )
    return (batch.at_answer(ablated) - batch.at_answer(whole)).abs().max().item()


def accuracy_without(*parts: str, kind: AblationKind = "zero") -> Callable[[Case], float]:
    """The measure of a signature: accuracy when these edges, nodes or roles are ablated."""
    return lambda case: measure_accuracy(case, parts, kind)


def _mask_without(case: Case, parts: Iterable[str] = ()) -> Float[Tensor, "1 edge"]:
    """1 for every edge but these, and but those out of these nodes or roles; KeyError for a part that does not exist."""
    lost, edges = {case.truth.roles.get(part, part) for part in parts}, list_edges(case.model)
    if unknown := lost - {*edges, *(edge.split("->")[0] for edge in edges)}:
        raise KeyError(f"no edge or node is called {sorted(unknown)[0]!r} in this model; edges look like {edges[-1]!r}")
    return torch.tensor([[float(edge not in lost and edge.split("->")[0] not in lost) for edge in edges]])
