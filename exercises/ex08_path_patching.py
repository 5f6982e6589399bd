"""Solve the exercises of lesson 08, path patching. Check with `minilab grade 08`.

They are about edges, direct and indirect effects, and gradients in place of patches. `clean` and
`corrupt` are prompts of one shape; row b of one is patched into row b of the other. What is patched
goes into the clean run. Axes: b batch, t position, d model, n head, h head width, v vocabulary, l
layer.
"""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


def measure_difference(
    logits: Float[Tensor, "batch pos d_vocab"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> Float[Tensor, ""]:
    """Return the answer's logit minus the wrong token's at the end, mean of all prompts.

    This is the metric of this lesson.
    """
    row = torch.arange(len(answer))
    return (logits[row, -1, answer] - logits[row, -1, wrong]).mean()


# Exercise 8.1 · about 7 lines · difficulty 2/5 · importance 5/5 · 15 minutes · 3 points
def patch_edge(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    writer: tuple[int, int],
    reader: tuple[int, int],
    part: str,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the clean logits when one input of a head hears an earlier head's corrupt value.

    `writer` and `reader` are (layer, head), `part` is "q", "k" or "v". Everybody else hears the
    writer's clean value, and so do the other two inputs of the reader. What the reader then writes
    goes on as usual, at every position. Useful:
    `run_with_cache(tokens, names_filter=("result", layer))` keeps what the heads of a layer write,
    (b, t, n, d); the hooks `("q_input", layer)`, `("k_input", layer)` and `("v_input", layer)`,
    also (b, t, n, d), are the streams that the heads read.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> for part in "qkv":
    ...     logits = patch_edge(case.model, batch.clean, batch.corrupt, (0, 0), (1, 0), part)
    ...     print(part, batch.correct(logits).float().mean().item() > 0.5)
    q True
    k False
    v True
    """

    raise NotImplementedError("patch_edge: not written yet")


# Exercise 8.2 · about 14 lines · difficulty 3/5 · importance 5/5 · 20 minutes · 4 points
def split_head_effect(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    layer: int,
    head: int,
) -> tuple[float, float, float]:
    """Return a head's total, direct and indirect effect on `measure_difference`.

    An effect is by how much it changes, patched minus clean: a loss is negative (lesson 08 counts
    losses as positive). In each of three runs on `clean` somebody hears what the head writes on
    `corrupt`:

    - total: everybody, which includes the MLPs;
    - direct: only the unembedding;
    - indirect: everybody but the unembedding. It hears this head's clean value, and of later parts
      what they write now.

    The unembedding reads what leaves the last block, `("resid_post", -1)` (b, t, d), through the
    final norm if there is one. What the heads of a layer write is `("result", layer)` (b, t, n, d):
    name it in `names_filter`, as in 8.1.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> run = case.model, batch.clean, batch.corrupt, batch.answer, batch.wrong
    >>> for layer in (0, 1):
    ...     split = split_head_effect(*run, layer, 0)
    ...     print([round(effect) for effect in split])
    [-20, 0, -20]
    [-40, -40, 0]
    """
    raise NotImplementedError("split_head_effect: not written yet")


# Exercise 8.3 · about 8 lines · difficulty 3/5 · importance 4/5 · 15 minutes · 3 points
def attribute_heads(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> Float[Tensor, "layer head"]:
    """Estimate by one gradient how much patching each head changes `measure_difference`.

    Patching a head moves what it hands on, its part of `("z", layer)` (b, t, n, h), from its clean
    to its corrupt value. The estimate is that move times the gradient of `measure_difference` in
    the clean run, summed over prompts, positions and the head's width: what would happen if the
    metric went on as steeply as it starts. Two forward runs and one backward are enough; what a
    cache holds is part of the graph, so `torch.autograd.grad` takes it as input.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> run = case.model, batch.clean, batch.corrupt, batch.answer, batch.wrong
    >>> attribute_heads(*run).abs().round().tolist()
    [[0.0, 0.0], [40.0, 0.0]]
    """
    raise NotImplementedError("attribute_heads: not written yet")


# Exercise 8.4 · about 7 lines · difficulty 4/5 · importance 4/5 · 25 minutes · 4 points
def integrate_heads(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    layer: int,
    steps: int,
) -> Float[Tensor, "head"]:
    """Split the effect of patching all heads of a layer among them, by gradients.

    The gradients are taken on the way from clean to corrupt. `("z", layer)` (b, t, n, h) moves as a
    whole, all heads of the layer together, on a straight line from its clean to its corrupt value;
    later layers follow, all on the clean prompts. Take the gradient of `measure_difference` with
    respect to z in the middles of `steps` equal pieces of that line: with 2 steps at 1/4 and 3/4 of
    the way. A head's share is its whole move times the average of these gradients, summed over
    prompts, positions and the head's width. With enough steps the shares add up to the effect of
    patching the layer; with one step they may be far off, as 151 for 20 below.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> run = case.model, batch.clean, batch.corrupt, batch.answer, batch.wrong
    >>> [integrate_heads(*run, layer=0, steps=n).round().abs().tolist() for n in (1, 50)]
    [[151.0, 0.0], [20.0, 0.0]]
    """
    raise NotImplementedError("integrate_heads: not written yet")


# Exercise 8.5 · about 14 lines · difficulty 4/5 · importance 5/5 · 30 minutes · 6 points
def find_feeding_edges(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    layer: int,
    head: int,
) -> list[str]:
    """Find who feeds one head of an unknown model, and through which of its inputs.

    List the edges into head `head` of layer `layer` that the answers rest on. Writers are "input",
    the sum of both embeddings (`model(tokens, stop_at_layer=0)`), and all heads of earlier layers;
    an edge is spelled "a0.h2->a2.h1<k>" or "input->a2.h1<v>". It belongs to the list if
    `measure_difference` drops by at least 1 when this edge alone carries what its writer writes on
    `corrupt`. Any order.

    The models have three layers of four heads, no norm, no MLP. A part of the list earns a part of
    the points; edges that do not belong there cost points.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> run = case.model, batch.clean, batch.corrupt, batch.answer, batch.wrong
    >>> sorted(find_feeding_edges(*run, 1, 0))
    ['a0.h0->a1.h0<k>', 'input->a1.h0<q>', 'input->a1.h0<v>']
    """
    raise NotImplementedError("find_feeding_edges: not written yet")
