"""Solve the exercises of lesson 04, attention heads. Check with `minilab grade 04`.

They ask where heads look, what they read and write, and who works with whom. Heads are called by
layer and number, both counted from 0: "a1.h0". No model here has biases or normalisation. A head
with weights W_Q, W_K, W_V (d_model, d_head) and W_O (d_head, d_model) has two circuits, both
(d_model, d_model): QK = W_Q @ W_K.T, and OV = W_V @ W_O. Stream vectors are rows.
"""

from itertools import product
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


def prefix_matching_scores(
    pattern: Float[Tensor, "batch head query key"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "head"]:
    """Return how much attention each head pays to what followed the query's token before.

    `pattern` holds the attention of the heads of one layer on the prompts `tokens`. A query counts
    if its token stands somewhere before it in the same prompt. For such a query add up the
    attention that goes to the positions right after *all* earlier occurrences. (If the token stands
    right before the query, too, one of these is the query's own position.) The score of a head is
    the average over all queries that count, in all prompts together; at least one counts.

    >>> tokens = torch.tensor([[0, 3, 5, 3]])  # the last 3 counts; a 5 follows the earlier 3
    >>> rows = [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1.0, 0], [0.0, 0.25, 0.75, 0]]
    >>> prefix_matching_scores(torch.tensor([[rows]]), tokens)
    tensor([0.7500])
    """
    # ANSWER
    # The same token, before the query, b q k.
    earlier = (tokens.unsqueeze(2) == tokens.unsqueeze(1)).tril(-1)
    after = torch.zeros_like(earlier)
    after[:, :, 1:] = earlier[:, :, :-1]
    found = (pattern * after.unsqueeze(1)).sum(dim=3)  # b n q
    return found.transpose(1, 2)[after.any(dim=2)].mean(dim=0)
    # END ANSWER


def match_table(model: Transformer, writer: str, reader: str) -> Float[Tensor, "query previous"]:
    """Return which scores one head gives to what an earlier one wrote, as a token table.

    Where the head `writer` puts all of its attention on a position whose stream is the embedding of
    token j, it writes a vector. Entry [i, j] is the attention score (after the division by
    `model.config.attn_scale`, before the softmax) which `reader`, a head of a later layer, gives to
    a key whose stream is this vector and nothing else, when the stream at the query is the
    embedding of token i and nothing else. Both axes have d_vocab entries; no positions are
    involved.

    Useful: `parse_head("a1.h0")` is (1, 0); `model.W_E` is (d_vocab, d_model); `model.QK(layer,
    head)` and `model.OV(layer, head)` are the circuits.

    >>> from mini_transformer import toys
    >>> table = match_table(toys.load("induction_by_hand").model, writer="a0.h0", reader="a1.h0")
    >>> torch.equal(table, 20 * torch.eye(16))  # queries find keys that follow their own token
    True
    """
    # ANSWER
    written = model.W_E @ model.OV(*parse_head(writer))  # row j: what the writer makes of token j
    scores = model.W_E @ model.QK(*parse_head(reader)) @ written.T
    return scores / model.config.attn_scale
    # END ANSWER


def composition_scores(
    model: Transformer, writer_layer: int, reader_layer: int, part: Literal["q", "k", "v"]
) -> Float[Tensor, "writer reader"]:
    """Return the composition scores of every head of one layer with every head of a later one.

    What a head writes is some stream times its OV. A reader can pass it on in three ways: its
    queries make `stream @ QK` of it, its keys `stream @ QK.T`, and its values `stream @ OV`, with
    the reader's own QK and OV. Call the matrix for `part` R. The score is |OV R| / (|OV| |R|),
    where OV is the writer's and | | is the Frobenius norm: the square root of the sum of all
    squared entries. A head whose circuit is zero everywhere scores 0. Row i, column j: head i of
    `writer_layer`, head j of `reader_layer`, which comes later.

    >>> from mini_transformer import toys
    >>> model = toys.load("induction_by_hand").model
    >>> composition_scores(model, writer_layer=0, reader_layer=1, part="k").tolist()
    [[0.25, 0.0], [0.0, 0.0]]
    """
    # ANSWER
    heads = range(model.config.n_heads)
    scores = torch.zeros(len(heads), len(heads))
    for i, j in product(heads, repeat=2):
        OV, QK = model.OV(writer_layer, i), model.QK(reader_layer, j)
        R = {"q": QK, "k": QK.T, "v": model.OV(reader_layer, j)}[part]
        if OV.norm() > 0 and R.norm() > 0:
            scores[i, j] = (OV @ R).norm() / (OV.norm() * R.norm())
    return scores
    # END ANSWER


def find_induction_pairs(
    model: Transformer, tokens: Int[Tensor, "batch pos"], answer: Int[Tensor, "batch"]
) -> list[str]:
    """Name the pairs of heads that together make an induction head, in an unknown model.

    The model has two layers. Its prompts repeat a block of distinct tokens, as in the lesson, with
    blocks of several lengths, and on every prompt `tokens[i]` it says `answer[i]` after the last
    token. A pair is a head of layer 0 that tells each position its previous token, and a head of
    layer 1 whose keys read what *this* head wrote, and which says the token that it finds. There
    may be several pairs, that share a head or do not. Each alone is enough to answer every prompt.
    The other heads are decoys: some look where those look, some compose, some copy. The stream and
    the insides of the heads are turned at random.

    Any tool of the lessons so far may be imported. The result looks like ["a0.h1->a1.h0",
    "a0.h1->a1.h3"], in any order.
    """
    # ANSWER
    pairs = []
    for first, second in product(range(model.config.n_heads), repeat=2):

        def silence_others(z, hook, keep=(first, second)):
            z[:, :, torch.arange(z.shape[2]) != keep[hook.layer]] = 0.0

        hooks = [(("z", layer), silence_others) for layer in (0, 1)]
        says = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].argmax(dim=-1)
        if (says == answer).float().mean() > 0.5:
            pairs.append(f"a0.h{first}->a1.h{second}")
    return pairs
    # END ANSWER


def parse_head(name: str) -> tuple[int, int]:
    """Return layer and number of a head. Given, nothing to write.

    >>> parse_head("a1.h0")
    (1, 0)
    """
    layer, head = name.removeprefix("a").split(".h")
    return int(layer), int(head)
