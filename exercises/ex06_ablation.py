"""Solve the exercises of lesson 06, ablation. Check with `minilab grade 06`.

They ablate heads, pairs of heads, directions, and ask what kind of nothing to put there. Heads are
called by layer and number, "a2.h0". Axes: b batch, t position, d model, n head, h head width, v
vocabulary.
"""

from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


# Exercise 6.1 · about 10 lines · difficulty 2/5 · importance 5/5 · 15 minutes · 3 points
def ablate_heads(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    heads: list[str],
    ablation: str,
    reference: Int[Tensor, "reference pos"],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits of a run in which the named heads are ablated, all of them at once.

    Replace what each head hands on, its part of `("z", layer)` (b, t, n, h), at every position.
    What takes its place depends on `ablation`:

    - "zero": 0;
    - "mean": the head's average over the prompts of `reference`, each position by itself;
    - "resample": what the head hands on in prompt b of `reference`, for prompt b of `tokens`. (Only
      here `reference` is sure to have as many prompts as `tokens`; it is always as long.)

    `reference` runs through the whole model, nothing ablated.

    >>> from mini_transformer import toys
    >>> case = toys.load("backup_head")
    >>> tokens = torch.tensor([[5, 0, 1, 0, 6]])  # | A B A ?
    >>> other = torch.tensor([[5, 2, 2, 3, 6]])  # | C C D ?
    >>> for ablation in ("zero", "resample"):
    ...     logits = ablate_heads(case.model, tokens, ["a0.h1", "a2.h0"], ablation, other)
    ...     print(ablation, case.task.token_names[logits[0, -1].argmax()])
    zero B
    resample D
    """
    raise NotImplementedError("ablate_heads: not written yet")


# Exercise 6.2 · about 9 lines · difficulty 3/5 · importance 5/5 · 20 minutes · 5 points
def find_needed_sets(
    model: Transformer, tokens: Int[Tensor, "batch pos"], answer: Int[Tensor, "batch"]
) -> list[list[str]]:
    """List the heads that a model needs, and the pairs of which it needs at least one.

    Prompt b calls for the token `answer[b]`: the model says the one with the highest logit at the
    last position. A set of heads is needed if fewer than half of the prompts are answered rightly
    once all its heads are ablated together, with zeros. Return all needed sets of one head, and all
    needed sets of two neither of which is needed alone. Any order will do, also within a pair.
    (Your `ablate_heads` asks for a `reference`, which zeros do not use: give it `tokens`.)

    The models are ones that you have not seen, with nine heads each. A part of the list earns a
    part of the points; sets that do not belong there cost points.

    >>> from mini_transformer import toys
    >>> case = toys.load("backup_head")
    >>> batch = case.task.draw(20)
    >>> find_needed_sets(case.model, batch.clean, batch.answer)
    [['a0.h0'], ['a1.h0'], ['a2.h0', 'a3.h0']]
    """

    raise NotImplementedError("find_needed_sets: not written yet")


# Exercise 6.3 · about 2 lines · difficulty 3/5 · importance 4/5 · 10 minutes · 3 points
def ablate_subspace(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    name: str,
    directions: Float[Tensor, "direction d_model"],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits when one activation loses all that it holds along some directions.

    `name` is a hook name of the residual stream like "blocks.0.hook_resid_post", shape (b, t, d).
    At every position, take out its part in the span of the rows of `directions`: what is left is
    orthogonal to each row, and differs from the stream only by a sum of multiples of the rows. The
    rows are independent, but of any length, and seldom at right angles.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=2, n_heads=2))
    >>> tokens = torch.tensor([[1, 2, 3]])
    >>> name, some = "blocks.0.hook_resid_post", torch.eye(8)[:2]
    >>> same = torch.tensor([[2.0, 0.0], [1.0, 3.0]]) @ some  # the same span
    >>> one, two = (ablate_subspace(model, tokens, name, rows) for rows in (some, same))
    >>> torch.allclose(one, two, atol=1e-5)
    True
    """
    raise NotImplementedError("ablate_subspace: not written yet")


# Exercise 6.4 · about 20 lines · difficulty 4/5 · importance 5/5 · 35 minutes · 6 points
def tell_heads_apart(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    reference: Int[Tensor, "batch pos"],
) -> dict[str, str]:
    """Say of every head of an unknown model what it is for.

    The model says `answer[b]` after the last token of `tokens[b]`, but for a few prompts;
    `reference[b]` calls for another answer. "Hurts" means: fewer than 90% of the prompts are
    answered rightly (no run ties). Each head is one of:

    - "carrier": what it writes differs from prompt to prompt, and it hurts if it falls silent;
    - "constant": it writes the same in every prompt, and it hurts if it falls silent;
    - "covered": what it writes differs and is used, but a later head stands in for it if it falls
      silent;
    - "backup": this later head, which writes nothing (0, up to rounding) as long as the covered one
      speaks;
    - "twin": what it writes differs from prompt to prompt, and another head always writes the same
      as it, so that each writes half of what is used. Half is enough for the answers, but not if
      the other half says the opposite;
    - "idle": nobody reads what it writes, so nothing that is put in its place hurts.

    Return the role of every head. The unknown models weigh three bits, `| x y z =`, and answer 0 or
    1; they have two layers of four heads, and no MLP.

    >>> from mini_transformer import toys
    >>> case = toys.load("backup_head")
    >>> batch = case.task.draw(64)
    >>> roles = tell_heads_apart(case.model, batch.clean, batch.answer, batch.corrupt)
    >>> {head: role for head, role in roles.items() if role != "idle"}
    {'a0.h0': 'carrier', 'a1.h0': 'carrier', 'a2.h0': 'covered', 'a3.h0': 'backup'}
    """

    raise NotImplementedError("tell_heads_apart: not written yet")
