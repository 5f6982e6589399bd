"""What a head's weights say: who attends to whom (QK), and what it then writes (OV).

Both circuits are bilinear in the stream, so in terms of tokens each is a table: scores (query, key)
and logits (token, out). The inside of a head may turn freely without any effect: read these tables,
not W_Q or W_V. Weights are read through the norms: gain, bias and centring are in the tables, as if
`weights.fold_norms` had been called. Their division is not, since it depends on the whole stream:
with norms, an entry is still to be divided by the scale of each stream that it comes from. And a
table holds one path: what all other components wrote, and what later ones make of it, is left out.
Sources: Elhage et al. 2021, "Splitting Attention Head terms into Query-Key and Output-Value
Circuits" and "Detecting Copying Behavior"; Millidge & Black 2022 on singular vectors in tokens.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.numerics import widen, without_autocast
from mini_transformer.methods.weights.norms import read_through
from mini_transformer.model import Transformer
from mini_transformer.nearest import find_nearest

__all__ = ["Singular", "read_ov", "read_qk", "score_copying", "split_circuit"]


@torch.no_grad()
@without_autocast()
def read_qk(
    model: Transformer, head: str, query: str = "token", key: str = "token"
) -> Float[Tensor, "query key"]:
    """Read the score that each query gives to each key, for a head like `a1.h0`.

    Scores are in units of `hook_attn_scores`. `query` and `key` are parts of the stream: every
    "token" (d_vocab rows), every "position" (n_ctx), the "bias" (one row, zero in a model without),
    or what an earlier head, "a0.h0", writes when it attends to each token (d_vocab). In the first
    layer of a model without norm the nine tables of the first three add up to the scores. Half
    precision is computed and returned in float32, here and below. KeyError for a head or part that
    does not exist, ValueError for positions in a model without.

    >>> from mini_transformer import toys
    >>> model = toys.load("induction_by_hand").model
    >>> previous = read_qk(model, "a0.h0", query="position", key="position")
    >>> previous[5].argmax().item(), previous[5].max().item()
    (4, 20.0)
    >>> match = read_qk(model, "a1.h0", key="a0.h0")  # the token before is the query's
    >>> torch.equal(match, 20 * torch.eye(16))
    True
    """
    layer, index = find_head(model, head)
    queries = read_rows(model, layer, "Q", query)[index]
    keys = read_rows(model, layer, "K", key)[index]
    return queries @ keys.T / model.config.attn_scale


@torch.no_grad()
@without_autocast()
def read_ov(model: Transformer, head: str, attended: str = "token") -> Float[Tensor, "source out"]:
    """Read what the head adds straight to each logit when it attends to each token.

    `attended` may also be another part of the stream: "position", "bias" (b_V) or an earlier head,
    as in `read_qk`. With an earlier head the table is that of the virtual head that both make
    together. Errors are those of `read_qk`; ValueError also for positions that values never see.

    >>> from mini_transformer import toys
    >>> copies = read_ov(toys.load("induction_by_hand").model, "a1.h0")
    >>> torch.equal(copies, 20 * torch.eye(16))
    True
    """
    layer, index = find_head(model, head)
    values = read_rows(model, layer, "V", attended)[index]
    written = values @ widen(model.blocks[layer].attn.W_O[index])
    return written @ read_through(model.ln_final, model.W_U)


@torch.no_grad()
@without_autocast()
def score_copying(
    model: Transformer, tokens: Sequence[int] | None = None
) -> Float[Tensor, "layer head"]:
    """Score how far each head copies: 1 where all eigenvalues of its OV table are positive.

    The score is the sum of the eigenvalues over the sum of their sizes, from -1 to 1. The sum is
    the trace, what all tokens do for themselves, so a positive score says "copies on average", not
    that every token raises itself, nor that the copy matters: the previous-token heads of the
    shipped `induction` models score .81 to .86, yet no answer is lost when their edges to the
    logits are cut. A head that writes nothing scores 0. `tokens` restricts the table to some
    tokens, each counted once; ValueError if they are not both read and predicted.

    >>> from mini_transformer import toys
    >>> score_copying(toys.load("induction_by_hand").model)
    tensor([[0., 0.],
            [1., 0.]])
    """
    chosen = choose_tokens(model, tokens)
    W_U = read_through(model.ln_final, model.W_U)[:, chosen].double()
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    scores = W_U.new_zeros(n_layers, n_heads)
    for layer, block in enumerate(model.blocks):
        values = read_rows(model, layer, "V", "token")[:, chosen].double()
        W_O = block.attn.W_O.double()
        # values @ (W_O W_U), one row and column per token, and (W_O W_U) @ values share all
        # eigenvalues but zeros.
        eigenvalues = torch.linalg.eigvals(W_O @ W_U @ values)
        sizes = eigenvalues.abs().sum(dim=-1)
        rounding = 1e-6 * math.prod(W.square().sum(dim=(-2, -1)).sqrt() for W in (W_O, W_U, values))
        scores[layer] = torch.where(sizes > rounding, eigenvalues.real.sum(dim=-1) / sizes, 0.0)
    return scores.to(widen(model.W_E).dtype)


def choose_tokens(model: Transformer, tokens: Sequence[int] | None) -> list[int]:
    """List the tokens to score, each once; ValueError if they are not both read and predicted."""
    read, predicted = model.config.d_vocab, model.config.d_vocab_out
    if tokens is None:
        if read != predicted:
            given = f"{read} tokens are read and {predicted} predicted"
            raise ValueError(f"{given}: say which `tokens` are both")
        tokens = range(read)
    chosen = list(dict.fromkeys(int(token) for token in tokens))
    if not chosen or min(chosen) < 0 or max(chosen) >= min(read, predicted):
        raise ValueError(f"tokens are {chosen[:9]}, but must be 0 to {min(read, predicted) - 1}")
    return chosen


class Singular(NamedTuple):
    """A circuit in tokens, as a sum of strengths[i] * outer(left[i], right[i]).

    The part that is strongest in the stream comes first.
    """

    strengths: Float[Tensor, "rank"]
    left: Float[Tensor, "rank token"]
    right: Float[Tensor, "rank out"]


@torch.no_grad()
@without_autocast()
def split_circuit(model: Transformer, head: str, circuit: Literal["qk", "ov"] = "ov") -> Singular:
    """Split the circuit of one head into parts that each read one direction and write one.

    The parts are those of a singular value decomposition of W_V W_O, or W_Q W_K^T / attn_scale
    (whose parts match one direction of the key instead of writing). Vectors are shown in tokens.
    `left` is what the embedding has along the direction read (OV: the token attended to; QK: the
    query); `right` is what the other direction does to the logits (OV) or has of the key (QK). So
    `left[0].topk(5).indices` are the tokens that part 0 reads most. The parts add up to `read_ov`
    or `read_qk`. Signs are such that the largest entry of `left` is positive; parts of equal
    strength may be mixed. KeyError for a head that does not exist.

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
        reads = read_through(norm, attn.W_V[index])
        writes = widen(attn.W_O[index]).T
        out = read_through(model.ln_final, model.W_U).T
    else:
        reads = read_through(norm, attn.W_Q[index])
        writes = read_through(norm, widen(attn.W_K[index]) / model.config.attn_scale)
        out = widen(model.W_E)
    # Outside of two bases of d_head columns each, what is left to decompose is d_head by d_head.
    left, inner = torch.linalg.qr(reads)
    right, outer = torch.linalg.qr(writes)
    u, strengths, v = torch.linalg.svd(inner @ outer.T)
    left = (widen(model.W_E) @ left @ u).T
    right = (out @ right @ v.T).T
    turned = left.gather(1, left.abs().argmax(dim=1, keepdim=True)) < 0
    return Singular(strengths, torch.where(turned, -left, left), torch.where(turned, -right, right))


