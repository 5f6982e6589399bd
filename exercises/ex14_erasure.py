"""Solve the exercises of lesson 14, erasure. Check with `minilab grade 14`.

They erase values with the least change, ask which concepts and which directions of a site a model
uses, and judge what erasers left behind. Activations are rows (n, d). `methods.fit_probe` fits a
linear probe.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer, methods


# Exercise 14.1 · about 9 lines · difficulty 3/5 · importance 4/5 · 20 minutes · 4 points
def erase_values(
    activations: Float[Tensor, "row d"],
    values: Float[Tensor, "row value"],
    fresh: Float[Tensor, "fresh d"],
) -> Float[Tensor, "fresh d"]:
    """Erase values with the least change, so that no linear probe reads them any more.

    Row i of `activations` goes with the numbers `values[i]`. All erasers here have the lesson's
    form, `x → x - M (x - mean)`, where `mean` is that of `activations`. Find the one after which
    every coordinate of `activations` has covariance 0 with every value; if there are several, take
    the one whose squared change, on average over the rows, is least. One value may be a sum of
    others, and one may vary little. Return `fresh`, which are other activations, after this eraser.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.0, 2.0], [2.0, 3.0]])
    >>> values = torch.tensor([[5.0], [5.0], [7.0], [7.0]])
    >>> erase_values(x, values, torch.tensor([[1.0, 4.0], [2.0, 4.0]]))
    tensor([[1.0000, 1.5000],
            [2.0000, 2.0000]])
    """
    raise NotImplementedError("erase_values: not written yet")


# Exercise 14.2 · about 15 lines · difficulty 4/5 · importance 5/5 · 25 minutes · 5 points
def find_used_concepts(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    concepts: dict[str, Int[Tensor, "batch"]],
    name: str,
) -> list[str]:
    """List the concepts that a model uses at one site, although concepts go together in prompts.

    The site is the stream `name` at the last position; `name` is a hook name like
    "blocks.0.hook_resid_post". `concepts[concept][i]` is 0 or 1 for prompt i. The site holds a sum:
    each concept adds a vector of its own where it is 1, and whatever else there is goes with no
    concept. But some concepts have the same value in most prompts, or mostly opposite ones. A
    concept is used if at least one prompt in ten is answered otherwise once its vector is added
    there where it is 0, and taken away where it is 1. The answer is the token with the highest
    logit at the last position. Return the names of the used concepts, in any order.

    >>> from mini_transformer import toys
    >>> model = toys.load("unused_feature").model
    >>> x, y = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]])
    >>> tokens = torch.stack([x, y, torch.full_like(x, 8)], dim=1)
    >>> find_used_concepts(model, tokens, {"x": x, "y": y}, "blocks.0.hook_resid_mid")
    ['x']
    """
    raise NotImplementedError("find_used_concepts: not written yet")


# Exercise 14.3 · about 15 lines · difficulty 4/5 · importance 5/5 · 30 minutes · 5 points
def erase_what_is_used(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    concept: Int[Tensor, "batch"],
    topic: Int[Tensor, "batch"],
    name: str,
) -> Float[Tensor, "direction d"]:
    """Find the directions of a site from which a model reads a concept, and no others.

    The site is the stream `name` at the last position. `concept[i]` is 0 or 1 for prompt i, and
    `topic[i]` is 0, 1, 2 and so on. Each topic has a difference: the mean of the site over its
    prompts with concept 1, minus that over its prompts with concept 0. A topic uses the concept if
    in at least a tenth of its prompts the answer, the token with the highest logit at the last
    position, becomes another once its difference is added where the concept is 0, and subtracted
    where it is 1. Only such topics count. Put their differences, as they are, into the rows of a
    matrix. Singular values below a fifth of its largest are noise; your directions span the rest.

    Return as few directions as that needs, as rows; their lengths and angles do not matter. On
    fresh prompts all that the site holds in their span is replaced by its mean over these prompts.
    Then answers in the topics that count must not tell the concept any more. What else answers tell
    must stay in 95 of 100.

    >>> from mini_transformer import toys
    >>> model = toys.load("unused_feature").model  # it reads x, and not y
    >>> x, y = torch.cartesian_prod(torch.arange(2), torch.arange(8)).T
    >>> tokens = torch.stack([x, y, torch.full_like(x, 8)], dim=1)
    >>> found = erase_what_is_used(model, tokens, x, y % 2, "blocks.0.hook_resid_mid")
    >>> tuple(found.shape) == (1, model.config.d_model)
    True
    """

    raise NotImplementedError("erase_what_is_used: not written yet")


# Exercise 14.4 · about 23 lines · difficulty 4/5 · importance 5/5 · 30 minutes · 5 points
def audit_erasers(
    erased: dict[str, Float[Tensor, "row d"]],
    concept: Int[Tensor, "row"],
    other: Int[Tensor, "row"],
) -> dict[str, str]:
    """Say of every eraser what it left of a concept, and whether it did damage.

    `erased[name][i]` is what an eraser made of a model's activations for text i. The erasers were
    fitted on other texts, and each to activations of its own. `concept[i]`, which was to be erased,
    and `other[i]`, which was to stay, are 0 or 1. To read a label means: to be right in at least
    70% of rows that were not used in training. The verdict is the first of these that holds:

    - "linear": a linear probe reads the concept, however large its weights must be;
    - "nonlinear": something else reads it: of rows that are alike most have the same concept;
    - "damage": no linear probe reads the other label any more;
    - "clean": none of these.

    Return the verdict for every name.

    >>> concept, other = torch.arange(400) % 2, torch.arange(400) // 2 % 2
    >>> noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    >>> sign = 2.0 * (concept ^ other) - 1
    >>> kept = noise + 3.0 * torch.stack([other, other], dim=1)
    >>> erased = {"a": kept, "b": torch.stack([9 * sign, 9.0 * other], dim=1) + noise}
    >>> erased |= {"c": torch.cat([kept, 1e-3 * concept[:, None]], dim=1), "d": noise}
    >>> audit_erasers(erased, concept, other)
    {'a': 'clean', 'b': 'nonlinear', 'c': 'linear', 'd': 'damage'}
    """

    raise NotImplementedError("audit_erasers: not written yet")
