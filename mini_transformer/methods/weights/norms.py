"""Weights on both sides of a norm, as the stream before it sees them.

A norm centres (LayerNorm), divides by a scale, and multiplies by its gain. Centring and gain are
the same for every stream, so they can be read as part of the weights. The scale is not: it stays
out.
"""

from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.numerics import widen
from mini_transformer.model import Norm

__all__ = ["centre", "read_through"]


def read_through(
    norm: Norm | None, W: Float[Tensor, "*head d_model out"]
) -> Float[Tensor, "*head d_model out"]:
    """Turn weights that read a norm's output into weights that read the stream before it.

    In float32 at least. Without a norm they are the weights themselves, not a copy.
    """
    W = widen(W)
    if norm is None:
        return W
    W = widen(norm.w)[:, None] * W
    return W - W.mean(dim=-2, keepdim=True) if norm.centred else W


def centre(norm: Norm | None, rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    """Take off each row's mean if the norm is a LayerNorm, which does not see it."""
    return rows - rows.mean(dim=1, keepdim=True) if norm is not None and norm.centred else rows
