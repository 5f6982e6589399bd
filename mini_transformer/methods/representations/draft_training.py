"""Train the weights of a dictionary, whatever its codes are: what all kinds share.

The data is standardised first, so that a penalty and a learning rate mean the same in every unit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mini_transformer.methods.arguments import check_activations
from mini_transformer.methods.descent import descend
from mini_transformer.methods.numerics import find_scale, widen
from mini_transformer.methods.representations.sparse_losses import LOSSES, Draft, Loss
from mini_transformer.tensors import make_ordinary

__all__ = ["check_training", "standardize", "train_draft"]

RESTARTS = 10  # checks for dead latents in a run; none after the sixth


def train_draft(
    draft: Draft,
    x: Tensor,
    y: Tensor,
    compute_loss: Loss,
    parameters: list[Tensor],
    steps: int,
    batch: int,
    lr: float | int,
    generator: torch.Generator,
) -> None:
    """Descend on the loss of random batches; restart dead latents ten times in a run."""
    fired = torch.zeros(len(draft.W_dec), dtype=torch.bool, device=x.device)
    every = max(1, steps // RESTARTS)

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(x), (batch,), generator=generator, device="cpu").to(x.device)
        value, codes = compute_loss(draft, x[rows], y[rows])
        fired.logical_or_((codes.detach() > 0).any(dim=0))
        return value

    def keep_up(step: int) -> None:
        draft.W_dec /= draft.W_dec.norm(dim=1, keepdim=True).clamp(min=1e-9)
        if (step + 1) % every == 0:
            if step < 0.6 * steps:
                draft.restart(~fired, x, y, compute_loss, generator)
            fired.zero_()

    descend(loss, parameters, steps, lr, keep_up)


def standardize(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre and scale rows, so that learning rates and penalties mean the same anywhere.

    Returns them in float32, their mean, and the scale: the root of the mean squared distance to the
    mean, or 1 where the values differ by no more than rounding.
    """
    values = widen(make_ordinary(values.detach()))
    same = values.eq(values[:1]).all(dim=0)
    mean = torch.where(same, values[0], values.mean(dim=0))  # a sum of constants is rounded
    unit = find_scale(values - mean, dim=(0, 1))
    scale = ((values - mean) / unit).square().sum(dim=1).mean().sqrt() * unit[0, 0]
    rounding = 4 * torch.finfo(values.dtype).eps * mean.norm()
    scale = torch.where(scale > rounding, scale, 1.0)
    return ((values - mean) / scale).float(), mean, scale


def check_training(
    x: Tensor,
    y: Tensor,
    n: int,
    architecture: str,
    k: int,
    penalty: float | int,
    batch: int,
    widths: Sequence[int],
) -> None:
    """Raise ValueError for what cannot be trained."""
    check_activations(x)
    check_activations(y, "outputs")
    if len(x) != len(y):
        raise ValueError(f"there are {len(x)} activations and {len(y)} outputs, but each needs one")
    if architecture not in LOSSES:
        known = ", ".join(LOSSES)
        raise ValueError(f"architecture is {architecture!r}, but must be one of: {known}")
    if n < 1 or not 1 <= k <= n:
        raise ValueError(f"n_latents is {n} and k is {k}, but k must be from 1 to n_latents")
    if not penalty >= 0 or batch < 1:
        raise ValueError(f"penalty is {penalty} and batch {batch}, but must be at least 0 and 1")
    if widths and sum(widths) != y.shape[1]:
        raise ValueError(
            f"widths are {tuple(widths)}, but must add up to the outputs' width {y.shape[1]}"
        )
