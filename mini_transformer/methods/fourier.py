"""Fourier analysis modulo p: what a model that adds numbers modulo p is made of, and how far its circuit has formed.

Frequency k = 1 .. (p - 1) / 2 stands for cos(2 pi k a / p) and sin(2 pi k a / p); together with the constant these are all functions
of a. Everything here takes arrays over all numbers (p rows) or all pairs (p p rows, row p a + b holds a and b), from any model.
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
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Logits = Float[Tensor, "pair p"]


def write_fourier_basis(p: int) -> Float[Tensor, "p p"]:
    """Orthonormal rows: the constant, then cos and sin at frequency 1, cos and sin at frequency 2, ...

    ValueError unless p is odd and at least 3.

    >>> torch.allclose(write_fourier_basis(7) @ write_fourier_basis(7).T, torch.eye(7), atol=1e-6)
    True
    """
    if p < 3 or p % 2 == 0:
        raise ValueError(f"p is {p}, but must be odd and at least 3; nearest: {max(3, p + 1)}")
    angle = 2 * math.pi * torch.outer(torch.arange(1, p // 2 + 1), torch.arange(p)) / p
    waves = torch.stack([angle.cos(), angle.sin()], dim=1).flatten(0, 1) * math.sqrt(2 / p)
    return torch.cat([torch.full((1, p), 1 / math.sqrt(p)), waves])


def measure_frequency_shares(x: Float[Tensor, "p column"]) -> Float[Tensor, "frequency"]:
    """Share of the squared norm of x, constant included, that each frequency carries along the rows.

    An embedding (p, d) shows its key frequencies so. ValueError for another shape, and where x is zero.

    >>> wave = torch.cos(2 * math.pi * 2 * torch.arange(7) / 7)
    >>> measure_frequency_shares(wave[:, None]).round(decimals=2)
    tensor([0., 1., 0.])
    """
    check_columns(x)
    power = (write_fourier_basis(len(x)).to(x) @ x).square().sum(dim=1)
    if not power.sum() > 0:
        raise ValueError(f"x {tuple(x.shape)} is zero everywhere, so no frequency has a share of it")
    return (power[1::2] + power[2::2]) / power.sum()


def keep_frequencies(x: Float[Tensor, "p column"], frequencies: Sequence[int]) -> Float[Tensor, "p column"]:
    """The part of x that is made of these frequencies along the rows, without the constant.

    ValueError for a frequency that is not one of 1 to (p - 1) / 2.

    >>> x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(keep_frequencies(x, [1, 2, 3]), x - x.mean(dim=0), atol=1e-6))
    True
    """
    check_columns(x)
    if wrong := [k for k in frequencies if not 1 <= k <= len(x) // 2]:
        raise ValueError(f"frequency {wrong[0]} was asked for, but p = {len(x)} has 1 to {len(x) // 2}")
    rows = write_fourier_basis(len(x)).to(x)[[row for k in set(frequencies) for row in (2 * k - 1, 2 * k)]]
    return rows.T @ (rows @ x)


def restrict_logits(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """The waves of a + b at these frequencies, and nothing else of what varies between pairs.

    >>> logits = torch.eye(5)[add_pairs(5)]  # the answer, and so all waves of a + b
    >>> bool(torch.allclose(restrict_logits(logits, [1, 2]), logits, atol=1e-6))
    True
    """
    return keep_waves_of_sum(logits, frequencies) + logits.mean(dim=0)


def exclude_logits(logits: Logits, frequencies: Sequence[int]) -> Logits:
    """Everything but the waves of a + b at these frequencies.

    >>> exclude_logits(torch.eye(5)[add_pairs(5)], [1, 2]).std().item() < 1e-6
    True
    """
    return logits - keep_waves_of_sum(logits, frequencies)


def measure_progress(
    logits: Logits, frequencies: Sequence[int], seen: Int[Tensor, "seen"] | None = None
) -> dict[str, float]:
    """Cross-entropy, nats: "full", "restricted" to the waves of a + b at these frequencies, and with those "excluded".

    The first two are means over all pairs; the third over the pairs `seen` in training (numbers of rows), by default also all: what
    memory alone achieves. ValueError for shapes, frequencies and pairs that do not fit.

    >>> progress = measure_progress(9.0 * torch.eye(5)[add_pairs(5)], [1, 2])
    >>> {name: round(loss, 3) for name, loss in progress.items()}  # log 5 = 1.609: nothing is left
    {'full': 0.0, 'restricted': 0.0, 'excluded': 1.609}
    """
    restricted, excluded = restrict_logits(logits, frequencies), exclude_logits(logits, frequencies)
    everything = torch.arange(len(logits))
    seen = everything if seen is None else seen
    if not len(seen) or int(seen.min()) < 0 or int(seen.max()) >= len(logits):
        raise ValueError(
            f"seen holds {len(seen)} numbers of pairs, but needs at least one, from 0 to {len(logits) - 1}"
        )
    runs = {"full": (logits, everything), "restricted": (restricted, everything), "excluded": (excluded, seen)}
    answers = add_pairs(logits.shape[1])  # float64, as small losses are rounded away otherwise
    return {name: F.cross_entropy(x[rows].double(), answers[rows]).item() for name, (x, rows) in runs.items()}


def share_explained_by_sum(logits: Logits) -> float:
    """Share of the variance of the logits, each pair's mean taken off, that functions of a + b explain.

    ValueError for another shape, and for logits that are the same for all pairs.

    >>> share_explained_by_sum(torch.eye(5)[add_pairs(5)])
    1.0
    """
    p = check_logits(logits)
    centred = logits - logits.mean(dim=1, keepdim=True)
    rest = centred - average_by_sum(centred, p)[add_pairs(p)]
    if not (total := (centred - centred.mean(dim=0)).square().sum()) > 0:
        raise ValueError(
            f"the logits {tuple(logits.shape)} are the same for all pairs: there is no variance to explain"
        )
    return 1 - (rest.square().sum() / total).item()


def share_of_best_frequency(activations: Float[Tensor, "pair neuron"], p: int) -> Float[Tensor, "neuron"]:
    """Share of each neuron's variance over all pairs that its best single frequency explains; nan if it never varies.

    A frequency stands for all products of its waves (and the constant) in a with those in b. ValueError unless there are p p rows.

    >>> a, b = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    >>> neurons = [torch.cos(2 * math.pi * (a + b) / 5), torch.cos(2 * math.pi * a / 5) + torch.cos(4 * math.pi * b / 5)]
    >>> share_of_best_frequency(torch.stack(neurons, dim=1), p=5)
    tensor([1.0000, 0.5000])
    """
    check_pairs(activations, p)
    basis = write_fourier_basis(p).to(activations)
    in_a = basis @ activations.reshape(p, -1)  # i (b n); one einsum over both takes tens of times longer
    power = (basis @ in_a.reshape(p, p, -1)).permute(2, 0, 1).square()  # n i j
    wave = power[:, 1:, 1:].unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum(dim=(2, 4))  # n k k
    alone = (power[:, 0, 1:] + power[:, 1:, 0]).unflatten(1, (-1, 2)).sum(dim=2)  # n k
    return (wave.diagonal(dim1=1, dim2=2) + alone).amax(dim=1) / (power.sum(dim=(1, 2)) - power[:, 0, 0])


def keep_waves_of_sum(logits: Logits, frequencies: Sequence[int]) -> Logits:
    p = check_logits(logits)
    return keep_frequencies(average_by_sum(logits, p), frequencies)[add_pairs(p)]


def average_by_sum(x: Float[Tensor, "pair column"], p: int) -> Float[Tensor, "p column"]:
    """Mean over the p pairs (a, b) with the same a + b; pair p a + b holds a and b."""
    return torch.zeros(p, x.shape[1], dtype=x.dtype).index_add_(0, add_pairs(p), x) / p


def add_pairs(p: int) -> Int[Tensor, "pair"]:
    """(a + b) mod p for all pairs, b running fastest."""
    return ((torch.arange(p)[:, None] + torch.arange(p)) % p).flatten()


def check_columns(x: Tensor) -> None:
    """ValueError unless x has rows and columns of floats."""
    if x.ndim != 2 or not x.is_floating_point() or not x.numel():
        raise ValueError(f"x is {x.dtype} {tuple(x.shape)}, expected floats of shape (p, column), one row per number")


def check_pairs(x: Tensor, p: int, what: str = "activations") -> None:
    """ValueError unless there is one row of floats for each of the p p pairs."""
    if x.ndim != 2 or not x.is_floating_point() or len(x) != p * p or not x.numel():
        given = f"{x.dtype} {tuple(x.shape)}"
        raise ValueError(
            f"{what} are {given}, but must be floats with a row for each of {p} x {p} pairs: ({p * p}, ...)"
        )


def check_logits(logits: Tensor) -> int:
    """p; ValueError unless the logits are (p p, p): cut off outputs that are no numbers."""
    p = logits.shape[-1] if logits.ndim else 0
    check_pairs(logits, p, "logits")
    return p
