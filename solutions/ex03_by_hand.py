"""Solve the exercises of lesson 03: set an induction head by hand, recognise one.

Check with `minilab grade 03`. Conventions: stream vectors are rows, so a head reads `x @ W_Q`,
`x @ W_K`, `x @ W_V` and writes `z @ W_O`; the query at position q gives the key at position k the
score `(x_q @ W_Q) @ (x_k @ W_K) / attn_scale`. "Orthonormal rows" are directions of length 1 at
right angles to each other. They are seldom axes: do not count on ones and zeros.
"""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Config, Transformer


def previous_token_qk(
    position: Float[Tensor, "n_ctx d_model"], strength: float, d_head: int, attn_scale: float
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]]:
    """Return `(W_Q, W_K)` of a head that looks at the previous position.

    At position i the stream holds `position[i]`, one of the orthonormal rows of `position`, plus
    other things that are orthogonal to all of them. The query at i must give the key at i - 1 the
    score `strength` (that is, after dividing by `attn_scale`), and every other key up to i the
    score 0; what else is in the stream must not count. `d_head` is at least n_ctx: the head may
    have more dimensions than you need.

    >>> x = position = torch.eye(3)
    >>> W_Q, W_K = previous_token_qk(position, strength=5.0, d_head=4, attn_scale=2.0)
    >>> ((x @ W_Q) @ (x @ W_K).T / 2.0).tril()  # a row per query, a column per key
    tensor([[0., 0., 0.],
            [5., 0., 0.],
            [0., 5., 0.]])
    """
    # ANSWER
    W_Q, W_K = torch.zeros(2, position.shape[1], d_head)
    # The query at i looks for i - 1, and the key at i - 1 says that it is that.
    W_Q[:, : len(position) - 1] = position[1:].T * strength * attn_scale
    W_K[:, : len(position) - 1] = position[:-1].T
    return W_Q, W_K
    # END ANSWER


def copy_ov(
    source: Float[Tensor, "count d_model"], target: Float[Tensor, "count d_model"], d_head: int
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]]:
    """Return `(W_V, W_O)` of a head that reads along `source[i]` and writes along `target[i]`.

    The rows of `source` are orthonormal; those of `target` are any vectors. A stream that holds `a
    * source[i]` where the head attends must make it write `a * target[i]`, so several at once add
    up; what is orthogonal to all sources must make it write nothing. `d_head` is at least `count`.

    >>> target = torch.tensor([[0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    >>> W_V, W_O = copy_ov(torch.eye(4)[:2], target, d_head=3)
    >>> torch.tensor([2.0, 1.0, 7.0, 7.0]) @ W_V @ W_O
    tensor([0., 0., 6., 1.])
    """
    # ANSWER
    W_V, W_O = torch.zeros(source.shape[1], d_head), torch.zeros(d_head, source.shape[1])
    W_V[:, : len(source)] = source.T
    W_O[: len(target)] = target
    return W_V, W_O
    # END ANSWER


def match_qk(
    W_E: Float[Tensor, "d_vocab d_model"],
    W_V: Float[Tensor, "d_model d_head"],
    W_O: Float[Tensor, "d_head d_model"],
    strength: float,
    attn_scale: float,
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]]:
    """Return `(W_Q, W_K)` of a head that finds where the *previous* token is the query's.

    A head in the layer before attended from each position k to k - 1 with the weights `W_V`, `W_O`
    that are given. So the stream at position k holds
    `W_E[tokens[k]] + W_E[tokens[k - 1]] @ W_V @ W_O`, and more that is orthogonal to both kinds.
    Your head must give the score `strength` (after dividing by `attn_scale`) to each key k with
    `tokens[k - 1] == tokens[q]`, and 0 to the others. The d_vocab rows of `W_E` and the d_vocab
    vectors which the first head writes for them are all orthonormal; d_head, the same as the first
    head's, is at least d_vocab.

    >>> eye = torch.eye(4)  # with these weights the first head writes token i along axis 2 + i
    >>> W_Q, W_K = match_qk(eye[:2], eye[:, :2], eye[2:], strength=5.0, attn_scale=1.0)
    >>> x_q = torch.tensor([0.0, 1.0, 1.0, 0.0])  # token 1 here, token 0 before it
    >>> x_k = torch.tensor([1.0, 0.0, 0.0, 1.0])  # token 0 here, token 1 before it
    >>> (x_q @ W_Q) @ (x_k @ W_K), (x_k @ W_Q) @ (x_q @ W_K), (x_q @ W_Q) @ (x_q @ W_K)
    (tensor(5.), tensor(5.), tensor(0.))
    """
    # ANSWER
    written = W_E @ W_V @ W_O  # row i: what the first head writes when it attends to token i
    W_Q, W_K = torch.zeros(2, *W_V.shape)
    W_Q[:, : len(W_E)] = W_E.T * strength * attn_scale
    W_K[:, : len(W_E)] = written.T
    return W_Q, W_K
    # END ANSWER


