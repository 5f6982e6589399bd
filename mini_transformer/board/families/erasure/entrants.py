"""Methods that erase a label: those of the package, and trivial ones to beat."""

from collections.abc import Callable

import torch
from torch import Tensor

from mini_transformer import methods
from mini_transformer.board.problem import Method
from mini_transformer.methods import Eraser

__all__ = ["ENTRANTS", "REFERENCES"]

ENTRANTS: dict[str, Method] = {
    "leace": methods.fit_leace,
    "inlp": methods.fit_inlp,
    "projection": methods.fit_projection,
}


def tell_apart(activations: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class means, and each coordinate's F statistic."""
    means = torch.stack([activations[labels == c].mean(dim=0) for c in labels.unique()])
    return means, means.var(dim=0) / (activations - means[labels]).square().mean(dim=0)


def flatten_coordinates(share: float) -> Method:
    """Make the method that flattens the coordinates that tell most, this share of them."""

    def flatten(activations: Tensor, labels: Tensor) -> Eraser:
        telling = tell_apart(activations, labels)[1]
        n = max(1, int(share * len(telling)))
        M = torch.diag((telling >= telling.topk(n).values[-1]).to(activations))
        return Eraser(M, activations.mean(dim=0))

    return flatten


def project_large(activations: Tensor, labels: Tensor) -> Eraser:
    """Project out the differences between means, with small coordinates set to zero."""
    means = tell_apart(activations, labels)[0]
    apart = means - means.mean(dim=0)
    large = torch.where(apart.abs() > apart.abs().median(), apart, 0.0)
    basis = torch.linalg.svd(large, full_matrices=False).Vh[: len(means) - 1]
    return Eraser(basis.T @ basis, activations.mean(dim=0))


def project_loudest(activations: Tensor, labels: Tensor) -> Eraser:
    """Project out as many of the first principal axes as there are differences."""
    mean = activations.mean(dim=0)
    axes = torch.linalg.svd(activations - mean, full_matrices=False).Vh[: int(labels.max())]
    return Eraser(axes.T @ axes, mean)


def erase_everything(activations: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the mean for every row."""
    mean = activations.mean(dim=0)
    return lambda x: mean.expand(len(x), -1)


REFERENCES: dict[str, Method] = {
    "nothing": lambda activations, labels: lambda x: x,
    "everything": erase_everything,
    "one_coordinate": flatten_coordinates(0.0),
    "half_the_coordinates": flatten_coordinates(0.5),
    "large_coordinates": project_large,
    "loudest_axis": project_loudest,
}
