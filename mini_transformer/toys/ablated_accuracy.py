"""What signatures have in common: accuracy with parts of the model switched off."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    Edge,
    list_edges,
    list_writers,
    run_edges,
    write_outputs,
)
from mini_transformer.toys.truth import Batch, Case


def draw_prompts(case: Case, corrupt: str | None = None, n: int = 256) -> Batch:
    """Return all prompts of a task with a small domain, otherwise `n` drawn ones.

    Prompts are also drawn for a corruption that is not the task's first.
    """
    if case.task.everything is not None and corrupt in (None, case.task.corruptions[0]):
        return case.task.everything()
    return case.task.draw(n, seed=1 + 1000 * case.data_seed, corrupt=corrupt)


def measure_accuracy(case: Case, without: Iterable[str] = (), ablation: Ablation = "zero") -> float:
    """Measure the share of prompts answered correctly when some edges are ablated.

    A node (or role) in `without` stands for all edges out of it.

    >>> from mini_transformer import toys
    >>> measure_accuracy(toys.load("boolean_and"), without=["x"])
    0.75
    """
    resampled = ablation == "resample"
    batch = draw_prompts(case) if resampled else draw_prompts(case).distinct()
    mask = _mask_without(case, without)
    with torch.no_grad():
        off = write_outputs(case.model, batch.corrupt if resampled else batch.clean, ablation)
        logits = run_edges(case.model, batch.clean, mask, off)
    return batch.correct(logits).float().mean().item()


def measure_change(case: Case, without: Iterable[str]) -> float:
    """Measure the largest change of any logit at the answer when edges are zero-ablated.

    It is the largest over all prompts. A node or role in `without` stands for all edges out of it.

    >>> from mini_transformer import toys
    >>> measure_change(toys.load("unused_feature"), without=["unused"])
    0.0
    """
    batch = draw_prompts(case).distinct()
    masks = torch.cat([_mask_without(case, without), _mask_without(case)])
    with torch.no_grad():
        off = write_outputs(case.model, batch.clean, "zero")
        ablated, whole = run_edges(case.model, batch.clean, masks, off)
    return (batch.at_answer(ablated) - batch.at_answer(whole)).abs().max().item()


def accuracy_without(*parts: str, ablation: Ablation = "zero") -> Callable[[Case], float]:
    """Make the measure of a signature: accuracy when these parts are ablated.

    Parts are edges, nodes or roles.
    """
    return lambda case: measure_accuracy(case, parts, ablation)


def _mask_without(case: Case, parts: Iterable[str] = ()) -> Float[Tensor, "1 edge"]:
    """Write 1 for every edge but these, and but those out of these nodes or roles.

    Raise KeyError for a part that does not exist.
    """
    lost = {case.truth.roles.get(part, part) for part in parts}
    edges = list_edges(case.model)
    if unknown := lost - {*edges, *list_writers(case.model)}:
        raise KeyError(
            f"no edge or node is called {sorted(unknown)[0]!r} in this model; "
            f"edges look like {edges[-1]!r}"
        )
    kept = [lost.isdisjoint({edge, str(Edge.parse(edge).writer)}) for edge in edges]
    return torch.tensor([kept]).float()
