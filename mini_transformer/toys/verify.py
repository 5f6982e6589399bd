"""Check every truth of the zoo again.

Signatures are run, circuits derived again by enumeration, variables read and resampled.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mini_transformer import toys
from mini_transformer.model import Transformer
from mini_transformer.toys.ablated_accuracy import draw_prompts
from mini_transformer.toys.find_by_node import find_circuits_by_node
from mini_transformer.toys.find_circuits import (
    MOST,
    find_circuits,
    is_minimal,
    list_choices,
    list_live_edges,
)
from mini_transformer.toys.trained.shipped import list_seeds
from mini_transformer.toys.truth import Batch, Case, Circuits, Variable

INF = float("inf")


class Row(NamedTuple):
    """One thing that was checked.

    What was measured must lie between `low` and `high`, both included.
    """

    case: str
    seed: int
    signature: str
    measured: float
    low: float
    high: float
    ok: bool


def verify(name: str | None = None, seed: int | None = None) -> list[Row]:
    """Measure every signature, circuit and variable of one case, or of all cases, again.

    By default of every seed that is shipped, for trained ones, and of seed 0, for those set by
    hand. Raise KeyError for a name or seed that does not exist, as in `toys.load`.

    >>> all(row.ok for row in verify("boolean_and"))
    True
    """
    return [
        row
        for each in ([name] if name else toys.names())
        for its in ([seed] if seed is not None else list_seeds(each) or [0])
        for row in verify_case(toys.load(each, its))
    ]


def verify_case(case: Case) -> list[Row]:
    """Check one case: its model against its truth.

    The case may be one that was changed.
    """
    checks = [*_check_signatures(case), *_check_circuits(case), *_check_variables(case)]
    return [
        Row(case.name, case.seed, what, x, low, high, low <= x <= high)
        for what, x, low, high in checks
    ]


Check = tuple[str, float, float, float]  # what, measured, low, high


def _check_signatures(case: Case) -> Iterator[Check]:
    for name, signature in case.truth.signatures.items():
        yield name, float(signature.measure(case)), signature.low, signature.high


def _check_circuits(case: Case) -> Iterator[Check]:
    """Count the circuits that are claimed and not found, or found and not claimed.

    Only circuits that are claimed exactly are checked.
    """
    for ablation, circuits in case.truth.circuits.items():
        if circuits.how != "measured":
            for level in ("edges", "nodes"):
                wrong = _count_wrong(case, circuits, ablation, level)
                yield f"{ablation} circuits of {level}, wrong or missing", wrong, 0, 0
    for ablation, circuits in case.truth.by_position.items():
        wrong = _count_wrong(case, circuits, ablation, "positions")
        yield f"{ablation} circuits by position, wrong or missing", wrong, 0, 0


def _count_wrong(case: Case, circuits: Circuits, ablation, level) -> int:
    batch = draw_prompts(case, circuits.corrupt, n=64)
    claimed = circuits.nodes if level == "nodes" else circuits.edges
    many = len(list_choices(case.model, batch, ablation, level)) > MOST
    if many and circuits.complete:
        # Too many sets to try them all again: those that are claimed must be circuits.
        return sum(not is_minimal(case.model, batch, ablation, c, level) for c in claimed)
    if circuits.complete:
        return len(set(claimed) ^ set(_find_all(case.model, batch, ablation, level)))
    return sum(
        find_circuits(case.model, batch, ablation, level, among=sorted(c)) != (c,) for c in claimed
    )


def _find_all(model: Transformer, batch: Batch, ablation, level) -> tuple[frozenset[str], ...]:
    """Find all circuits, in large models node by node: there, few sets are very many, too."""
    if level == "nodes" and len(list_live_edges(model)) > MOST:
        with contextlib.suppress(ValueError):  # too many states
            return find_circuits_by_node(model, batch, ablation, level)
    return find_circuits(model, batch, ablation, level)


def _check_variables(case: Case) -> Iterator[Check]:
    """Check that each variable can be read from its subspace, and is used as claimed.

    Resampling the subspace changes answers if it is used, else no logit.
    """
    variables = case.truth.variables
    if not variables:
        return
    batch = draw_prompts(case)
    sites = list(dict.fromkeys(variable.site for variable in variables.values()))
    with torch.no_grad():
        own, clean = case.model.run_with_cache(batch.clean, names_filter=sites)
        _, corrupt = case.model.run_with_cache(batch.corrupt, names_filter=sites)
    for name, variable in variables.items():
        readable = measure_readable(variable, batch, clean[variable.site])
        yield f"{name}: read from its subspace", readable, 0.99, 1.0
        change = measure_effect(case, variable, batch, own, corrupt[variable.site])
        low, high = (1e-2, INF) if variable.used else (0.0, 1e-4)
        yield f"{name}: change of logits when resampled", change, low, high


def measure_readable(variable: Variable, batch: Batch, clean: Tensor) -> float:
    """Measure the share of prompts (and positions) whose value the subspace tells.

    It does where the activation, `clean`, is nearest to the mean of its own value. Where the value
    is negative there is none.
    """
    labels = variable.compute(batch.clean).flatten()
    there = labels >= 0
    read = _at_position(clean, variable.position)
    points = (read @ variable.subspace.T).flatten(0, -2)[there]
    values, index = labels[there].unique(return_inverse=True)
    means = torch.stack([points[index == i].mean(dim=0) for i in range(len(values))])
    return (torch.cdist(points, means).argmin(dim=1) == index).float().mean().item()


def measure_effect(
    case: Case, variable: Variable, batch: Batch, own: Tensor, corrupt: Tensor
) -> float:
    """Measure the largest change of any logit at the answer when the subspace is resampled.

    It takes the value that it has in the corrupt prompt, whose activation is `corrupt`; `own` are
    the logits of the clean one.
    """
    where = slice(None) if variable.position is None else variable.position

    def resample(value: Tensor, hook: object) -> None:
        value[:, where] += (corrupt - value)[:, where] @ variable.subspace.T @ variable.subspace

    with torch.no_grad():
        changed = case.model.run_with_hooks(batch.clean, fwd_hooks=[(variable.site, resample)])
    return (batch.at_answer(changed) - batch.at_answer(own)).abs().max().item()


def _at_position(x: Tensor, position: int | None) -> Tensor:
    return x if position is None else x[:, position]
