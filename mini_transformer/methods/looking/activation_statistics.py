"""Activation statistics: how often and how strongly each unit of a hook is active.

Activations of many prompts pass by in batches: means, spreads and extremes are kept exactly,
quantiles come from a random share once there are more activations than are kept. A rare unit is not
an important one, and a mean is hardly ever seen: most units are silent most of the time, so look at
the density and the quantiles first. What a unit is, `read_units` says.
Sources: Elhage et al. 2022 (2209.10652) on sparsity; Bricken et al. 2023 on feature densities; Chan
et al. 1983 on merging variances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.hooks import HookName
from mini_transformer.methods.arguments import Position, Tokens
from mini_transformer.methods.looking.units import Basis, list_places, read_units, stream_units
from mini_transformer.methods.numerics import widen
from mini_transformer.model import Transformer

__all__ = ["UnitStatistics", "measure_units", "read_units"]


@dataclass(frozen=True)
class UnitStatistics:
    """Statistics per unit, over `n` prompts and positions.

    `density` is the share above the threshold, quantiles are (level, unit). Numbers are float32 at
    least. A unit that never varies has a `std` of exactly 0.
    """

    n: int
    mean: Float[Tensor, "unit"]
    std: Float[Tensor, "unit"]
    density: Float[Tensor, "unit"]
    min: Float[Tensor, "unit"]
    max: Float[Tensor, "unit"]
    quantiles: Float[Tensor, "level unit"]


def measure_units(
    model: Transformer,
    tokens: Tokens,
    hook: HookName,
    basis: Basis | None = None,
    position: Position = -1,
    threshold: float | int = 0.0,
    levels: Sequence[float | int] = (0.5, 0.9, 0.99),
    keep: int = 10_000,
    seed: int = 0,
    batch_size: int | None = None,
) -> UnitStatistics:
    """Measure the statistics of every unit of `read_units`.

    `position` None takes all positions. Quantiles at `levels` interpolate as NumPy does, over
    `keep` activations per unit drawn from `seed` (all, if there are no more). ValueError for levels
    outside 0 to 1.

    >>> from mini_transformer import toys
    >>> case = toys.load("planted_features")
    >>> truth = case.truth.features
    >>> tokens = truth.draw(2000, 0)
    >>> found = measure_units(case.model, tokens, truth.site, truth.directions, truth.position)
    >>> found.n, round(found.max.mean().item(), 1)  # 1.2 alone, more with what overlaps
    (2000, 1.6)
    """
    if keep < 1 or any(not 0 <= level <= 1 for level in levels):
        given = f"levels are {levels} and keep is {keep}"
        raise ValueError(f"{given}, but levels go from 0 to 1, and at least 1 is kept")
    kept = list[Tensor]()
    total = StreamedMoments(threshold)
    for rows, values in stream_units(model, tokens, hook, basis, position, batch_size):
        if not kept:
            n_rows = list_places(tokens, position).numel()
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(n_rows, generator=generator, device="cpu") < keep
        kept.append(widen(values)[chosen[rows].to(values.device)])
        total.add(values.double())
    quantiles = np.quantile(torch.cat(kept).cpu().numpy(), np.array(levels, dtype=float), axis=0)
    return total.summarize(torch.from_numpy(quantiles).to(values.device), kept[0].dtype)


class StreamedMoments:
    """Count, mean, squared deviations, share above a threshold and extremes of streamed rows.

    Rows come in batches. Means are counted from the first row, so that a constant far from zero has
    no deviation at all.
    """

    origin: Tensor
    mean: Tensor
    squares: Tensor
    above: Tensor
    min: Tensor
    max: Tensor

    def __init__(self, threshold: float | int) -> None:
        self.threshold = threshold
        self.n = 0

    def add(self, values: Float[Tensor, "row unit"]) -> None:
        """Add a batch of rows."""
        if not self.n:
            self.origin = torch.where(values[0].isfinite(), values[0], 0.0)
        n, left = len(values), values - self.origin
        mean = left.mean(dim=0)
        squares = (left - mean).square().sum(dim=0)
        above = (values > self.threshold).sum(dim=0)
        low, high = values.amin(dim=0), values.amax(dim=0)
        if self.n:
            gap, both = mean - self.mean, self.n + n
            squares = self.squares + squares + gap.square() * self.n * n / both
            mean = self.mean + gap * n / both
            above = self.above + above
            low, high = torch.minimum(self.min, low), torch.maximum(self.max, high)
        self.n += n
        self.mean, self.squares, self.above = mean, squares, above
        self.min, self.max = low, high

    def summarize(self, quantiles: Tensor, dtype: torch.dtype) -> UnitStatistics:
        """Summarise all rows. The spread is that of the activations, no estimate beyond them."""
        std = (self.squares / self.n).sqrt()
        density = self.above / self.n
        mean = self.origin + self.mean
        found = (mean, std, density, self.min, self.max, quantiles)
        return UnitStatistics(self.n, *(x.to(dtype) for x in found))
