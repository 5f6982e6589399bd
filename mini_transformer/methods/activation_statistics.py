"""Activation statistics: how often and how strongly each unit of a hook is active over many prompts.

A unit is one number per prompt and position: a neuron, an axis of the stream, the length of what a head writes, a direction or a
dictionary's latent. Activations pass by in batches: means, spreads and extremes are kept exactly, quantiles come from a random
share once there are more activations than are kept. A rare unit is not an important one, and a mean is hardly ever
seen: most units are silent most of the time, so look at the density and the quantiles first.
Sources: Elhage et al. 2022 (2209.10652) on sparsity; Bricken et al. 2023 on feature densities; Chan et al. 1983 on merging variances.

Checked against: NumPy on all activations at once, for every size of batch, and planted features of known density and strength.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.hooks import HookName, find_names
from mini_transformer.methods.arguments import meet, widen, without_autocast
from mini_transformer.methods.dictionaries import Dictionary
from mini_transformer.methods.sites import SITES, check_prompts, choose_rows
from mini_transformer.methods.steering import find_positions
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Basis = Float[Tensor, "unit width"] | Dictionary


@dataclass(frozen=True)
class UnitStatistics:
    """Per unit, over `n` prompts and positions; `density` is the share above the threshold, quantiles are (level, unit).

    Numbers are float32 at least. A unit that never varies has a `std` of exactly 0.
    """

    n: int
    mean: Float[Tensor, "unit"]
    std: Float[Tensor, "unit"]
    density: Float[Tensor, "unit"]
    min: Float[Tensor, "unit"]
    max: Float[Tensor, "unit"]
    quantiles: Float[Tensor, "level unit"]


def read_units(
    model: Transformer, tokens: Tokens, hook: HookName, basis: Basis | None = None
) -> Float[Tensor, "batch pos unit"]:
    """The activation of each unit at `hook`, part of the autograd graph.

    Without a basis, units are the hook's last axis; where the hook has heads (`z`, `result`, ...)
    they are the heads, and the number is the length of the head's vector. With a basis (unit,
    width), dot products; with a dictionary, its codes; heads are put side by side for both.
    ValueError for attention patterns, which are not one vector per position, and for another width.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, n_heads=2, d_mlp=5))
    >>> tokens = torch.tensor([[1, 2, 3]])
    >>> [read_units(model, tokens, hook).shape[-1] for hook in (("post", 0), ("result", 0), ("resid_post", 0))]
    [5, 2, 8]
    """
    check_prompts(tokens)
    (name,) = find_names(hook, model.hook_points)
    axes = SITES.get(name.rpartition(".hook_")[2], ("pos",))
    if axes[0] != "pos":
        raise ValueError(
            f"{name} has the axes {', '.join(axes)}, but units need a hook with one vector per position"
        )
    values = model.run_with_cache(tokens, names_filter=name)[1][name]
    if basis is None:
        return measure_lengths(values) if values.ndim == 4 else values
    values = values.flatten(2)
    if isinstance(basis, Dictionary):
        return basis.encode(values)
    if basis.ndim != 2 or basis.shape[1] != values.shape[2]:
        raise ValueError(
            f"the basis is {tuple(basis.shape)}, but {name} needs (unit, {values.shape[2]})"
        )
    with without_autocast():
        wide, rows = meet(values, basis)
        return (wide @ rows.T).to(values.dtype)


def measure_lengths(
    vectors: Float[Tensor, "batch pos head width"],
) -> Float[Tensor, "batch pos head"]:
    """The length of each head's vector; squares are summed in float32 at least."""
    return widen(vectors).norm(dim=-1).to(vectors.dtype)


