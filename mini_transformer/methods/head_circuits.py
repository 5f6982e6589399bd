"""What a head does, read off its weights: the QK circuit says who attends to whom, the OV circuit what is then written.

Both are bilinear in the stream, so in terms of tokens each is a table: scores (query, key) and logits (token, out). The inside
of a head may turn freely without any effect: read these tables, not W_Q or W_V. Weights are read through the norms: gain, bias and
centring are in the tables, as if `weights.fold_norms` had been called. Their division is not, since it depends on the whole stream:
with norms, an entry is still to be divided by the scale of each stream that it comes from. And a table holds one path: what all
other components wrote, and what later ones make of it, is left out.
Sources: Elhage et al. 2021, "Splitting Attention Head terms into Query-Key and Output-Value Circuits" and "Detecting Copying
Behavior"; Millidge & Black 2022 on singular vectors in tokens.

Checked against: the scores and logits of attention-only models, written as a sum over all paths, eigenvalues of the whole OV table, folded
models, hand-set heads, and TransformerLens 3.9 on the same weights.
"""

import difflib
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import widen, without_autocast
from mini_transformer.model import Norm, Transformer


@torch.no_grad()
@without_autocast()
def read_qk(
    model: Transformer, head: str, query: str = "token", key: str = "token"
) -> Float[Tensor, "query key"]:
    """The score that each query gives to each key, in units of `hook_attn_scores`, for a head like `a1.h0`.

    `query` and `key` are parts of the stream: every "token" (d_vocab rows), every "position" (n_ctx), the "bias" (one row, zero in a
    model without), or what an earlier head, "a0.h0", writes when it attends to each token (d_vocab). In the first layer of a model
    without norm the nine tables of the first three add up to the scores. Half precision is computed and returned in float32,
    here and below. KeyError for a head or part that does not exist, ValueError for positions in a model without.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> previous = read_qk(case.model, "a0.h0", query="position", key="position")
    >>> previous[5].argmax().item(), previous[5].max().item()
    (4, 20.0)
    >>> torch.equal(read_qk(case.model, "a1.h0", key="a0.h0"), 20 * torch.eye(16))  # the token before is the query's
    True
    """
    layer, index = find_head(model, head)
    rows = read_rows(model, layer, "Q", query)[index], read_rows(model, layer, "K", key)[index]
    return rows[0] @ rows[1].T / model.config.attn_scale


@torch.no_grad()
@without_autocast()
def read_ov(model: Transformer, head: str, source: str = "token") -> Float[Tensor, "source out"]:
    """What the head adds straight to each logit when it attends to each "token", "position", or the "bias" (b_V).

    With an earlier head as source, this is the virtual head that both make together. Sources and errors are those of `read_qk`;
    ValueError also for positions that values never see.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> copies = read_ov(case.model, "a1.h0")
    >>> torch.equal(copies, 20 * torch.eye(16))
    True
    """
    layer, index = find_head(model, head)
    written = read_rows(model, layer, "V", source)[index] @ widen(
        model.blocks[layer].attn.W_O[index]
    )
    return written @ read_through(model.ln_final, model.W_U)


@torch.no_grad()
@without_autocast()
def score_copying(
    model: Transformer, tokens: Sequence[int] | None = None
) -> Float[Tensor, "layer head"]:
    """Per head, the sum of the eigenvalues of its OV table over the sum of their sizes: 1 for a head that copies.

    From -1 to 1. The sum is the trace, what all tokens do for themselves, so a positive score says "copies on average", not that
    every token raises itself, nor that the copy matters: the previous-token heads of the shipped `induction` models score .81 to
    .86, yet no answer is lost when their edges to the logits are cut. A head that writes nothing scores 0. `tokens` restricts
    the table to some tokens, each counted once; ValueError if they are not both read and predicted.

    >>> from mini_transformer import toys
    >>> score_copying(toys.load("induction_by_hand").model)
    tensor([[0., 0.],
            [1., 0.]])
    """
    config = model.config
    scores = model.W_E.new_zeros(config.n_layers, config.n_heads, dtype=torch.float64)
    if tokens is None and config.d_vocab != config.d_vocab_out:
        raise ValueError(
            f"{config.d_vocab} tokens are read and {config.d_vocab_out} predicted: say which `tokens` are both"
        )
    chosen = (
        list(range(config.d_vocab))
        if tokens is None
        else list(dict.fromkeys(int(token) for token in tokens))
    )
    if not chosen or min(chosen) < 0 or max(chosen) >= min(config.d_vocab, config.d_vocab_out):
        raise ValueError(
            f"tokens are {chosen[:9]}, but must be 0 to {min(config.d_vocab, config.d_vocab_out) - 1}"
        )
    W_U = read_through(model.ln_final, model.W_U)[:, chosen].double()
    for layer, block in enumerate(model.blocks):
        values, W_O = (
            read_rows(model, layer, "V", "token")[:, chosen].double(),
            block.attn.W_O.double(),
        )
        # values @ (W_O W_U), one row and column per token, and (W_O W_U) @ values share all eigenvalues but zeros.
        eigenvalues = torch.linalg.eigvals(W_O @ W_U @ values)
        sizes = eigenvalues.abs().sum(dim=-1)
        rounding = 1e-6 * math.prod(W.square().sum(dim=(-2, -1)).sqrt() for W in (W_O, W_U, values))
        scores[layer] = torch.where(sizes > rounding, eigenvalues.real.sum(dim=-1) / sizes, 0.0)
    return scores.to(widen(model.W_E).dtype)


