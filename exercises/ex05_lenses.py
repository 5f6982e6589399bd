"""Solve the exercises of lesson 05: read an answer off the stream half-way, by lenses.

Check with `minilab grade 05`. Stream l is the residual stream that enters layer l, counted from 0;
the last, l = n_layers, leaves the last layer. It comes as `model(tokens, stop_at_layer=l)`, (batch,
pos, d_model). `model.unembed(stream)` makes logits of a stream: the final norm if there is one
(`model.ln_final`, else None), then W_U, plus b_U if there is one.
"""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


# Exercise 5.1 · about 7 lines · difficulty 3/5 · importance 4/5 · 20 minutes · 4 points
def head_pushes(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> Float[Tensor, "batch layer head"]:
    """Return how much each head pushes the answer directly, behind a final LayerNorm.

    A push is what the head adds to logit[answer[i]] - logit[wrong[i]] at the last position of
    prompt i. The final norm makes of the last stream x the vector (x - mean) / scale * w + b: mean
    and scale (standard deviation) are those of the numbers in x, w and b are weights. Hold the
    scale at what it was in the plain run: then the pushes of all heads and all other writers
    (biases such as b_O are writers of their own), and a part that nobody wrote (b and b_U), add up
    to the logit difference.

    Useful: after `logits, cache = model.run_with_cache(tokens)`, `cache["z", layer]` is (b, t, n,
    h), `model.W_O[layer]` (n, h, d) turns it into what each head writes, and
    `cache["ln_final.hook_scale"]` is (b, t, 1); `model.ln_final.w` (d).

    >>> from mini_transformer import Config
    >>> config = Config(d_vocab=7, n_ctx=5, d_model=8, n_layers=2, n_heads=4, norm="layer")
    >>> tokens, answer, wrong = torch.tensor([[1, 2, 3]]), torch.tensor([4]), torch.tensor([5])
    >>> pushes = head_pushes(Transformer(config, seed=1), tokens, answer, wrong)
    >>> pushes.shape, round(pushes[0, 1, 2].item(), 3)
    (torch.Size([1, 2, 4]), 0.148)
    """
    raise NotImplementedError("head_pushes: not written yet")


# Exercise 5.2 · about 5 lines · difficulty 2/5 · importance 4/5 · 15 minutes · 3 points
def settling_layers(
    model: Transformer, tokens: Int[Tensor, "batch pos"], answer: Int[Tensor, "batch"]
) -> Int[Tensor, "batch"]:
    """Return for each prompt the first stream from which on the logit lens says the answer.

    The lens says the token with the highest logit at the last position. For prompt i return the
    smallest l such that streams l, l + 1, ..., n_layers all say answer[i]; or n_layers + 1 if the
    last stream says something else. In the models of the check the final norm has a gain and a
    bias, and there is a b_U; `model.unembed` uses all of them.

    Example: with three layers, streams 0 to 3 say 5, 4, 5, 5. For the answer 5 return 2, for the
    answer 4 return 4.

    >>> from mini_transformer import toys
    >>> tokens = torch.tensor([[0, 3, 5, 3], [0, 3, 5, 3]])  # | c e c -> e
    >>> settling_layers(toys.load("induction_by_hand").model, tokens, torch.tensor([5, 4])).tolist()
    [2, 3]
    """
    raise NotImplementedError("settling_layers: not written yet")


# Exercise 5.3 · about 11 lines · difficulty 3/5 · importance 4/5 · 25 minutes · 5 points
def train_translator(
    streams: Float[Tensor, "row d_model"],
    logits: Float[Tensor, "row vocab"],
    W_U: Float[Tensor, "d_model vocab"],
) -> tuple[Float[Tensor, "d_model d_model"], Float[Tensor, "d_model"]]:
    """Return the translator (A, b) of a tuned lens.

    Read through it, streams from half-way say what the model says. Row i holds a stream x from
    half-way, and the logits with which the model ended there. The lens reads the logits (x + x @ A
    + b) @ W_U. Choose A and b so that, averaged over the rows, the divergence from the model's
    distribution p to the lens's q is as small as you can make it: sum over tokens of p * (log p -
    log q), where p and q are the softmax of the logits. It is judged on other rows from the same
    source, and must remove at least 95% of the divergence that the best lens removes. (No lens
    removes all: part of what decides the logits is not in the streams.) Adam, lr 0.05 and 200 steps
    on all rows, is enough.

    >>> streams = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(9, 1)
    >>> A, b = train_translator(streams, 3 * streams.flip(1), torch.eye(2))  # numbers are swapped
    >>> ((streams + streams @ A + b) @ torch.eye(2))[0].softmax(dim=-1).mul(100).round()
    tensor([ 5., 95.])
    """
    raise NotImplementedError("train_translator: not written yet")


# Exercise 5.4 · about 14 lines · difficulty 4/5 · importance 5/5 · 30 minutes · 6 points
def find_store(
    model: Transformer, tokens: Int[Tensor, "batch pos"], answer: Int[Tensor, "batch"]
) -> list[str]:
    """Name the streams that hold the answer, in whichever code, of an unknown model.

    Each prompt holds two names, always in the same two places, and among other tokens; both
    together decide `answer[i]`, which the model says after the last position. (On a few prompts it
    does so for another reason.) A patchscope decides: stream l at position p holds the answer if
    there is a layer, one for all prompts, such that, put into the stream that enters *that* layer,
    at position p of the prompt before it in the batch (`tokens.roll(1, dims=0)`), it makes the
    model say the answer of the prompt that it came from. That layer may be any from 0 to n_layers,
    earlier or later than l. "Makes" means: after the last position the answer has the highest
    logit, for at least 90% of the prompts. A position may lose the answer again.

    Return names "l@p", such as "2@1" for what enters layer 2 at position 1, counted from 0; in any
    order.

    Useful: `model(resid=stream, start_at_layer=l)` goes on from a stream.
    """
    raise NotImplementedError("find_store: not written yet")
