"""Composition scores: how much of what one head writes a later head is built to read.

The score is the Frobenius norm of the product of the two heads' circuits, over the product of their
norms. It is 0 if nothing is read and at most 1; it is 1 / sqrt(r) if the heads fit perfectly along
r directions of equal strength. Two random heads score about 1 / sqrt(d_model), not 0: compare
`score_random_composition`.

A score says that two heads could talk, not that they do: directions that nothing writes, or nothing
reads, count like all others. In `induction_rotated` a decoy that carries no token scores .137 with
the matching head, and random heads .081. `path_patching` tells them apart. Weights are read through
the norms, as in `head_circuits`.
Sources: Elhage et al. 2021, "Three Kinds of Composition" and "Analyzing a Two-Layer Model".
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.numerics import draw_normal, find_scale, widen, without_autocast
from mini_transformer.methods.weights.norms import read_through
from mini_transformer.model import Transformer

__all__ = ["score_composition", "score_random_composition"]

Factors = tuple[Float[Tensor, "head d_model d_head"], Float[Tensor, "head d_head d_model"]]


@torch.no_grad()
@without_autocast()
def score_composition(
    model: Transformer, part: Literal["q", "k", "v"]
) -> Float[Tensor, "layer head reader_layer reader_head"]:
    """Score every head with every head of a later layer, for its queries, keys or values.

    The score is 0 where the reader is not in a later layer, and for a head with weights of zero.
    No (d_model, d_model) circuit is written out: products are of width d_head. Half precision is
    computed and returned in float32. ValueError for another part.

    >>> from mini_transformer import toys
    >>> scores = score_composition(toys.load("induction_by_hand").model, "k")
    >>> scores[0, :, 1]
    tensor([[0.2500, 0.0000],
            [0.0000, 0.0000]])
    """
    if part not in ("q", "k", "v"):
        raise ValueError(f"part is {part!r}, but a head is read by 'q', 'k' or 'v'")
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    scores = widen(model.W_E).new_zeros(n_layers, n_heads, n_layers, n_heads)
    for layer, block in enumerate(model.blocks):
        Q, K, V = (
            read_through(block.ln1, W) for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V)
        )
        reader = {"q": (Q, K.mT), "k": (K, Q.mT), "v": (V, block.attn.W_O)}[part]
        for earlier, before in enumerate(model.blocks[:layer]):
            writer = read_through(before.ln1, before.attn.W_V), before.attn.W_O
            scores[earlier, :, layer] = compare(writer, reader)
    return scores


@torch.no_grad()
@without_autocast()
def score_random_composition(model: Transformer, draws: int = 16, seed: int = 0) -> float:
    """Average the scores of `draws` random writers with as many random readers.

    Their weights are Gaussian and have this model's shapes. One number holds for q, k and v, as
    random circuits are alike, and it is the same in every dtype. `seed` starts an own generator.
    ValueError without draws.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=64, n_layers=2, n_heads=4))
    >>> round(score_random_composition(model), 3), 1 / 64**0.5
    (0.125, 0.125)
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}, but must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    d, h = model.config.d_model, model.config.d_head
    V, O_, A, B = (
        draw_normal(draws, d, h, generator=generator, like=widen(model.W_E)) for _ in range(4)
    )
    return compare((V, O_.mT), (A, B.mT)).mean().item()


def compare(writer: Factors, reader: Factors) -> Float[Tensor, "writer reader"]:
    """Compute |VO AB| / (|VO| |AB|) for each writer (V, O) and each reader (A, B).

    The norms are Frobenius norms. Orthonormal columns do not change a norm, so QR shrinks the outer
    factors V and B to d_head columns. Each factor is first brought to the size of 1, as products of
    four small ones would vanish.
    """
    (V, O_), (A, B) = (
        [widen(W) / find_scale(widen(W), dim=(1, 2)) for W in pair] for pair in (writer, reader)
    )
    left = torch.linalg.qr(V).R  # n h h
    right = torch.linalg.qr(B.mT).R.mT  # n h h
    met = torch.einsum("whd,rdk->wrhk", O_, A)
    both = torch.linalg.matrix_norm(left.unsqueeze(1) @ met @ right)
    alone = torch.outer(
        torch.linalg.matrix_norm(left @ torch.linalg.qr(O_.mT).R.mT),
        torch.linalg.matrix_norm(torch.linalg.qr(A).R @ right),
    )
    return both / alone.clamp(min=torch.finfo(alone.dtype).tiny)