def induction_weights(d_vocab: int, n_ctx: int) -> dict[str, Tensor]:
    """Return all weights of a two-layer model that continues repeated text.

    Any vocabulary and context may be asked for. The model has attention only (no MLPs, norms or
    biases) and attention scale 1, so that `build_model` below makes it from your dict: `W_E`
    (d_vocab, d_model), `W_pos` (n_ctx, d_model), `W_Q`, `W_K`, `W_V` (2, n_heads, d_model, d_head),
    `W_O` (2, n_heads, d_head, d_model) and `W_U` (d_model, d_vocab). d_model, n_heads and d_head
    are yours to choose.

    Token 0 starts every prompt and never returns; then a block of distinct tokens repeats, up to at
    most n_ctx tokens in all. Three things must hold, the first at every position but 0, the others
    at every position whose token has occurred before:
    - a head in layer 0 pays at least .99 of its attention to the previous position;
    - a head in layer 1 pays at least .99 of its attention to the positions right after the token's
      earlier occurrences;
    - the token that stood there has the highest logit, by at least .1.

    You may call your functions above.

    >>> model = build_model(induction_weights(d_vocab=6, n_ctx=8))
    >>> model(torch.tensor([[0, 4, 1, 5, 4, 1]]))[0, -2:].argmax(-1)  # what follows "4"? and "1"?
    tensor([1, 5])
    """
    # ANSWER
    sizes = [d_vocab, n_ctx, d_vocab, d_vocab]
    token, position, previous, following = torch.eye(sum(sizes)).split(sizes)
    d_head = max(d_vocab, n_ctx)
    Q0, K0 = previous_token_qk(position, 20.0, d_head, 1.0)
    V0, O0 = copy_ov(token, previous, d_head)
    Q1, K1 = match_qk(token, V0, O0, 20.0, 1.0)
    V1, O1 = copy_ov(token, following, d_head)
    pairs = {"W_Q": [Q0, Q1], "W_K": [K0, K1], "W_V": [V0, V1], "W_O": [O0, O1]}
    # One head per layer.
    heads = {name: torch.stack(pair).unsqueeze(1) for name, pair in pairs.items()}
    return {"W_E": token, "W_pos": position, **heads, "W_U": following.T}
    # END ANSWER


def find_roles(
    weights: dict[str, Tensor], tokens: Int[Tensor, "batch pos"], answer: Int[Tensor, "batch"]
) -> dict[str, str]:
    """Return the role of every head of an unknown model: "previous", "match" or "decoy".

    `weights` are those of a two-layer model like yours, in the format of `induction_weights`, but
    with several heads per layer in any order and the stream turned by an unknown rotation. On every
    prompt of `tokens` it says `answer` after the last token. One head in layer 0 tells each
    position its previous token ("previous"), and one in layer 1 matches that ("match"): the answers
    rest on these two. Every other head is a "decoy": it may attend where those do, write a lot, or
    shift the logits, but if it alone writes zeros, every answer stays what it is. Name heads by
    layer and head, from 0.

    The result looks like {"a0.h0": "decoy", "a0.h1": "previous", "a1.h0": "match", "a1.h1":
    "decoy"}.
    """
    # ANSWER
    roles = {}
    for layer, head in product((0, 1), range(weights["W_O"].shape[1])):
        silenced = weights["W_O"].clone()
        silenced[layer, head] = 0.0  # it still attends, but writes nothing
        says = build_model({**weights, "W_O": silenced})(tokens)[:, -1].argmax(dim=-1)
        needed = (says == answer).float().mean() < 0.5
        roles[f"a{layer}.h{head}"] = ("previous", "match")[layer] if needed else "decoy"
    return roles
    # END ANSWER


def build_model(weights: dict[str, Tensor]) -> Transformer:
    """Build a Transformer from such a dict, to run and to hook. Given, nothing to write."""
    _, n_heads, d_model, d_head = weights["W_Q"].shape
    sizes = {"d_vocab": len(weights["W_E"]), "n_ctx": len(weights["W_pos"]), "d_model": d_model}
    config = Config(**sizes, n_layers=2, n_heads=n_heads, d_head=d_head, attn_scale=1.0)
    model = Transformer(config).requires_grad_(False)
    for name in ("W_E", "W_pos", "W_U"):
        getattr(model, name).copy_(weights[name])
    for layer, block in enumerate(model.blocks):
        for name in ("W_Q", "W_K", "W_V", "W_O"):
            getattr(block.attn, name).copy_(weights[name][layer])
    return model
