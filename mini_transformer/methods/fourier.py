"""Fourier analysis modulo p: what a model that adds numbers modulo p is made of, and how far its circuit has formed.

Frequency k = 1 .. (p - 1) / 2 stands for cos(2 pi k a / p) and sin(2 pi k a / p); together with the constant these are all functions
of a. Everything here takes arrays over all numbers (p rows) or all pairs (p p rows, row p a + b holds a and b), from any model,
and computes in float64, so that a large offset hides nothing. ValueError everywhere for numbers that are not finite.
The restricted loss keeps only the waves of a + b at the key frequencies, the excluded loss takes them out: over the checkpoints of a
training run they show a circuit growing and memory giving way before accuracy does (in one run of addition modulo 113, from step 100
to 300: restricted 4.2 to 1.6, excluded 0.3 to 1.7 nats, accuracy .32 to .38). A few strong frequencies are not yet an algorithm: two
that use the same waves differ in how they combine them (`gradient_symmetry`).
Sources: Nanda et al. 2023 (2301.05217), sections 4 and 5.1.

Checked against: NumPy's FFT, functions whose waves are known, sums over pairs written out, and a trained model.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.methods.arguments import find_scale, widen

Logits = Float[Tensor, "pair p"]


def write_fourier_basis(p: int) -> Float[Tensor, "p p"]:
    """Orthonormal rows: the constant, then cos and sin at frequency 1, cos and sin at frequency 2, ...

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
    """Share of the squared norm of x, constant included, that each frequency carries along the rows.

    An embedding (p, d) shows its key frequencies so. ValueError for another shape, and where x is zero.

    >>> wave = torch.cos(2 * math.pi * 2 * torch.arange(7) / 7)
    >>> measure_frequency_shares(wave[:, None]).round(decimals=2)
    tensor([0., 1., 0.])
    """
    check_columns(x)
    wide = x.double()
    power = (
        (write_waves(len(x)).to(x.device) @ (wide / find_scale(wide, dim=(0, 1))))
        .square()
        .sum(dim=1)
    )
    if not power.sum() > 0:
        raise ValueError(
            f"x {tuple(x.shape)} is zero everywhere, so no frequency has a share of it"
        )
    return ((power[1::2] + power[2::2]) / power.sum()).to(widen(x).dtype)