def measure_units(
    model: Transformer,
    tokens: Tokens,
    hook: HookName,
    basis: Basis | None = None,
    position: int | None = None,
    threshold: float | int = 0.0,
    levels: Sequence[float | int] = (0.5, 0.9, 0.99),
    keep: int = 10_000,
    seed: int = 0,
    batch_size: int | None = None,
) -> UnitStatistics:
    """Statistics of every unit of `read_units`, at one position or by default at all.

    Quantiles at `levels` interpolate as NumPy does, over `keep` activations per unit drawn from `seed` (all, if there are no more).
    ValueError for levels outside 0 to 1.

    >>> from mini_transformer import toys
    >>> case = toys.load("planted_features")
    >>> truth = case.truth.features
    >>> found = measure_units(case.model, truth.draw(2000, 0), truth.site, truth.directions, truth.position)
    >>> found.n, round(found.max.mean().item(), 1)  # 1.2 alone, more with what overlaps
    (2000, 1.6)
    """
    if keep < 1 or any(not 0 <= level <= 1 for level in levels):
        raise ValueError(
            f"levels are {levels} and keep is {keep}, but levels go from 0 to 1, and at least 1 is kept"
        )
    kept, total = list[Tensor](), StreamedMoments(threshold)
    for rows, values in stream_units(model, tokens, hook, basis, position, batch_size):
        if not kept:
            n_rows = len(tokens) * (tokens.shape[1] if position is None else 1)
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(n_rows, generator=generator, device="cpu") < keep
        kept.append(widen(values)[chosen[rows].to(values.device)])
        total.add(values.double())
    quantiles = np.quantile(torch.cat(kept).cpu().numpy(), np.array(levels, dtype=float), axis=0)
    return total.summarise(torch.from_numpy(quantiles).to(values.device), kept[0].dtype)


def stream_units(
    model: Transformer,
    tokens: Tokens,
    hook: HookName,
    basis: Basis | None = None,
    position: int | None = None,
    batch_size: int | None = None,
) -> Iterator[tuple[slice, Float[Tensor, "row unit"]]]:
    """Activations in batches of at most `batch_size` prompts, one row per prompt and position, with their numbers.

    Row r belongs to prompt r // t and position r % t, or to prompt r where one position was asked for.
    """
    check_prompts(tokens)
    at, start = find_positions(position, tokens.shape[1]), 0
    for part in tokens.split(choose_rows(model.config, tokens.shape[1], batch_size)):
        with torch.no_grad():
            values = read_units(model, part, hook, basis)[:, at].flatten(0, 1)
        yield slice(start, start + len(values)), values
        start += len(values)


class StreamedMoments:
    """Count, mean, squared deviations, share above a threshold and extremes of rows that come in batches.

    Means are counted from the first row, so that a constant far from zero has no deviation at all.
    """

    origin: Tensor
    mean: Tensor
    squares: Tensor
    above: Tensor
    min: Tensor
    max: Tensor

    def __init__(self, threshold: float | int) -> None:
        self.threshold, self.n = threshold, 0

    def add(self, values: Float[Tensor, "row unit"]) -> None:
        if not self.n:
            self.origin = torch.where(values[0].isfinite(), values[0], 0.0)
        n, left = len(values), values - self.origin
        mean = left.mean(dim=0)
        squares, above = (left - mean).square().sum(dim=0), (values > self.threshold).sum(dim=0)
        low, high = values.amin(dim=0), values.amax(dim=0)
        if self.n:
            gap, both = mean - self.mean, self.n + n
            squares = self.squares + squares + gap.square() * self.n * n / both
            mean, above = self.mean + gap * n / both, self.above + above
            low, high = torch.minimum(self.min, low), torch.maximum(self.max, high)
        self.n, self.mean, self.squares, self.above, self.min, self.max = (
            self.n + n,
            mean,
            squares,
            above,
            low,
            high,
        )

    def summarise(self, quantiles: Tensor, dtype: torch.dtype) -> UnitStatistics:
        std, density = (
            (self.squares / self.n).sqrt(),
            self.above / self.n,
        )  # of the activations, not an estimate beyond
        mean = self.origin + self.mean
        return UnitStatistics(
            self.n, *(x.to(dtype) for x in (mean, std, density, self.min, self.max, quantiles))
        )
