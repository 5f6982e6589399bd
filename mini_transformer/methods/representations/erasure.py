"""Concept erasure: make a label unreadable for everything linear.

Every eraser here is x -> x - M (x - mean). *Projection* takes out the span of the differences
between class means along right angles: the means become equal, at a larger change than need be.
*INLP* fits a linear probe, projects its directions out and repeats. *LEACE* is the smallest change
(mean squared) after which no linear predictor beats a constant one: M = W^+ Q Q^T W, with W the
inverse square root of the covariance of x, and Q a basis of W cov(x, z). An MLP may still read what
is left.
Sources: Ravfogel et al. 2020 (2004.07667), algorithm 1; Belrose et al. 2023 (2306.03819), section
4.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from mini_transformer.methods.arguments import Activations, Labels, check_labels
from mini_transformer.methods.numerics import (
    find_axes,
    measure_rounding,
    meet,
    widen,
    without_autocast,
)
from mini_transformer.methods.representations.probes import fit_probe
from mini_transformer.tensors import copy_fields

__all__ = ["Eraser", "fit_inlp", "fit_leace", "fit_projection"]


@dataclass(frozen=True)
class Eraser:
    """x -> x - M (x - mean): call it on activations (..., d)."""

    M: Float[Tensor, "d d"]
    mean: Float[Tensor, "d"]

    def __post_init__(self) -> None:
        copy_fields(self)

    @without_autocast()
    def __call__(self, activations: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        if activations.shape[-1:] != self.mean.shape:
            given = f"activations are {tuple(activations.shape)}"
            raise ValueError(f"{given}, but the eraser takes (..., {len(self.mean)})")
        x, M, mean = meet(activations, self.M, self.mean)
        return (x - (x - mean) @ M.T).to(activations.dtype)


def fit_projection(activations: Activations, labels: Labels) -> Eraser:
    """Fit the eraser that projects out the differences between class means.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.0, 2.0], [2.0, 3.0]])
    >>> fit_projection(x, torch.tensor([0, 0, 1, 1]))(x)  # means differ along axis 1 only
    tensor([[0.0000, 1.5000],
            [2.0000, 1.5000],
            [0.0000, 1.5000],
            [2.0000, 1.5000]])
    """
    x, mean, cross = compute_moments(activations, labels)
    unit = measure_rounding(x + mean)[:, None]
    basis = span(torch.where(cross.abs() > 100 * unit, cross, 0.0), unit)
    return finish(basis @ basis.T, mean, activations)


def fit_inlp(
    activations: Activations, labels: Labels, rounds: int | None = None, penalty: float | int = 1.0
) -> Eraser:
    """Fit the eraser that projects out what linear probes read, one after the other.

    Each probe is fitted to what the ones before it left. `rounds` is by default as many as it takes
    for the probe to be no better than the majority class. ValueError for more directions than
    dimensions.

    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> labels = (x[:, 1] > 0).long()
    >>> bool(fit_probe(fit_inlp(x, labels)(x), labels).accuracy(x, labels) < 0.7)
    True
    """
    labels, n_classes = check_labels(activations, labels)
    d = activations.shape[1]
    per_round = n_classes - 1
    if rounds is not None and not 0 < rounds * per_round <= d:
        given = f"{rounds} rounds take out {rounds * per_round} directions"
        raise ValueError(f"{given}, but there are {d} dimensions")
    x, mean, _ = compute_moments(activations, labels)
    majority = labels.bincount().max()
    everything = torch.eye(d, device=x.device).to(x)
    kept = everything  # an orthonormal basis of what is left, as columns
    for _ in range(rounds or d):
        if not kept.shape[1]:
            break
        left = x @ kept
        probe = fit_probe(left, labels, penalty=penalty)
        if rounds is None and (probe.predict(left) == labels).sum() <= majority:
            break
        read = span(probe.directions.T, 1 / measure_rounding(left)[:, None])[:, :per_round]
        kept = kept @ torch.linalg.qr(read, mode="complete").Q[:, read.shape[1] :]
    return finish(everything - kept @ kept.T, mean, activations)


def fit_leace(activations: Activations, labels: Labels) -> Eraser:
    """Fit the smallest change after which labels and activations have no covariance.

    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> labels = (x[:, 1] > 0).long()
    >>> probe = fit_probe(fit_leace(x, labels)(x), labels)
    >>> bool(probe.directions.abs().max() < 1e-4)  # it only knows how frequent the classes are
    True
    """
    x, mean, cross = compute_moments(activations, labels)
    unit = measure_rounding(widen(activations))  # in units of their rounding no column is loud
    S, V = find_axes(x, unit)
    S = S[:, None] / len(x) ** 0.5
    unit = unit[:, None]
    seen = V.T @ (cross / unit) / S  # whitened, along the principal axes
    rounding = measure_rounding(x + mean)[:, None].div(unit).max() / S
    basis = span(torch.where(seen.abs() > 100 * rounding, seen, 0.0), torch.ones_like(S))
    M = (unit * V * S.T) @ basis @ basis.T @ (V / S.T / unit).T
    if V.shape[1] < len(V):  # nothing changes across the space that the activations fill
        filled = torch.linalg.qr(unit * V).Q
        M = M @ filled @ filled.T
    return finish(M, mean, activations)


def compute_moments(activations: Activations, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
    """Compute, in float64, centred activations, their mean, and their covariance with labels.

    The covariance (d, class) is that with the one-hot labels.
    """
    labels, n_classes = check_labels(activations, labels)
    x = activations.detach().double()
    mean = x.mean(dim=0)
    z = one_hot(labels, n_classes).double()
    return x - mean, mean, (x - mean).T @ (z - z.mean(dim=0)) / len(x)


def span(columns: Float[Tensor, "d k"], unit: Float[Tensor, "d 1"]) -> Float[Tensor, "d rank"]:
    """Find an orthonormal basis of the columns, as columns.

    How many there are is judged with each row in units of its own.
    """
    U, S, _ = torch.linalg.svd(columns, full_matrices=False)
    scaled = torch.linalg.svdvals(columns / unit)
    return U[:, : int((scaled > 1e-9 * scaled.amax()).sum())] if S.numel() else columns


def finish(M: Tensor, mean: Tensor, like: Tensor) -> Eraser:
    """Store what was found in the activations' dtype, float32 at least."""
    dtype = widen(like[:0]).dtype
    return Eraser(M.to(dtype), mean.to(dtype))