class Singular(NamedTuple):
    """A circuit as a sum of strengths[i] * outer(left[i], right[i]), in tokens; strongest in the stream first."""

    strengths: Float[Tensor, "rank"]
    left: Float[Tensor, "rank token"]
    right: Float[Tensor, "rank out"]


@torch.no_grad()
@without_autocast()
def split_circuit(model: Transformer, head: str, circuit: Literal["qk", "ov"] = "ov") -> Singular:
    """The circuit of one head as a sum of parts that each read one direction of the stream and write (or match) one.

    A singular value decomposition of W_V W_O, or W_Q W_K^T / attn_scale, whose vectors are shown in tokens: left is what the
    embedding has along the direction read (OV: the token attended to; QK: the query), right what the other direction does to the
    logits (OV) or has of the key (QK). So `left[0].topk(5).indices` are the tokens that part 0 reads most. The parts add up to
    `read_ov` or `read_qk`. Signs are such that the largest entry of `left` is positive; parts of equal strength may be mixed.
    KeyError for a head that does not exist.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, n_heads=4))
    >>> strengths, left, right = split_circuit(model, "a0.h3")
    >>> torch.allclose(left.T * strengths @ right, read_ov(model, "a0.h3"), atol=1e-5)
    True
    """
    if circuit not in ("qk", "ov"):
        raise ValueError(f"circuit is {circuit!r}, but must be 'qk' or 'ov'")
    layer, index = find_head(model, head)
    attn, norm = model.blocks[layer].attn, model.blocks[layer].ln1
    if circuit == "ov":
        reads, writes = read_through(norm, attn.W_V[index]), widen(attn.W_O[index]).T
        out = read_through(model.ln_final, model.W_U).T
    else:
        reads, writes = (
            read_through(norm, W[index])
            for W in (attn.W_Q, widen(attn.W_K) / model.config.attn_scale)
        )
        out = widen(model.W_E)
    (left, inner), (right, outer) = (
        torch.linalg.qr(reads),
        torch.linalg.qr(writes),
    )  # the rest is d_head by d_head
    u, strengths, v = torch.linalg.svd(inner @ outer.T)
    left, right = (widen(model.W_E) @ left @ u).T, (out @ right @ v.T).T
    turned = left.gather(1, left.abs().argmax(dim=1, keepdim=True)) < 0
    return Singular(strengths, torch.where(turned, -left, left), torch.where(turned, -right, right))


def find_head(model: Transformer, head: str) -> tuple[int, int]:
    """Layer and index of a head by its name; KeyError with the nearest name if there is none."""
    c = model.config
    known = {
        f"a{layer}.h{index}": (layer, index)
        for layer in range(c.n_layers)
        for index in range(c.n_heads)
    }
    if head not in known:
        nearest = difflib.get_close_matches(str(head), known, n=1, cutoff=0.0)
        raise KeyError(
            f"no head is called {head!r}; nearest: {nearest[0] if nearest else 'none, no layers'}"
        )
    return known[head]


def read_rows(
    model: Transformer, layer: int, part: str, source: str
) -> Float[Tensor, "head source d_head"]:
    """What q, k or v of every head in a layer becomes when the stream holds one row of `source` alone, at scale 1."""
    block, config = model.blocks[layer], model.config
    W, b = widen(getattr(block.attn, f"W_{part}")), getattr(block.attn, f"b_{part}")
    if source == "token":
        return widen(model.W_E) @ read_through(block.ln1, W)
    if source == "bias":
        own = W.new_zeros(len(W), W.shape[2]) if b is None else widen(b)
        return (
            own if block.ln1 is None or block.ln1.b is None else own + widen(block.ln1.b) @ W
        ).unsqueeze(1)
    if source == "position":
        if config.positions == "none" or (config.positions_to == "qk" and part == "V"):
            where = "are none" if config.positions == "none" else "go to queries and keys only"
            raise ValueError(
                f"the source is 'position', but positions {where} in this model: take 'token' or 'bias'"
            )
        return widen(model.W_pos) @ (
            W if config.positions_to == "qk" else read_through(block.ln1, W)
        )
    if source not in [
        f"a{earlier}.h{index}" for earlier in range(layer) for index in range(config.n_heads)
    ]:
        raise KeyError(
            f"no source is called {source!r}: take 'token', 'position', 'bias' or a head of an earlier layer"
        )
    earlier, index = find_head(model, source)
    written = read_rows(model, earlier, "V", "token")[index] @ widen(
        model.blocks[earlier].attn.W_O[index]
    )
    return written @ read_through(block.ln1, W)


def read_through(
    norm: Norm | None, W: Float[Tensor, "*head d_model out"]
) -> Float[Tensor, "*head d_model out"]:
    """Weights that read a norm's output, as weights that read the stream: gain and centring included, division not.

    In float32 at least; without a norm they are the weights themselves, not a copy.
    """
    W = widen(W)
    if norm is None:
        return W
    W = widen(norm.w)[:, None] * W
    return W - W.mean(dim=-2, keepdim=True) if norm.centred else W
