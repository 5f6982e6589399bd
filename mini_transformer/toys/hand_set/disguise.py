"""Hide a construction: the same function, weights that cannot be read off by eye.

A transformer without norms computes the same in any orthonormal basis of its residual stream and of
each head's inner space, and does not mind what it reads from directions that nobody writes, or
writes to directions that nobody reads. So the weights of a hand-set model, almost all zero, can be
made dense without changing a logit. (Compiled models are criticised for being as sparse as they
are: Gupta et al. 2024, 2407.14494.)
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.model import Transformer

SPARE = (
    32  # directions that are written and never read, and as many that are read and never written
)


def draw_rotation(size: int, generator: torch.Generator) -> Float[Tensor, "size size"]:
    """Draw a random orthogonal matrix, in double precision.

    >>> q = draw_rotation(5, torch.Generator().manual_seed(0))
    >>> torch.allclose(q @ q.T, torch.eye(5, dtype=q.dtype))
    True
    """
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


@torch.no_grad()
def rotate_model(
    model: Transformer, generator: torch.Generator
) -> tuple[Transformer, Float[Tensor, "d_model rotated"]]:
    """Write the same function with dense weights, in a turned residual stream.

    Also return the map that takes a direction (row vector) of the old stream to the new. Takes an
    attention-only model without norms, biases or tying; ValueError otherwise.

    >>> from mini_transformer.toys.hand_set import induction_by_hand
    >>> plain = induction_by_hand.build_model()
    >>> rotated, turn = rotate_model(plain, torch.Generator().manual_seed(0))
    >>> tokens = torch.tensor([[0, 3, 1, 4, 3]])
    >>> torch.allclose(plain(tokens), rotated(tokens), atol=1e-3)
    True
    """
    c = model.config
    if c.norm != "none" or c.biases or c.tied or c.d_mlp or c.positions_to == "qk":
        raise ValueError(
            "only attention-only models without norm, biases, tying, "
            f"qk-positions can be rotated, not {c}"
        )
    turn = draw_rotation(c.d_model + 2 * SPARE, generator)
    stream, unread, unwritten = turn.split([c.d_model, SPARE, SPARE])
    rotated = Transformer(dataclasses.replace(c, d_model=len(turn)))

    def noise(*shape: int, like: Tensor) -> Tensor:
        return like.double().std() * torch.randn(shape, generator=generator, dtype=torch.float64)

    # (..., d, h): what stood at a direction now stands at its image
    def read(weight: Tensor) -> Tensor:
        *heads, _, width = weight.shape
        return stream.T @ weight.double() + unwritten.T @ noise(*heads, SPARE, width, like=weight)

    def write(weight: Tensor) -> Tensor:  # (..., h, d)
        return weight.double() @ stream + noise(*weight.shape[:-1], SPARE, like=weight) @ unread

    rotated.W_E.copy_(write(model.W_E))
    rotated.W_pos.copy_(write(model.W_pos))
    rotated.W_U.copy_(read(model.W_U))
    for old, new in zip(model.blocks, rotated.blocks, strict=True):
        turns = torch.stack([draw_rotation(c.d_head, generator) for _ in range(2 * c.n_heads)])
        meet, move = turns.split(c.n_heads)  # one for queries and keys, one for values
        new.attn.W_Q.copy_(read(old.attn.W_Q) @ meet)
        new.attn.W_K.copy_(read(old.attn.W_K) @ meet)
        new.attn.W_V.copy_(read(old.attn.W_V) @ move)
        new.attn.W_O.copy_(move.mT @ write(old.attn.W_O))
    return rotated, stream.float()
