"""Solve the exercises of lesson 07, activation patching. Check with `minilab grade 07`.

They are about one patch, a map, good pairs, noise, and carriers. Axes: b batch, t position, d
model, v vocabulary, l layer. Prompt i of one batch goes with prompt i of the other.
"""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


# Exercise 7.1 · about 5 lines · difficulty 2/5 · importance 5/5 · 15 minutes · 3 points
def patch_positions(
    model: Transformer,
    base: Int[Tensor, "batch pos"],
    source: Int[Tensor, "batch pos"],
    name: str,
    position: Int[Tensor, "batch"],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits on `base` when each prompt has one activation of a run on `source`.

    `name` is the hook name of an activation (b, t, d), like "blocks.0.hook_mlp_out". In prompt i it
    is replaced at position[i], and nowhere else, by what it is there in prompt i of `source`, which
    runs through the model unpatched.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=4, d_model=8, n_layers=2, n_heads=2))
    >>> base, source = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[7, 2, 3], [4, 8, 6]])
    >>> name = "blocks.0.hook_resid_pre"
    >>> differs = torch.tensor([0, 1])  # all that differs is put in
    >>> torch.allclose(patch_positions(model, base, source, name, differs), model(source))
    True
    """
    raise NotImplementedError("patch_positions: not written yet")


# Exercise 7.2 · about 11 lines · difficulty 3/5 · importance 5/5 · 20 minutes · 5 points
def patching_map(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    site: str,
    direction: str,
) -> Float[Tensor, "layer pos"]:
    """Return how far a patch moves one run to the other, for every layer and position.

    `direction` is "denoise" (run the corrupt prompts, put clean activations in) or "noise" (run the
    clean ones, put corrupt activations in). `site` is "resid_pre", "attn_out" or "mlp_out", each
    (b, t, d) in every layer.

    The metric of a run is logit[answer[i]] - logit[wrong[i]] at the last position, averaged over
    the prompts. Entry [l, t] is for a run with only layer l and position t patched, in all prompts:
    0 if its metric is that of the prompts that are run, 1 if it is that of the prompts which the
    activations come from, and in proportion otherwise, also below 0 and above 1. (In the check
    these two metrics always differ.)

    >>> from mini_transformer import toys
    >>> model, one, zero = toys.load("boolean_and").model, torch.tensor([1]), torch.tensor([0])
    >>> clean = torch.tensor([[1, 1, 2, 2, 2, 3]])  # 1 1 . . . =
    >>> corrupt = torch.tensor([[0, 1, 2, 2, 2, 3]])  # 0 1 . . . =
    >>> patching_map(model, clean, corrupt, one, zero, "resid_pre", "denoise").tolist()
    [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    raise NotImplementedError("patching_map: not written yet")


# Exercise 7.3 · about 6 lines · difficulty 3/5 · importance 4/5 · 20 minutes · 4 points
def choose_corruptions(
    model: Transformer,
    prompts: Int[Tensor, "prompt pos"],
    answer: Int[Tensor, "prompt"],
    position: int,
) -> list[int]:
    """Choose for every prompt a corrupt one, so that patching shows what one token does.

    Choose it among the other prompts. Prompt j is a fit partner of prompt i if all of this holds:

    - at `position` the two have different tokens, and everywhere else the same;
    - their answers, answer[i] and answer[j], differ;
    - the model gives both: at the last position the answer has the highest logit.

    Return one number per prompt: the j of a partner (any that fits), or -1 if no prompt of the list
    fits.

    Example, on prompts that the model answers as told, position 0: for `A x` -> p, `B x` -> p, `C
    x` -> q, `C y` -> r, right are [2, 2, 0, -1] and [2, 2, 1, -1]. `A x` and `B x` are no partners,
    since their answers are the same.
    """
    raise NotImplementedError("choose_corruptions: not written yet")


# Exercise 7.4 · about 16 lines · difficulty 3/5 · importance 4/5 · 25 minutes · 5 points
def trace_noise(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    noise: Float[Tensor, "draw batch pos d_model"],
    site: str,
) -> Float[Tensor, "layer pos"]:
    """Return the share of noise's damage undone by restoring each layer and position.

    In a noisy run, noise[k] is added to the token embeddings (hook "embed", (b, t, d)). In a
    restored one, `site` (such as "mlp_out"; (b, t, d) in every layer) gets, at one layer and
    position, the value that it has for the same prompt in the run without noise. The metric is the
    probability of answer[i] at the last position, averaged over prompts and draws k. Entry [l, t]
    of the map is 0 if it is that of the noisy runs, 1 if it is that of the run without noise, in
    proportion otherwise, also below 0 and above 1. (In the check these two always differ.)

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=4, d_model=8, n_layers=2, n_heads=2))
    >>> noise = torch.zeros(3, 1, 3, 8)
    >>> noise[:, :, 1] = torch.randn(3, 1, 8)
    >>> tokens, answer = torch.tensor([[1, 2, 3]]), torch.tensor([5])
    >>> restored = trace_noise(model, tokens, answer, noise, "resid_pre")
    >>> restored[0].abs().round(decimals=3).tolist()
    [0.0, 1.0, 0.0]
    """
    raise NotImplementedError("trace_noise: not written yet")


# Exercise 7.5 · about 6 lines · difficulty 4/5 · importance 5/5 · 20 minutes · 6 points
def find_carriers(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> tuple[list[str], list[str]]:
    """Name the places where an unknown model carries what the clean prompts differ in.

    A place is the stream that enters one layer at one position: "2@5" enters layer 2 at position 5.
    Metric and patches are those of patching_map. Return two lists, each in any order:

    - the places that are enough: put in alone, they bring a corrupt run at least half of the way to
      the clean one;
    - the places that are needed: replaced alone, they bring a clean run at least half of the way to
      the corrupt one.

    The prompts call for `answer`, their corrupt ones for `wrong`. What is in a place but makes no
    difference does not count. What you find earns its share, and places that do not belong there
    take from it.

    >>> from mini_transformer import toys
    >>> model, one, zero = toys.load("boolean_or").model, torch.tensor([1]), torch.tensor([0])
    >>> clean = torch.tensor([[1, 1, 2, 2, 2, 3]])  # 1 1 . . . =
    >>> corrupt = torch.tensor([[0, 0, 2, 2, 2, 3]])  # 0 0 . . . =
    >>> find_carriers(model, clean, corrupt, one, zero)  # either bit is enough, none is needed
    (['0@0', '0@1'], [])
    """
    raise NotImplementedError("find_carriers: not written yet")