def find_head(model: Transformer, head: str) -> tuple[int, int]:
    """Find layer and index of a head by its name; KeyError with the nearest if none has it."""
    known = {
        f"a{layer}.h{index}": (layer, index)
        for layer in range(model.config.n_layers)
        for index in range(model.config.n_heads)
    }
    if head not in known:
        raise KeyError(
            f"no head is called {head!r}; nearest: {find_nearest(head, known, 'none, no layers')}"
        )
    return known[head]


def read_rows(
    model: Transformer, layer: int, part: str, source: str
) -> Float[Tensor, "head source d_head"]:
    """Read q, k or v of every head in a layer when the stream holds one row of `source` alone.

    The norm's scale counts as 1.
    """
    block, config = model.blocks[layer], model.config
    W = widen(getattr(block.attn, f"W_{part}"))
    if source == "token":
        return widen(model.W_E) @ read_through(block.ln1, W)
    if source == "bias":
        b = getattr(block.attn, f"b_{part}")
        own = W.new_zeros(len(W), W.shape[2]) if b is None else widen(b)
        if block.ln1 is not None and block.ln1.b is not None:
            own = own + widen(block.ln1.b) @ W
        return own.unsqueeze(1)
    if source == "position":
        if config.positions == "none" or (config.positions_to == "qk" and part == "V"):
            where = "are none" if config.positions == "none" else "go to queries and keys only"
            raise ValueError(
                f"the source is 'position', but positions {where} in this model: "
                "take 'token' or 'bias'"
            )
        reads = W if config.positions_to == "qk" else read_through(block.ln1, W)
        return widen(model.W_pos) @ reads
    if source not in [f"a{i}.h{index}" for i in range(layer) for index in range(config.n_heads)]:
        raise KeyError(
            f"no source is called {source!r}: "
            "take 'token', 'position', 'bias' or a head of an earlier layer"
        )
    earlier, index = find_head(model, source)
    values = read_rows(model, earlier, "V", "token")[index]
    return values @ widen(model.blocks[earlier].attn.W_O[index]) @ read_through(block.ln1, W)
