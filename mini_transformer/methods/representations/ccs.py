"""Contrast-consistent search: find "true" without labels, from what pairs disagree on.

A statement and its negation must disagree on what is true. Each set (statements, negations) is
centred and scaled by itself, so that which of the two it is cannot be read. Then p(x) = sigmoid(w
x) is fitted to be consistent, p(x+) = 1 - p(x-), and sure of itself: the loss is (p(x+) + p(x-) -
1)^2 + min(p(x+), p(x-))^2. The published p has a bias; here it is zero, since both sets are
centred. Anything that a pair disagrees on satisfies this as well as truth does, so look at what was
found; and a sign is not determined.
Sources: Burns et al. 2022 (2212.03827), section 2.2; Farquhar et al. 2023 (2312.10029) on what else
it finds.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.methods.arguments import Negative, Positive, check_activations
from mini_transformer.methods.descent import descend
from mini_transformer.methods.numerics import check_gradients, measure_rounding, without_autocast
from mini_transformer.tensors import make_ordinary

__all__ = ["answer_pairs", "fit_ccs"]


@without_autocast()
def fit_ccs(
    positive: Positive, negative: Negative, tries: int = 4, steps: int = 300, seed: int = 0
) -> Float[Tensor, "d"]:
    """Fit the direction w along which pairs disagree most consistently; rows are pairs.

    The best of several tries. Its sign is arbitrary, its length says how sure it is. `answer_pairs`
    tells which of a pair it takes for true. ValueError for sets that are not pairs.

    >>> truth = torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> other = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    >>> positive = torch.cat([truth[:, None], other], dim=1)
    >>> negative = torch.cat([-truth[:, None], other], dim=1)
    >>> answers = answer_pairs(fit_ccs(positive, negative), positive, negative)
    >>> answers.tolist() in ([1, 0, 1, 0], [0, 1, 0, 1])
    True
    """
    check_gradients()
    first, second, rounding = normalize_pairs(positive, negative)
    if tries < 1:
        raise ValueError(f"tries is {tries}, but must be at least 1")
    if not ((first - second).abs() > 8 * rounding).any():
        raise ValueError(
            "positive and negative activations are the same once each set is centred and scaled: "
            "give pairs that differ"
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
    """Compute inconsistency plus lack of confidence, averaged over pairs."""
    p = (positive @ w.T).sigmoid()
    q = (negative @ w.T).sigmoid()
    return ((p + q - 1) ** 2 + torch.minimum(p, q) ** 2).mean(dim=0)


def answer_pairs(
    vector: Float[Tensor, "width"], positive: Positive, negative: Negative
) -> Integer[Tensor, "pair"]:
    """Answer 1 where the first of a pair scores higher along the vector, and else 0.

    >>> positive, negative = torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [2.0]])
    >>> answer_pairs(torch.tensor([1.0]), positive, negative)
    tensor([1, 0])
    """
    first, second, _ = normalize_pairs(positive, negative)
    if vector.shape != first.shape[1:]:
        raise ValueError(
            f"the vector is {tuple(vector.shape)}, but the activations are {tuple(positive.shape)}"
        )
    return ((first - second) @ vector.to(first) > 0).long()


def normalize_pairs(positive: Positive, negative: Negative) -> tuple[Tensor, Tensor, Tensor]:
    """Centre each set and scale it to unit variance per axis, in float64.

    Axes that vary by no more than the rounding of their dtype stay at zero. The third is that
    rounding, of both sets together, in the unit of each axis.
    """
    check_activations(positive, "positive activations")
    if positive.shape != negative.shape or len(positive) < 2:
        given = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ValueError(
            f"positive and negative activations are {given}, "
            "but must be pairs of one shape, at least two"
        )
    check_activations(negative, "negative activations")
    first, coarse = normalize(positive)
    second, other = normalize(negative.to(positive.device))
    return first, second, coarse + other


def normalize(activations: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "d"]]:
    """Centre and scale one set; also return the rounding of each axis in its new unit."""
    x = make_ordinary(activations.detach()).double()
    x = (x - x.mean(dim=0)) / measure_rounding(activations).to(x)
    spread = x.std(dim=0)
    return torch.where(spread > 1, x / spread, 0.0), 1 / spread.clamp(min=1)
