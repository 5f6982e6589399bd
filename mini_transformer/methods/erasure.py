"""Concept erasure: change activations so that a label can no longer be read from them by anything linear.

Every eraser here is x -> x - M (x - mean). *Projection* takes out the span of the differences between class means
along right angles: the means become equal, at a larger change than need be. *INLP* trains a linear probe, projects its directions out
and repeats. *LEACE* is the smallest change (mean squared) after which no linear predictor beats a constant one:
M = W^+ Q Q^T W, with W the inverse square root of the covariance of x, and Q a basis of W cov(x, z). An MLP may still read
what is left. Sources: Ravfogel et al. 2020 (2004.07667), algorithm 1; Belrose et al. 2023 (2306.03819), section 4.

Checked against: the optimality conditions (cross-covariance zero, probes at the majority, no smaller change), the oblique
projection that a Lagrange multiplier gives, and the published implementation where its numbers are stored.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.probes import Activations, Labels, check_labels, train_probe


@dataclass(frozen=True)
class Eraser:
    """x -> x - M (x - mean): call it on activations (..., d)."""

    M: Float[Tensor, "d d"]
    mean: Float[Tensor, "d"]

    def __call__(self, activations: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        if activations.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"activations are {tuple(activations.shape)}, but the eraser takes (..., {len(self.mean)})"
            )
        return activations - (activations - self.mean) @ self.M.T


def fit_projection(activations: Activations, labels: Labels) -> Eraser:
    """The eraser that projects out the differences between class means.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.0, 2.0], [2.0, 3.0]])
    >>> fit_projection(x, torch.tensor([0, 0, 1, 1]))(x)  # the means differ along the second axis only
    tensor([[0.0000, 1.5000],
            [2.0000, 1.5000],
            [0.0000, 1.5000],
            [2.0000, 1.5000]])
    """
    _, mean, cross = compute_moments(activations, labels)
    basis = span(cross)
    return finish(basis @ basis.T, mean, activations)


def fit_inlp(activations: Activations, labels: Labels, rounds: int | None = None, penalty: float = 1.0) -> Eraser:
    """The eraser that projects out the directions of linear probes, each trained on what the ones before it left.

    `rounds` is by default as many as it takes for the probe to be no better than the majority class. ValueError for more
    directions than dimensions.

    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> labels = (x[:, 1] > 0).long()
    >>> bool(train_probe(fit_inlp(x, labels)(x), labels).accuracy(x, labels) < 0.7)
    True
    """
    n_classes, d = check_labels(activations, labels), activations.shape[1]
    per_round = n_classes - 1
    if rounds is not None and not 0 < rounds * per_round <= d:
        raise ValueError(f"{rounds} rounds take out {rounds * per_round} directions, but there are {d} dimensions")
    x, mean, _ = compute_moments(activations, labels)
    majority, basis = labels.bincount().max().item() / len(labels), x.new_zeros(d, 0)
    for _ in range(rounds or d // per_round):
        left = x - x @ basis @ basis.T
        probe = train_probe(left, labels, penalty=penalty)
        if rounds is None and probe.accuracy(left, labels) <= majority:
            break
        fresh = probe.directions.T - basis @ basis.T @ probe.directions.T
        basis = span(torch.cat([basis, span(fresh)], dim=1))
    return finish(basis @ basis.T, mean, activations)


def fit_leace(activations: Activations, labels: Labels) -> Eraser:
    """The least-squares eraser: the smallest change after which labels and activations have no covariance.

    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> labels = (x[:, 1] > 0).long()
    >>> probe = train_probe(fit_leace(x, labels)(x), labels)
    >>> bool(probe.directions.abs().max() < 1e-4)  # nothing linear is left, so the probe only knows how frequent the classes are
    True
    """
    x, mean, cross = compute_moments(activations, labels)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    kept = values > values.max() * len(values) * torch.finfo(activations.dtype).eps
    root = values.clamp(min=0).sqrt()
    whiten = (vectors[:, kept] / root[kept]) @ vectors[:, kept].T  # inverse square root, zero where x never varies
    unwhiten = (vectors[:, kept] * root[kept]) @ vectors[:, kept].T
    basis = span(whiten @ cross)
    return finish(unwhiten @ basis @ basis.T @ whiten, mean, activations)


def compute_moments(activations: Activations, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
    """In float64: centred activations, their mean, and the covariance (d, class) with the one-hot labels."""
    n_classes = check_labels(activations, labels)
    x = activations.detach().double()
    mean = x.mean(dim=0)
    one_hot = torch.nn.functional.one_hot(labels.long(), n_classes).double()
    return x - mean, mean, (x - mean).T @ (one_hot - one_hot.mean(dim=0)) / len(x)


def span(columns: Float[Tensor, "d k"]) -> Float[Tensor, "d rank"]:
    """An orthonormal basis of the columns, as columns."""
    if not columns.numel():
        return columns
    U, S, _ = torch.linalg.svd(columns, full_matrices=False)
    return U[:, S.gt(1e-9 * S.max())]


def finish(M: Tensor, mean: Tensor, like: Tensor) -> Eraser:
    return Eraser(M.to(like.dtype), mean.to(like.dtype))
