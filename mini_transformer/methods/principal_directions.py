"""Principal and contrast directions: along which few directions do activations vary, and which tell two sets apart?

PCA finds the orthogonal directions of the largest variance, without labels. Contrast directions are found from pairs that
differ in one property only: either the mean difference, or the directions along which the differences of the pairs are
largest. Differences are not centred for that (which is PCA on each of them with both signs), as their mean is what is
looked for. PCA finds variance, not use: a variable that is loud and read by nobody comes first, and one that is used and quiet
late or, where variances are equal, mixed with others. A contrast holds everything that the pairs differ in, and where they
differ in two ways the largest difference need not be the mean one: good films and good food in the toy `style_grammar`
(seed 2) have directions of their own, and the largest difference between good and bad has cosine .00 with the mean one.
Sources: Hotelling 1933 on principal components; Zou et al. 2023 (2310.01405), section 3.1, on contrast; Marks and Tegmark 2023
(2310.06824) on the mean difference.

Checked against: scikit-learn's PCA, data of which the answer is known exactly, hand-set directions, and a variable that
nothing reads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import (
    Negative,
    Positive,
    find_axes,
    measure_rounding,
    meet,
    widen,
    without_autocast,
)
from mini_transformer.methods.probes import Activations, check_activations
from mini_transformer.tensors import copy_fields


@dataclass(frozen=True)
class PrincipalDirections:
    """Orthonormal rows by falling variance along them, and which share that is of all variance.

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
        """Coordinates along the directions, from the origin."""
        if activations.shape[-1:] != self.origin.shape:
            given = tuple(activations.shape)
            raise ValueError(
                f"activations are {given}, but the directions are of width {len(self.origin)}"
            )
        x, origin, directions = meet(activations, self.origin, self.directions)
        return ((x - origin) @ directions.T).to(activations.dtype)


def find_principal_directions(activations: Activations, k: int) -> PrincipalDirections:
    """The k directions of the largest variance around the mean; each with its largest coordinate (by size) positive.

    Variances are those of a sample (n - 1). ValueError for more directions than the rows vary along by more than the rounding
    of their dtype, column by column: beside a loud one a quiet one counts.

    >>> x = torch.tensor([[0.0, 1.0], [0.0, 5.0], [1.0, 3.0], [-1.0, 3.0]])
    >>> found = find_principal_directions(x, 2)
    >>> found.directions.tolist(), found.shares.tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [0.800000011920929, 0.20000000298023224])
    """
    check_activations(activations)
    x = activations.detach().double()
    directions, variances, shares = decompose(
        x - x.mean(dim=0), k, len(x) - 1, measure_rounding(activations)
    )
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return finish(directions * largest.sign(), variances, shares, x.mean(dim=0), activations)


@without_autocast()
def find_contrast_directions(
    positive: Positive, negative: Negative, k: int = 1
) -> PrincipalDirections:
    """The k directions along which row i of `positive` and row i of `negative` differ most; positive has the higher mean.

    ValueError for sets that are not pairs, and more directions than the differences span.

    >>> negative = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> positive = negative + torch.tensor([0.0, 2.0, 0.0])
    >>> find_contrast_directions(positive, negative).directions.round(decimals=4) + 0
    tensor([[0., 1., 0.]])
    """
    for name, x in (("positive", positive), ("negative", negative)):
        check_activations(x, f"{name} activations")
    if positive.shape != negative.shape:
        given = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ValueError(
            f"positive and negative activations are {given}, but must be pairs: row i beside row i"
        )
    difference = positive.detach().double() - negative.detach().to(positive.device).double()
    rounding = measure_rounding(torch.cat([positive, negative.to(positive)]))
    directions, variances, shares = decompose(difference, k, len(difference), rounding)
    towards = torch.where(directions @ difference.mean(dim=0) < 0, -1.0, 1.0).unsqueeze(1)
    return finish(
        directions * towards, variances, shares, torch.zeros_like(difference[0]), positive
    )


@without_autocast()
def find_mean_difference(positive: Positive, negative: Negative) -> Float[Tensor, "d"]:
    """The unit direction from the mean of `negative` to that of `positive`; the sets may differ in size.

    ValueError where the means are equal. `find_steering_vector` gives the difference itself, for a model and prompts.

    >>> find_mean_difference(torch.tensor([[4.0, 4.0], [2.0, 4.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([0.6000, 0.8000])
    """
    for name, x in (("positive", positive), ("negative", negative)):
        check_activations(x, f"{name} activations")
    if positive.shape[1] != negative.shape[1]:
        given = f"{positive.shape[1]} and {negative.shape[1]}"
        raise ValueError(
            f"positive and negative activations have width {given}, but must have the same"
        )
    means = [x.detach().to(positive.device).double().mean(dim=0) for x in (positive, negative)]
    difference = means[0] - means[1]
    rounding = measure_rounding(widen(torch.cat([positive, negative.to(positive)])))
    if not (difference.abs() > 8 * rounding).any():
        raise ValueError(
            "both sets have the same mean, so no direction leads from one to the other"
        )
    return (difference / difference.norm()).to(positive.dtype)


@without_autocast()
def decompose(
    rows: Float[Tensor, "n d"], k: int, freedom: int, rounding: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first k right singular vectors, their squared singular values over `freedom`, and these as shares of the sum.

    Rows vary along as many directions as are above the rounding of each column.
    """
    _, S, Vh = torch.linalg.svd(rows, full_matrices=False)
    rank = len(find_axes(rows, rounding)[0])
    if not 1 <= k <= rank:
        raise ValueError(
            f"k is {k}, but must be from 1 to {rank}: the {len(rows)} rows of width {rows.shape[1]} vary along no more directions"
        )
    return Vh[:k], S[:k] ** 2 / freedom, S[:k] ** 2 / (S**2).sum()


def finish(
    directions: Tensor, variances: Tensor, shares: Tensor, origin: Tensor, like: Tensor
) -> PrincipalDirections:
    dtype = widen(like[:0]).dtype
    return PrincipalDirections(*(x.to(dtype) for x in (directions, variances, shares, origin)))
