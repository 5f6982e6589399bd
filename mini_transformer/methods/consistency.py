"""Contrast-consistent search: find "true" without a label, as what a statement and its negation must disagree on.

Each set (statements, their negations) is centred and scaled by itself, so that which of the two it is cannot be read. Then p(x) =
sigmoid(w x) is fitted to be consistent, p(x+) = 1 - p(x-), and sure of itself: the loss is (p(x+) + p(x-) - 1)^2 + min(p(x+),
p(x-))^2. The published p has a bias; here it is zero, since both sets are centred. Anything that a pair disagrees on satisfies
this as well as truth does, so look at what was found; and a sign is not determined.
Sources: Burns et al. 2022 (2212.03827), section 2.2; Farquhar et al. 2023 (2312.10029) on what else it finds.

Checked against: planted directions, and the same loss written out per pair.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import (
    Negative,
    Positive,
    check_gradients,
    make_ordinary,
    measure_rounding,
    without_autocast,
)
from mini_transformer.methods.descent import descend
from mini_transformer.methods.probes import check_activations


@without_autocast()
def find_consistent_direction(
    positive: Positive, negative: Negative, tries: int = 4, steps: int = 300, seed: int = 0
) -> Float[Tensor, "d"]:
    """The direction w of the best of several tries; rows are pairs. Its sign is arbitrary, its length says how sure it is.

    `answer_pairs` tells which of a pair it takes for true. ValueError for sets that are not pairs.

    >>> truth = torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> other = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    >>> positive, negative = torch.cat([truth[:, None], other], 1), torch.cat([-truth[:, None], other], 1)
    >>> answers = answer_pairs(find_consistent_direction(positive, negative), positive, negative)
    >>> answers.tolist() in ([1, 0, 1, 0], [0, 1, 0, 1])
    True
    """
    check_gradients()
    (first, second), rounding = normalise_pairs(positive, negative)
    if tries < 1:
        raise ValueError(f"tries is {tries}, but must be at least 1")
    if not ((first - second).abs() > 8 * (rounding[0] + rounding[1])).any():
        raise ValueError(
            "positive and negative activations are the same once each set is centred and scaled: give pairs that differ"
        )
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(
        tries, first.shape[1], generator=generator, dtype=torch.float64, device="cpu"
    ).to(first)
    w = (start / start.norm(dim=1, keepdim=True)).requires_grad_()
    descend(lambda step: compute_losses(w, first, second).sum(), [w], steps, 0.1)
    best = compute_losses(w, first, second).argmin()
    return w[best].detach().to(positive.dtype)


def compute_losses(
    w: Float[Tensor, "try d"], positive: Positive, negative: Negative
) -> Float[Tensor, "try"]:
    """Inconsistency plus lack of confidence, averaged over pairs."""
    p, q = (positive @ w.T).sigmoid(), (negative @ w.T).sigmoid()
    return ((p + q - 1) ** 2 + torch.minimum(p, q) ** 2).mean(dim=0)


def answer_pairs(direction: Float[Tensor, "d"], positive: Positive, negative: Negative) -> Tensor:
    """1 where the first of the pair scores higher along the direction, 0 where the second does.

    >>> answer_pairs(torch.tensor([1.0]), torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [2.0]])).tolist()
    [1, 0]
    """
    (first, second), _ = normalise_pairs(positive, negative)
    if direction.shape != first.shape[1:]:
        raise ValueError(
            f"the direction is {tuple(direction.shape)}, but the activations are {tuple(positive.shape)}"
        )
    return ((first - second) @ direction.to(first) > 0).long()


def normalise_pairs(positive: Positive, negative: Negative) -> tuple[list[Tensor], list[Tensor]]:
    """Each set centred, and scaled to unit variance per axis, in float64; and the rounding of an axis in that unit.

    Axes that vary by no more than the rounding of their dtype stay at zero.
    """
    check_activations(positive, "positive activations")
    if positive.shape != negative.shape or len(positive) < 2:
        given = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ValueError(
            f"positive and negative activations are {given}, but must be pairs of one shape, at least two"
        )
    sets, roundings = [], []
    for activations in (positive, negative):
        x = make_ordinary(activations.detach().to(positive.device)).double()
        rounding = measure_rounding(activations).to(x)
        x = (x - x.mean(dim=0)) / rounding
        spread = x.std(dim=0)
        sets.append(torch.where(spread > 1, x / spread, 0.0))
        roundings.append(1 / spread.clamp(min=1))
    return sets, roundings
