"""Dictionaries whose codes are found one after the other, by matching pursuit.

The code of a row is not computed by one layer: the latent that meets the row best is taken out of
it, then the one that meets the rest best, and so on. Such an encoder explains more variance than
any other of as many codes, since it may fit what superposition leaves over. On planted features
that is its fault: it has the best reconstruction and the worst directions.
Sources: Mallat & Zhang 1993 on matching pursuit; Costa et al. 2025 (2506.03093) on training through
it; Chanin et al. 2026 (2602.14687) on what it finds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import Activations
from mini_transformer.methods.numerics import meet, widen, without_autocast
from mini_transformer.methods.representations.draft_training import (
    check_training,
    standardize,
    train_draft,
)
from mini_transformer.methods.representations.sparse_losses import Draft
from mini_transformer.tensors import copy_fields

__all__ = ["PursuitDictionary", "train_pursuit"]


@dataclass(frozen=True)
class PursuitDictionary:
    """Unit directions, one per latent, with at most `k` codes per row, found by pursuit."""

    W_dec: Float[Tensor, "latent d"]
    b_dec: Float[Tensor, "d"]
    k: int

    def __post_init__(self) -> None:
        copy_fields(self)

    @without_autocast()
    def encode(self, activations: Float[Tensor, "n d"]) -> Float[Tensor, "n latent"]:
        """Find the codes of activations."""
        x, W_dec, b_dec = meet(activations, self.W_dec, self.b_dec)
        return pursue(x - b_dec, W_dec, self.k)[0].to(activations.dtype)

    @without_autocast()
    def decode(self, codes: Float[Tensor, "n latent"]) -> Float[Tensor, "n d"]:
        """Rebuild activations from codes."""
        wide, W_dec, b_dec = meet(codes, self.W_dec, self.b_dec)
        return (wide @ W_dec + b_dec).to(codes.dtype)


def pursue(
    x: Float[Tensor, "n d"], directions: Float[Tensor, "latent d"], k: int
) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n d"]]:
    """Take the best of these unit directions out of each row, k times; return codes and the rest.

    >>> codes, rest = pursue(torch.tensor([[1.0, 3.0]]), torch.eye(2), k=1)
    >>> codes, rest
    (tensor([[0., 3.]]), tensor([[1., 0.]]))
    """
    codes = x.new_zeros(len(x), len(directions))
    for _ in range(k):
        best, which = (x @ directions.T).max(dim=1)
        best = best.relu()[:, None]
        codes = codes.scatter_add(1, which[:, None], best)
        x = x - best * directions[which]
    return codes, x


@without_autocast()
def train_pursuit(
    activations: Activations,
    n_latents: int,
    k: int = 4,
    steps: int = 1000,
    batch: int = 512,
    lr: float | int = 3e-3,
    seed: int = 0,
) -> PursuitDictionary:
    """Train directions by the squared error that pursuit of `k` codes leaves.

    ValueError for impossible sizes.

    >>> codes = (torch.rand(1000, 6, generator=torch.Generator().manual_seed(0)) - 0.8).relu()
    >>> found = train_pursuit(codes, n_latents=20, k=3, steps=100)
    >>> error = found.decode(found.encode(codes)) - codes
    >>> bool(error.square().sum() < 0.2 * codes.square().sum())
    True
    """
    check_training(activations, activations, n_latents, "topk", k, 0.0, batch, ())
    x, mean, scale = standardize(activations)
    d = x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    draft = Draft.start(d, d, n_latents, (d,), k, 0.0, generator, x.device)
    parameters = [draft.W_dec.requires_grad_(), draft.b_dec.requires_grad_()]
    train_draft(draft, x, x, lose_pursuit, parameters, steps, batch, lr, generator)
    dtype = widen(activations[:0]).dtype
    b_dec = draft.b_dec.detach() * scale + mean
    return PursuitDictionary(draft.W_dec.detach().to(dtype), b_dec.to(dtype), k)


def lose_pursuit(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Pay for what pursuit leaves over."""
    codes, rest = pursue(x - draft.b_dec, draft.W_dec, draft.k)
    return rest.square().sum(dim=1).mean(), codes