def keep_frequencies(
    x: Float[Tensor, "p column"], frequencies: Sequence[int]
) -> Float[Tensor, "p column"]:
    """The part of x that is made of these frequencies along the rows, without the constant.

    ValueError for a frequency that is not one of 1 to (p - 1) / 2.

    >>> x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(keep_frequencies(x, [1, 2, 3]), x - x.mean(dim=0), atol=1e-6))
    True
    """
    check_columns(x)
    if wrong := [k for k in frequencies if not 1 <= k <= len(x) // 2]:
        raise ValueError(
            f"frequency {wrong[0]} was asked for, but p = {len(x)} has 1 to {len(x) // 2}"
        )
    rows = write_waves(len(x)).to(x.device)[
        [row for k in set(frequencies) for row in (2 * k - 1, 2 * k)]
    ]
    return (rows.T @ (rows @ x.double())).to(x.dtype)


def restrict_logits(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """The waves of a + b at these frequencies, and nothing else of what varies between pairs.

    >>> logits = torch.eye(5)[add_pairs(5)]  # the answer, and so all waves of a + b
    >>> bool(torch.allclose(restrict_logits(logits, [1, 2]), logits, atol=1e-6))
    True
    """
    return (keep_waves_of_sum(logits, frequencies) + logits.double().mean(dim=0)).to(logits.dtype)


def exclude_logits(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """Everything but the waves of a + b at these frequencies.

    >>> exclude_logits(torch.eye(5)[add_pairs(5)], [1, 2]).std().item() < 1e-6
    True
    """
    return (logits.double() - keep_waves_of_sum(logits, frequencies)).to(logits.dtype)


def measure_progress(
    logits: Logits,
    frequencies: Sequence[int],
    seen: Integer[Tensor, "seen"] | Bool[Tensor, "mask"] | None = None,
) -> dict[str, float]:
    """Cross-entropy, nats: "full", "restricted" to the waves of a + b at these frequencies, and with those "excluded".

    The first two are means over all pairs; the third over the pairs `seen` in training (numbers of rows, each counted once, or True
    for those that were), by default also all: what memory alone achieves. ValueError for shapes, frequencies and pairs that do not fit.

    >>> progress = measure_progress(9.0 * torch.eye(5)[add_pairs(5)], [1, 2])
    >>> {name: round(loss, 3) for name, loss in progress.items()}  # log 5 = 1.609: nothing is left
    {'full': 0.0, 'restricted': 0.0, 'excluded': 1.609}
    """
    logits = logits.double()  # small losses are rounded away otherwise
    restricted, excluded = restrict_logits(logits, frequencies), exclude_logits(logits, frequencies)
    everything = torch.arange(len(logits), device=logits.device)
    if seen is None:
        seen = everything
    elif seen.dtype != torch.bool:
        seen = seen.long().unique()
    elif seen.shape == everything.shape:
        seen = everything[seen.to(everything.device)]
    else:
        raise ValueError(
            f"seen is torch.bool {tuple(seen.shape)}, but must have one entry for each of {len(logits)} pairs"
        )
    if not len(seen) or int(seen.min()) < 0 or int(seen.max()) >= len(logits):
        raise ValueError(
            f"seen holds {len(seen)} numbers of pairs, but needs at least one, from 0 to {len(logits) - 1}"
        )
    runs = {
        "full": (logits, everything),
        "restricted": (restricted, everything),
        "excluded": (excluded, seen),
    }
    answers = add_pairs(logits.shape[1], logits.device)
    return {
        name: F.cross_entropy(x[rows], answers[rows]).item() for name, (x, rows) in runs.items()
    }


def share_explained_by_sum(logits: Logits) -> float:
    """Share of the variance of the logits, each pair's mean taken off, that functions of a + b explain.

    ValueError for another shape, and for logits that are the same for all pairs, up to rounding.

    >>> share_explained_by_sum(torch.eye(5)[add_pairs(5)])
    1.0
    """
    p = check_logits(logits)
    wide = logits.double() / find_scale(logits.double(), dim=(0, 1))
    centred = wide - wide.mean(dim=1, keepdim=True)
    rest = centred - average_by_sum(centred, p)[add_pairs(p, logits.device)]
    spread = centred.amax(dim=0) - centred.amin(dim=0)
    if not (spread > round_off(logits) * wide.abs().max()).any():
        raise ValueError(
            f"the logits {tuple(logits.shape)} are the same for all pairs: there is no variance to explain"
        )
    total = (centred - centred.mean(dim=0)).square().sum()
    return max(0.0, 1 - (rest.square().sum() / total).item())


def share_of_best_frequency(
    activations: Float[Tensor, "pair neuron"], p: int
) -> Float[Tensor, "neuron"]:
    """Share of each neuron's variance over all pairs that its best frequency explains; nan if it varies by rounding only.

    A frequency stands for all products of its waves (and the constant) in a with those in b. ValueError unless there are p p rows.

    >>> a, b = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    >>> neurons = [torch.cos(2 * math.pi * (a + b) / 5), torch.cos(2 * math.pi * a / 5) + torch.cos(4 * math.pi * b / 5)]
    >>> share_of_best_frequency(torch.stack(neurons, dim=1), p=5)
    tensor([1.0000, 0.5000])
    """
    check_pairs(activations, p)
    basis, wide = write_waves(p).to(activations.device), activations.double()
    wide = wide / find_scale(wide, dim=(0,))
    wide = wide - wide.mean(dim=0)
    in_a = basis @ wide.reshape(p, -1)  # i (b n); one einsum over both takes tens of times longer
    power = (basis @ in_a.reshape(p, p, -1)).permute(2, 0, 1).square()  # n i j
    wave = power[:, 1:, 1:].unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum(dim=(2, 4))  # n k k
    alone = (power[:, 0, 1:] + power[:, 1:, 0]).unflatten(1, (-1, 2)).sum(dim=2)  # n k
    share = (wave.diagonal(dim1=1, dim2=2) + alone).amax(dim=1) / wide.square().sum(dim=0)
    return torch.where(vary(activations), share.clamp(max=1), math.nan).to(widen(activations).dtype)


def keep_waves_of_sum(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """Keep the waves of a + b at these frequencies, in float64."""
    p = check_logits(logits)
    return keep_frequencies(average_by_sum(logits.double(), p), frequencies)[
        add_pairs(p, logits.device)
    ]


def average_by_sum(x: Float[Tensor, "pair column"], p: int) -> Float[Tensor, "p column"]:
    """Mean over the p pairs (a, b) with the same a + b; pair p a + b holds a and b."""
    return x.new_zeros(p, x.shape[1]).index_add_(0, add_pairs(p, x.device), x) / p


def add_pairs(p: int, device: torch.device | None = None) -> Integer[Tensor, "pair"]:
    """(a + b) mod p for all pairs, b running fastest."""
    numbers = torch.arange(p, device=device)
    return ((numbers[:, None] + numbers) % p).flatten()


def vary(x: Float[Tensor, "row column"]) -> Bool[Tensor, "column"]:
    """Say of each column whether it varies along the rows by more than rounding."""
    wide = x.double()
    return wide.amax(dim=0) - wide.amin(dim=0) > round_off(x) * wide.abs().amax(dim=0)


def round_off(x: Tensor) -> float:
    """Give the error, as a share, that a few steps of computing in this dtype leave."""
    return 4 * torch.finfo(x.dtype).eps


def check_columns(x: Tensor) -> None:
    """ValueError unless x has rows and columns of floats."""
    if x.ndim != 2 or not x.is_floating_point() or not x.numel():
        raise ValueError(
            f"x is {x.dtype} {tuple(x.shape)}, expected floats of shape (p, column), one row per number"
        )
    check_finite(x, "x")


def check_pairs(x: Tensor, p: int, what: str = "activations") -> None:
    """ValueError unless there is one row of floats for each of the p p pairs."""
    if x.ndim != 2 or not x.is_floating_point() or len(x) != p * p or not x.numel():
        given = f"{x.dtype} {tuple(x.shape)}"
        raise ValueError(
            f"{what} are {given}, but must be floats with a row for each of {p} x {p} pairs: ({p * p}, ...)"
        )
    check_finite(x, what)


def check_finite(x: Tensor, what: str) -> None:
    """Raise ValueError where a number is nan or infinite."""
    if not x.isfinite().all():
        raise ValueError(
            f"{what} {tuple(x.shape)} hold numbers that are not finite: cut them off, as no wave has them"
        )


def check_logits(logits: Tensor) -> int:
    """p; ValueError unless the logits are (p p, p): cut off outputs that are no numbers."""
    p = logits.shape[-1] if logits.ndim else 0
    check_pairs(logits, p, "logits")
    return p
