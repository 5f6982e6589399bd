"""Solve the exercises of lesson 01, the residual stream. Check with `minilab grade 01`.

Axes: b batch, t position (q and k for the query's and the key's), d model (the residual stream), n
head, h head width, f MLP width, v vocabulary, l layer. No model here has biases or normalisation.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Config, Transformer


def attention_pattern(
    q: Float[Tensor, "batch pos head d_head"], k: Float[Tensor, "batch pos head d_head"]
) -> Float[Tensor, "batch head query key"]:
    """Return where each position looks: the causal attention pattern of queries q and keys k.

    The score of key position j for query position i is the dot product of their vectors, divided by
    the square root of the head width h. Every query spreads a weight of 1 over the keys at its own
    and at earlier positions, by a softmax over their scores; keys at later positions get weight
    exactly 0. All prompts and all heads at once. Scores may be as large as a few hundred.

    >>> q, k = torch.zeros(1, 3, 1, 2), torch.ones(1, 3, 1, 2)  # all scores are equal
    >>> attention_pattern(q, k)[0, 0].tolist()[:2]  # the rows of the first two queries
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    """
    # ANSWER
    _, n_pos, _, d_head = q.shape
    scores = torch.einsum("bqnh,bknh->bnqk", q, k) / d_head**0.5
    future = torch.ones(n_pos, n_pos).triu(1).bool()  # key position > query position
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1)
    # END ANSWER


def run_transformer(
    weights: dict[str, Float[Tensor, "..."]], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits of a transformer with attention and MLPs, from its weights alone.

    `weights` holds, with l layers stacked (l may be 0, and t is at most n_ctx):

        W_E (v, d), W_pos (n_ctx, d)                    one vector per token, and one per position
        W_Q, W_K, W_V (l, n, d, h), W_O (l, n, h, d)    attention: causal, scores over the root of h
        W_in (l, d, f), W_out (l, f, d)                 MLP: stream @ W_in, then ReLU, then @ W_out
        W_U (d, v)                                      the unembedding

    In each layer all heads read the same stream and add to it; then the MLP reads the sum and adds
    to it, each position by itself. Use torch only, no Transformer.

    >>> weights = {"W_E": torch.eye(2), "W_pos": torch.zeros(3, 2), "W_U": torch.eye(2)}
    >>> weights |= {name: torch.ones(1, 1, 2, 2) for name in ("W_Q", "W_K", "W_V", "W_O")}
    >>> weights |= {name: torch.ones(1, 2, 2) for name in ("W_in", "W_out")}
    >>> run_transformer(weights, torch.tensor([[0, 1]])).tolist()    # 1 + 2 + 10 and 0 + 2 + 10
    [[[13.0, 12.0], [12.0, 13.0]]]
    """
    # ANSWER
    n_layers, _, _, d_head = weights["W_Q"].shape
    n_pos = tokens.shape[1]
    future = torch.ones(n_pos, n_pos).triu(1).bool()
    stream = weights["W_E"][tokens] + weights["W_pos"][:n_pos]
    for layer in range(n_layers):
        q, k, v = (
            torch.einsum("btd,ndh->bnth", stream, weights[name][layer])
            for name in ("W_Q", "W_K", "W_V")
        )
        scores = q @ k.transpose(-1, -2) / d_head**0.5
        z = scores.masked_fill(future, float("-inf")).softmax(dim=-1) @ v
        stream = stream + torch.einsum("bnth,nhd->btd", z, weights["W_O"][layer])
        stream = stream + (stream @ weights["W_in"][layer]).relu() @ weights["W_out"][layer]
    return stream @ weights["W_U"]
    # END ANSWER


def split_head_by_source(
    model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int, head: int
) -> Float[Tensor, "batch query key d_vocab"]:
    """Return how much one head adds directly to each logit from each source position.

    Summed over the source positions j, the result is what the head writes, times W_U: what a head
    writes at a query is a sum over the key positions that it reads, of attention weight times
    value, times W_O. Entry [b, i, j, v] is the part of the logit of token v at position i that this
    head took from position j: written by the head straight into the stream and read by the
    unembedding, no later layer in between.
    Useful: `logits, cache = model.run_with_cache(tokens)`, `cache["v", layer]` (b, t, n, h),
    `cache["pattern", layer]` (b, n, q, k), `model.W_O` (l, n, h, d), `model.W_U` (d, v).

    >>> from mini_transformer import toys
    >>> model = toys.load("induction_by_hand").model
    >>> prompt = torch.tensor([[0, 3, 5, 3]])  # | c e c -> e
    >>> logits = split_head_by_source(model, prompt, layer=1, head=0)[0, 3]  # at the last position
    >>> logits[:, 5].round().tolist()  # nearly all of e's logit comes from position 2, where e is
    [0.0, 0.0, 20.0, 0.0]
    """
    # ANSWER
    _, cache = model.run_with_cache(tokens)
    pattern = cache["pattern", layer][:, head]
    offered = cache["v", layer][:, :, head] @ model.W_O[layer, head] @ model.W_U  # b k v
    return torch.einsum("bqk,bkv->bqkv", pattern, offered)
    # END ANSWER


def find_deciders(
    config: dict,
    weights: dict[str, Float[Tensor, "..."]],
    tokens: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> tuple[list[str], list[str]]:
    """Name the writers of an unknown model that push its answers directly, for or against.

    Build the model with `model = Transformer(Config(**config))` and
    `model.load_state_dict(weights)`. Prompt i is tokens[i], and its answer is called for at the
    last position. The push of a writer on prompt i is what it adds directly to logit[answer[i]] -
    logit[wrong[i]] there. Return two lists of writers, labelled as in `model.decompose(cache)`,
    where `logits, cache = model.run_with_cache(tokens)` ("embed", "pos_embed", "a0.h0", ..., and
    "m0" for the MLP of layer 0, if there are MLPs): first those whose push, averaged over the
    prompts, is at least 1, the strongest first; then those whose average push is -1 or less, the
    most negative first.

    Example: average pushes a0.h0 0.2, a0.h1 5.0, a1.h0 -3.0, a1.h1 9.0 give (["a1.h1", "a0.h1"],
    ["a1.h0"]).
    """
    # ANSWER
    model = Transformer(Config(**config))
    model.load_state_dict(weights)
    _, cache = model.run_with_cache(tokens)
    # What the logit difference reads, b d.
    direction = (model.W_U[:, answer] - model.W_U[:, wrong]).T
    pushes = {
        name: (part[:, -1] * direction).sum(-1).mean()
        for name, part in model.decompose(cache).items()
    }
    strongest_first = sorted(pushes, key=lambda name: -pushes[name])
    favour = [name for name in strongest_first if pushes[name] >= 1]
    against = [name for name in reversed(strongest_first) if pushes[name] <= -1]
    return favour, against
    # END ANSWER
