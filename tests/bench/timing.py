"""Time candidates on a noisy machine: take turns, and compare by the median ratio."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

# What else the models that are timed have, beside their sizes.
STYLE = dict(norm="layer", biases=True, act="gelu")


def take_turns(
    candidates: Mapping[str, Callable[[], object]], turns: int, warm_up: int = 3
) -> dict[str, list[float]]:
    """Return the ms of each candidate in `turns` rounds, every other in the opposite order."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(-warm_up, turns):
        for name in list(candidates)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            candidates[name]()
            if turn >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def compare(
    name: str, candidates: Mapping[str, Callable[[], torch.Tensor]], bound: float, turns: int
) -> dict:
    """Make one row of the table.

    The first candidate is ours, the second what it is measured against, the third TransformerLens.
    Outputs are compared first: a fast wrong answer is no answer.
    """
    expected, *others = (run() for run in candidates.values())
    for other in others:
        torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-4)
    return make_row(name, take_turns(candidates, turns), bound)


def make_row(name: str, times: dict[str, list[float]], bound: float) -> dict:
    """Make a table's row from times in the order ours, other, and TransformerLens if there.

    The ratio is the median of the ratios within each turn, which other work on the machine disturbs
    least.
    """
    (_, ours), (other, other_times), *lens = times.items()
    ratio = median_ratio(ours, other_times)
    row = {
        "name": name,
        "ours_ms": statistics.median(ours),
        "other": other,
        "other_ms": statistics.median(other_times),
    }
    row |= {"ratio": ratio, "bound": bound, "within": ratio <= bound}
    return row | ({"transformer_lens": median_ratio(lens[0][1], other_times)} if lens else {})


def median_ratio(ours: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, other, strict=True))
