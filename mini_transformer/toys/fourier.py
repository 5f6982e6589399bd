"""Functions on the numbers modulo p as sums of waves: what models that add modulo p are made of.

Frequency k = 1 .. (p - 1) / 2 stands for cos(2 pi k a / p) and sin(2 pi k a / p); together with the constant these are
all functions of a. Source: Nanda et al. 2023 (2301.05217), section 4.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def write_basis(p: int) -> Float[Tensor, "p p"]:
    """Orthonormal rows: the constant, then cos and sin at frequency 1, cos and sin at frequency 2, ...

    >>> torch.allclose(write_basis(7) @ write_basis(7).T, torch.eye(7), atol=1e-6)
    True
    """
    if p < 3 or p % 2 == 0:
        raise ValueError(f"p is {p}, but must be odd and at least 3; nearest: {max(3, p + 1)}")
    angle = 2 * math.pi * torch.outer(torch.arange(1, p // 2 + 1), torch.arange(p)) / p
    waves = torch.stack([angle.cos(), angle.sin()], dim=1).flatten(0, 1) * math.sqrt(2 / p)
    return torch.cat([torch.full((1, p), 1 / math.sqrt(p)), waves])


def measure_shares(x: Float[Tensor, "p column"]) -> Float[Tensor, "frequency"]:
    """Share of the squared norm of x, constant included, that each frequency carries along the rows.

    >>> wave = torch.cos(2 * math.pi * 2 * torch.arange(7) / 7)
    >>> measure_shares(wave[:, None]).round(decimals=2)
    tensor([0., 1., 0.])
    """
    power = (write_basis(len(x)) @ x).square().sum(dim=1)
    return (power[1::2] + power[2::2]) / power.sum()


def keep_frequencies(x: Float[Tensor, "p column"], frequencies: list[int]) -> Float[Tensor, "p column"]:
    """The part of x that is made of these frequencies along the rows, without the constant."""
    if wrong := [k for k in frequencies if not 1 <= k <= len(x) // 2]:
        raise ValueError(f"frequency {wrong[0]} was asked for, but p = {len(x)} has 1 to {len(x) // 2}")
    basis = write_basis(len(x))
    rows = basis[[row for k in frequencies for row in (2 * k - 1, 2 * k)]]
    return rows.T @ (rows @ x)


def average_by_sum(x: Float[Tensor, "pair column"], p: int) -> Float[Tensor, "p column"]:
    """Mean over the p pairs (a, b) with the same a + b; pair p a + b holds a and b."""
    return torch.zeros(p, x.shape[1], dtype=x.dtype).index_add_(0, add_pairs(p), x) / p


def measure_explained(logits: Float[Tensor, "pair p"]) -> float:
    """Share of the variance of the logits, each pair's mean taken off, that functions of a + b explain."""
    p = logits.shape[1]
    centred = logits - logits.mean(dim=1, keepdim=True)
    rest = centred - average_by_sum(centred, p)[add_pairs(p)]
    return 1 - (rest.square().sum() / (centred - centred.mean(dim=0)).square().sum()).item()


def restrict_logits(logits: Float[Tensor, "pair p"], frequencies: list[int]) -> Float[Tensor, "pair p"]:
    """The waves of a + b at these frequencies, and nothing else of what varies between pairs."""
    p = logits.shape[1]
    return keep_frequencies(average_by_sum(logits, p), frequencies)[add_pairs(p)] + logits.mean(dim=0)


def exclude_logits(logits: Float[Tensor, "pair p"], frequencies: list[int]) -> Float[Tensor, "pair p"]:
    """Everything but these waves."""
    p = logits.shape[1]
    return logits - keep_frequencies(average_by_sum(logits, p), frequencies)[add_pairs(p)]


def measure_single(activations: Float[Tensor, "pair neuron"], p: int) -> Float[Tensor, "neuron"]:
    """Share of each neuron's variance over all pairs that its best single frequency explains.

    A frequency stands for all products of its waves (and the constant) in a with those in b.
    """
    basis = write_basis(p)
    in_a = basis @ activations.reshape(p, -1)  # i (b n); one einsum over both takes tens of times longer
    power = (basis @ in_a.reshape(p, p, -1)).permute(2, 0, 1).square()  # n i j
    wave = power[:, 1:, 1:].unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum(dim=(2, 4))  # n k k
    alone = (power[:, 0, 1:] + power[:, 1:, 0]).unflatten(1, (-1, 2)).sum(dim=2)  # n k
    return (wave.diagonal(dim1=1, dim2=2) + alone).amax(dim=1) / (power.sum(dim=(1, 2)) - power[:, 0, 0])


def measure_loss(logits: Float[Tensor, "pair p"]) -> float:
    """Mean cross-entropy over all pairs, nats, in float64."""
    return F.cross_entropy(logits.double(), add_pairs(logits.shape[1])).item()


def add_pairs(p: int) -> Int[Tensor, "pair"]:
    """(a + b) mod p for all pairs, b running fastest."""
    return ((torch.arange(p)[:, None] + torch.arange(p)) % p).flatten()
