"""Check every truth of the zoo again.

Signatures are run, circuits derived again by enumeration, variables read and resampled.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mini_transformer import toys
from mini_transformer.toys.ablated_accuracy import draw_prompts
from mini_transformer.toys.find_circuits import MOST, find_circuits, is_minimal, list_choices
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


def _count_wrong(case: Case, circuits: Circuits, ablation, level) -> int:
    batch = draw_prompts(case, circuits.corrupt, n=64)
    claimed: tuple[frozenset[str], ...] = getattr(circuits, level)
    if len(list_choices(case.model, level)) > MOST and circuits.complete:
        # Too many sets to try them all again: those that are claimed must be circuits.
        return sum(not is_minimal(case.model, batch, ablation, c, level) for c in claimed)
    if circuits.complete:
        return len(set(claimed) ^ set(find_circuits(case.model, batch, ablation, level)))
    return sum(
        find_circuits(case.model, batch, ablation, level, among=sorted(c)) != (c,) for c in claimed
    )


def _check_variables(case: Case) -> Iterator[Check]:
    """Check that each variable can be read from its subspace, and is used as claimed.

    Resampling the subspace changes answers if it is used, else no logit.
    """
    for name, variable in case.truth.variables.items():
        batch = draw_prompts(case)
        yield f"{name}: read from its subspace", measure_readable(case, variable, batch), 0.99, 1.0
        change = measure_effect(case, variable, batch)
        low, high = (1e-2, INF) if variable.used else (0.0, 1e-4)
        yield f"{name}: change of logits when resampled", change, low, high


def measure_readable(case: Case, variable: Variable, batch: Batch) -> float:
    """Measure the share of prompts (and positions) whose value the subspace tells.

    It does where the activation is nearest to the mean of its own value.
    """
    labels = variable.compute(batch.clean).flatten()
    with torch.no_grad():
        _, cache = case.model.run_with_cache(batch.clean, names_filter=[variable.site])
    read = _at_position(cache[variable.site], variable.position)
    points = (read @ variable.subspace.T).flatten(0, -2)
    values, index = labels.unique(return_inverse=True)
    means = torch.stack([points[index == i].mean(dim=0) for i in range(len(values))])
    return (torch.cdist(points, means).argmin(dim=1) == index).float().mean().item()


def measure_effect(case: Case, variable: Variable, batch: Batch) -> float:
    """Measure the largest change of any logit at the answer when the subspace is resampled.

    It takes the value that it has in the corrupt prompt.
    """
    with torch.no_grad():
        _, cache = case.model.run_with_cache(batch.corrupt, names_filter=[variable.site])
        other = cache[variable.site]
        where = slice(None) if variable.position is None else variable.position

        def resample(value: Tensor, hook: object) -> None:
            value[:, where] += (other - value)[:, where] @ variable.subspace.T @ variable.subspace

        changed = case.model.run_with_hooks(batch.clean, fwd_hooks=[(variable.site, resample)])
        own = case.model(batch.clean)
    return (batch.at_answer(changed) - batch.at_answer(own)).abs().max().item()


def _at_position(x: Tensor, position: int | None) -> Tensor:
    return x if position is None else x[:, position]
