"""Fourier analysis modulo p: what a model that adds numbers modulo p is made of.

Frequency k = 1 .. (p - 1) / 2 stands for cos(2 pi k a / p) and sin(2 pi k a / p). Together with the
constant these are all functions of a. Everything here takes arrays over all numbers (p rows) or all
pairs (p p rows, row p a + b holds a and b), from any model, and computes in float64, so that a
large offset hides nothing. Numbers that are not finite raise ValueError everywhere.

The restricted loss keeps only the waves of a + b at the key frequencies; the excluded loss takes
them out. Over the checkpoints of a training run they show a circuit growing, and memory giving way,
before accuracy does. In one run of addition modulo 113, from step 100 to 300, the restricted loss
fell from 4.2 to 1.6 nats, the excluded one rose from 0.3 to 1.7, and accuracy rose from .32 to only
.38. A few strong frequencies are not yet an algorithm: two that use the same waves differ in how
they combine them (`gradient_symmetry`).
Sources: Nanda et al. 2023 (2301.05217), sections 4 and 5.1.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.methods.numerics import find_scale, widen
from mini_transformer.methods.weights.pairs import (
    Logits,
    add_pairs,
    average_by_sum,
    check_finite,
    check_logits,
    check_pairs,
    round_off,
    vary,
)

__all__ = [
    "exclude_logits",
    "keep_frequencies",
    "measure_frequency_shares",
    "measure_progress",
    "measure_share_of_best_frequency",
    "measure_share_of_sum",
    "restrict_logits",
    "write_fourier_basis",
]


def write_fourier_basis(p: int) -> Float[Tensor, "p p"]:
    """Write the Fourier basis modulo p as orthonormal rows.

    The constant comes first, then cos and sin at frequency 1, cos and sin at frequency 2, ...
    ValueError unless p is odd and at least 3.

    >>> torch.allclose(write_fourier_basis(7) @ write_fourier_basis(7).T, torch.eye(7), atol=1e-6)
    True
    """
    return write_waves(p).to(torch.get_default_dtype())


def write_waves(p: int) -> Float[Tensor, "p p"]:
    """Write the Fourier basis in float64, on the CPU."""
    if p < 3 or p % 2 == 0:
        raise ValueError(f"p is {p}, but must be odd and at least 3; nearest: {max(3, p + 1)}")
    numbers = torch.arange(p, dtype=torch.float64, device="cpu")
    angle = 2 * math.pi * torch.outer(numbers[1 : p // 2 + 1], numbers) / p
    waves = torch.stack([angle.cos(), angle.sin()], dim=1).flatten(0, 1) * math.sqrt(2 / p)
    return torch.cat([torch.full_like(waves[:1], 1 / math.sqrt(p)), waves])


def measure_frequency_shares(x: Float[Tensor, "p column"]) -> Float[Tensor, "frequency"]:
    """Measure which share of x's squared norm each frequency carries along the rows.

    The constant counts in the whole. The key frequencies of an embedding (p, d) show so.
    ValueError for another shape, and where x is zero.

    >>> wave = torch.cos(2 * math.pi * 2 * torch.arange(7) / 7)
    >>> measure_frequency_shares(wave[:, None]).round(decimals=2)
    tensor([0., 1., 0.])
    """
    check_columns(x)
    wide = x.double()
    wide = wide / find_scale(wide, dim=(0, 1))
    power = (write_waves(len(x)).to(x.device) @ wide).square().sum(dim=1)
    if not power.sum() > 0:
        raise ValueError(
            f"x {tuple(x.shape)} is zero everywhere, so no frequency has a share of it"
        )
    return ((power[1::2] + power[2::2]) / power.sum()).to(widen(x).dtype)


def keep_frequencies(
    x: Float[Tensor, "p column"], frequencies: Sequence[int]
) -> Float[Tensor, "p column"]:
    """Keep the part of x that is made of these frequencies along the rows.

    The constant is left out. ValueError for a frequency that is not one of 1 to (p - 1) / 2.

    >>> x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(keep_frequencies(x, [1, 2, 3]), x - x.mean(dim=0), atol=1e-6))
    True
    """
    check_columns(x)
    if wrong := [k for k in frequencies if not 1 <= k <= len(x) // 2]:
        raise ValueError(
            f"frequency {wrong[0]} was asked for, but p = {len(x)} has 1 to {len(x) // 2}"
        )
    kept = [row for k in set(frequencies) for row in (2 * k - 1, 2 * k)]
    rows = write_waves(len(x)).to(x.device)[kept]
    return (rows.T @ (rows @ x.double())).to(x.dtype)


def restrict_logits(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """Keep the waves of a + b at these frequencies, and what all pairs share.

    >>> logits = torch.eye(5)[add_pairs(5)]  # the answer, and so all waves of a + b
    >>> bool(torch.allclose(restrict_logits(logits, [1, 2]), logits, atol=1e-6))
    True
    """
    return (keep_waves_of_sum(logits, frequencies) + logits.double().mean(dim=0)).to(logits.dtype)


def exclude_logits(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """Take out the waves of a + b at these frequencies, and keep everything else.

    >>> exclude_logits(torch.eye(5)[add_pairs(5)], [1, 2]).std().item() < 1e-6
    True
    """
    return (logits.double() - keep_waves_of_sum(logits, frequencies)).to(logits.dtype)


def keep_waves_of_sum(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """Keep the waves of a + b at these frequencies, in float64."""
    p = check_logits(logits)
    waves = keep_frequencies(average_by_sum(logits.double(), p), frequencies)
    return waves[add_pairs(p, logits.device)]


def measure_progress(
    logits: Logits,
    frequencies: Sequence[int],
    seen: Integer[Tensor, "seen"] | Bool[Tensor, "mask"] | None = None,
) -> dict[str, float]:
    """Measure the full, restricted and excluded loss (cross-entropy, nats) of these logits.

    "restricted" keeps only the waves of a + b at these frequencies, "excluded" takes them out. The
    first two are means over all pairs. The third is a mean over the pairs `seen` in training, by
    default also all: what memory alone achieves. `seen` holds numbers of rows, each counted once,
    or True for the rows that were seen. ValueError for shapes, frequencies and pairs that do not
    fit.

    >>> progress = measure_progress(9.0 * torch.eye(5)[add_pairs(5)], [1, 2])
    >>> {name: round(loss, 3) for name, loss in progress.items()}  # log 5 = 1.609: nothing is left
    {'full': 0.0, 'restricted': 0.0, 'excluded': 1.609}
    """
    check_logits(logits)
    logits = logits.double()  # small losses are rounded away otherwise
    restricted = restrict_logits(logits, frequencies)
    excluded = exclude_logits(logits, frequencies)
    everything = torch.arange(len(logits), device=logits.device)
    seen = everything if seen is None else find_rows(seen, everything)
    runs = {
        "full": (logits, everything),
        "restricted": (restricted, everything),
        "excluded": (excluded, seen),
    }
    answers = add_pairs(logits.shape[1], logits.device)
    return {
        name: F.cross_entropy(x[rows], answers[rows]).item() for name, (x, rows) in runs.items()
    }


def find_rows(seen: Tensor, everything: Integer[Tensor, "pair"]) -> Integer[Tensor, "seen"]:
    """Find the rows that were seen, each once; ValueError where they do not fit."""
    n = len(everything)
    if seen.dtype != torch.bool:
        seen = seen.long().unique()
    elif seen.shape == everything.shape:
        seen = everything[seen.to(everything.device)]
    else:
        given = f"seen is torch.bool {tuple(seen.shape)}"
        raise ValueError(f"{given}, but must have one entry for each of {n} pairs")
    if not len(seen) or int(seen.min()) < 0 or int(seen.max()) >= n:
        given = f"seen holds {len(seen)} numbers of pairs"
        raise ValueError(f"{given}, but needs at least one, from 0 to {n - 1}")
    return seen


def measure_share_of_sum(logits: Logits) -> float:
    """Measure which share of the variance of the logits functions of a + b explain.

    Each pair's mean is taken off first. ValueError for another shape, and for logits that are the
    same for all pairs, up to rounding.

    >>> measure_share_of_sum(torch.eye(5)[add_pairs(5)])
    1.0
    """
    p = check_logits(logits)
    wide = logits.double() / find_scale(logits.double(), dim=(0, 1))
    centred = wide - wide.mean(dim=1, keepdim=True)
    rest = centred - average_by_sum(centred, p)[add_pairs(p, logits.device)]
    spread = centred.amax(dim=0) - centred.amin(dim=0)
    if not (spread > round_off(logits) * wide.abs().max()).any():
        given = f"the logits {tuple(logits.shape)} are the same for all pairs"
        raise ValueError(f"{given}: there is no variance to explain")
    total = (centred - centred.mean(dim=0)).square().sum()
    return max(0.0, 1 - (rest.square().sum() / total).item())


def measure_share_of_best_frequency(
    activations: Float[Tensor, "pair neuron"], p: int
) -> Float[Tensor, "neuron"]:
    """Measure which share of each neuron's variance its best frequency explains.

    A frequency stands for all products of its waves (and the constant) in a with those in b. The
    share is nan for a neuron that varies by rounding only. ValueError unless there are p p rows.

    >>> a, b = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    >>> one = torch.cos(2 * math.pi * (a + b) / 5)
    >>> two = torch.cos(2 * math.pi * a / 5) + torch.cos(4 * math.pi * b / 5)
    >>> measure_share_of_best_frequency(torch.stack([one, two], dim=1), p=5)
    tensor([1.0000, 0.5000])
    """
    check_pairs(activations, p)
    basis = write_waves(p).to(activations.device)
    wide = activations.double()
    wide = wide / find_scale(wide, dim=(0,))
    wide = wide - wide.mean(dim=0)
    in_a = basis @ wide.reshape(p, -1)  # i (b n); one einsum over both takes tens of times longer
    power = (basis @ in_a.reshape(p, p, -1)).permute(2, 0, 1).square()  # n i j
    wave = power[:, 1:, 1:].unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum(dim=(2, 4))  # n k k
    alone = (power[:, 0, 1:] + power[:, 1:, 0]).unflatten(1, (-1, 2)).sum(dim=2)  # n k
    share = (wave.diagonal(dim1=1, dim2=2) + alone).amax(dim=1) / wide.square().sum(dim=0)
    return torch.where(vary(activations), share.clamp(max=1), math.nan).to(widen(activations).dtype)


def check_columns(x: Tensor) -> None:
    """Raise ValueError unless x has rows and columns of finite floats."""
    if x.ndim != 2 or not x.is_floating_point() or not x.numel():
        given = f"x is {x.dtype} {tuple(x.shape)}"
        raise ValueError(f"{given}, expected floats of shape (p, column), one row per number")
    check_finite(x, "x")
