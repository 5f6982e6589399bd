"""Principal and contrast directions: what varies most, and what tells two sets apart.

PCA finds the orthogonal directions of the largest variance, without labels. Contrast directions
come from pairs that differ in one property only. They are either the mean difference, or the
directions along which the differences of the pairs are largest. Differences are not centred for
that (which is PCA on each of them with both signs), as their mean is what is looked for.

PCA finds variance, not use. A variable that is loud and read by nobody comes first; one that is
used and quiet comes late or, where variances are equal, mixed with others. A contrast holds
everything that the pairs differ in. Where they differ in two ways the largest difference need not
be the mean one: good films and good food in the toy `style_grammar` (seed 2) have directions of
their own, and the largest difference between good and bad has cosine .00 with the mean one.
Sources: Hotelling 1933 on principal components; Zou et al. 2023 (2310.01405), section 3.1, on
contrast; Marks and Tegmark 2023 (2310.06824) on the mean difference.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import Activations, Negative, Positive, check_activations
from mini_transformer.methods.numerics import (
    find_axes,
    measure_rounding,
    meet,
    widen,
    without_autocast,
)
from mini_transformer.tensors import copy_fields

__all__ = [
    "PrincipalDirections",
    "fit_contrast_directions",
    "fit_mean_difference",
    "fit_principal_directions",
]


@dataclass(frozen=True)
class PrincipalDirections:
    """Orthonormal rows by falling variance along them, and their shares of all variance.

    For contrasts "variance" is the mean square of the pairs' differences, and `origin` is zero.
    """

    directions: Float[Tensor, "k d"]
    variances: Float[Tensor, "k"]
    shares: Float[Tensor, "k"]
    origin: Float[Tensor, "d"]

    def __post_init__(self) -> None:
        copy_fields(self)

    @without_autocast()
    def project(self, activations: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch k"]:
        """Compute coordinates along the directions, from the origin."""
        if activations.shape[-1:] != self.origin.shape:
            given = f"activations are {tuple(activations.shape)}"
            raise ValueError(f"{given}, but the directions are of width {len(self.origin)}")
        x, origin, directions = meet(activations, self.origin, self.directions)
        return ((x - origin) @ directions.T).to(activations.dtype)


def fit_principal_directions(activations: Activations, k: int) -> PrincipalDirections:
    """Fit the k directions of the largest variance around the mean.

    Each has its largest coordinate (by size) positive. Variances are those of a sample (n - 1).
    ValueError for more directions than the rows vary along by more than the rounding of their
    dtype, column by column: beside a loud column a quiet one counts.

    >>> x = torch.tensor([[0.0, 1.0], [0.0, 5.0], [1.0, 3.0], [-1.0, 3.0]])
    >>> found = fit_principal_directions(x, 2)
    >>> found.directions.tolist(), found.shares.tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [0.800000011920929, 0.20000000298023224])
    """
    check_activations(activations)
    x = activations.detach().double()
    mean = x.mean(dim=0)
    found = decompose(x - mean, k, len(x) - 1, measure_rounding(activations))
    largest = found[0].gather(1, found[0].abs().argmax(dim=1, keepdim=True))
    return finish(found, largest.sign(), mean, activations)


@without_autocast()
def fit_contrast_directions(
    positive: Positive, negative: Negative, k: int = 1
) -> PrincipalDirections:
    """Fit the k directions along which row i of one set and row i of the other differ most.

    `positive` has the higher mean along each. ValueError for sets that are not pairs, and more
    directions than the differences span.

    >>> negative = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> positive = negative + torch.tensor([0.0, 2.0, 0.0])
    >>> fit_contrast_directions(positive, negative).directions.round(decimals=4) + 0
    tensor([[0., 1., 0.]])
    """
    check_sets(positive, negative)
    if positive.shape != negative.shape:
        given = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ValueError(
            f"positive and negative activations are {given}, but must be pairs: row i beside row i"
        )
    difference = positive.detach().double() - negative.detach().to(positive.device).double()
    rounding = measure_rounding(torch.cat([positive, negative.to(positive)]))
    found = decompose(difference, k, len(difference), rounding)
    towards = torch.where(found[0] @ difference.mean(dim=0) < 0, -1.0, 1.0).unsqueeze(1)
    return finish(found, towards, torch.zeros_like(difference[0]), positive)


@without_autocast()
def fit_mean_difference(positive: Positive, negative: Negative) -> Float[Tensor, "d"]:
    """Fit the unit vector from the mean of `negative` to that of `positive`.

    The sets may differ in size. ValueError where the means are equal. `fit_steering_vector` gives
    the difference itself, for a model and prompts.

    >>> fit_mean_difference(torch.tensor([[4.0, 4.0], [2.0, 4.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([0.6000, 0.8000])
    """
    check_sets(positive, negative)
    if positive.shape[1] != negative.shape[1]:
        given = f"{positive.shape[1]} and {negative.shape[1]}"
        raise ValueError(
            f"positive and negative activations have width {given}, but must have the same"
        )
    high, low = (x.detach().to(positive.device).double().mean(dim=0) for x in (positive, negative))
    difference = high - low
    rounding = measure_rounding(widen(torch.cat([positive, negative.to(positive)])))
    if not (difference.abs() > 8 * rounding).any():
        raise ValueError(
            "both sets have the same mean, so no direction leads from one to the other"
        )
    return (difference / difference.norm()).to(positive.dtype)


def check_sets(positive: Tensor, negative: Tensor) -> None:
    """Raise ValueError unless both sets are finite floats with rows and columns."""
    check_activations(positive, "positive activations")
    check_activations(negative, "negative activations")


@without_autocast()
def decompose(
    rows: Float[Tensor, "n d"], k: int, freedom: int, rounding: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the first k right singular vectors, the variances along them, and their shares.

    A variance is a squared singular value over `freedom`. Rows vary along as many directions as are
    above the rounding of each column.
    """
    _, S, Vh = torch.linalg.svd(rows, full_matrices=False)
    rank = len(find_axes(rows, rounding)[0])
    if not 1 <= k <= rank:
        given = f"k is {k}, but must be from 1 to {rank}"
        raise ValueError(
            f"{given}: the {len(rows)} rows of width {rows.shape[1]} vary along no more directions"
        )
    return Vh[:k], S[:k] ** 2 / freedom, S[:k] ** 2 / (S**2).sum()


def finish(
    found: tuple[Tensor, Tensor, Tensor], signs: Tensor, origin: Tensor, like: Tensor
) -> PrincipalDirections:
    """Turn directions by signs, and store all in the activations' dtype, float32 at least."""
    directions, variances, shares = found
    dtype = widen(like[:0]).dtype
    parts = (directions * signs, variances, shares, origin)
    return PrincipalDirections(*(part.to(dtype) for part in parts))
