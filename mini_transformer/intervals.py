"""State how sure a mean over models is: 95% bootstrap intervals over them.

Source: Efron 1979 (Annals of Statistics 7, 1).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Interval", "combine", "find_interval"]

DRAWS = 2000


class Interval(NamedTuple):
    """A mean over models and the ends of its 95% interval; None for a single model."""

    mean: float
    low: float | None
    high: float | None


def find_interval(values: Sequence[float], generator: torch.Generator | None = None) -> Interval:
    """Find the mean of one value per model and its interval, by drawing models anew.

    Without a generator all calls for as many models draw the same ones.

    >>> find_interval([0.2, 0.4, 0.6])
    Interval(mean=0.4, low=0.2, high=0.6)
    """
    return combine([(1.0, values)], generator)


def combine(
    parts: Sequence[tuple[float, Sequence[float]]], generator: torch.Generator | None = None
) -> Interval:
    """Find the interval of a weighted sum of means, each over models of its own.

    >>> combine([(0.5, [1.0]), (0.5, [0.0, 1.0])])
    Interval(mean=0.75, low=0.5, high=1.0)
    """
    mean, drawn, most = 0.0, torch.zeros(DRAWS).double(), 0
    for part, (weight, values) in enumerate(parts):
        row = torch.tensor(values, dtype=torch.float64)
        mean += weight * row.mean().item()
        drawn = drawn + weight * row[_draw(len(row), part, generator)].mean(dim=1)
        most = max(most, len(row))
    if most < 2:
        return Interval(_shorten(mean), None, None)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Interval(_shorten(mean), _shorten(low), _shorten(high))


def _draw(n: int, part: int, generator: torch.Generator | None) -> Tensor:
    """Draw n of n models, DRAWS times."""
    if generator is None:
        return _draw_once(n, part)
    return torch.randint(n, (DRAWS, n), generator=generator)


@functools.lru_cache(maxsize=64)
def _draw_once(n: int, part: int) -> Tensor:
    return _draw(n, part, torch.Generator().manual_seed(part))


def _shorten(value: float) -> float:
    """Cut what differs between machines."""
    return round(value, 12)
