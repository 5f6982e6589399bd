"""Solve the exercises of lesson 13, probing. Check with `minilab grade 13`.

They ask what a probe found: the label or the word, the label or its shortcut, one feature of a
pair or another, and whether the model uses it. Activations are rows (n, d). `methods.fit_probe`
fits a linear probe.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mini_transformer import Transformer, methods


# Exercise 13.1 · about 20 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 4 points
def tell_what_sites_hold(
    sites: dict[str, Float[Tensor, "row width"]],
    labels: Int[Tensor, "row"],
    types: Int[Tensor, "row"],
) -> dict[str, str]:
    """Say of every site whether a linear probe finds the label there, only the type, or nothing.

    `sites[name][i]` is what the model holds at that site for word i. The word is of type
    `types[i]`, and its label `labels[i]` is 0 or 1. All words of one type have the same label and
    stand together. Sites may be wider than there are rows. Each site is one of:

    - "label": the probe reads the label also in types that it was not trained on;
    - "type": it reads the label in new rows of the types that it was trained on, but not in new
      types;
    - "nothing": it reads the label in neither.

    To read the label means: to be right in at least 80% of such rows.

    >>> types = torch.arange(10).repeat_interleave(4)
    >>> labels = types % 2
    >>> noise = torch.randn(40, 60, generator=torch.Generator().manual_seed(0))
    >>> sites = {"x": torch.cat([noise, 9.0 * labels[:, None]], dim=1)}
    >>> sites |= {"y": torch.eye(10)[types], "z": noise}
    >>> tell_what_sites_hold(sites, labels, types)
    {'x': 'label', 'y': 'type', 'z': 'nothing'}
    """

    raise NotImplementedError("tell_what_sites_hold: not written yet")


# Exercise 13.2 · about 16 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 4 points
def fit_without_shortcut(
    activations: Float[Tensor, "row d"],
    labels: Int[Tensor, "row"],
    shortcut: Int[Tensor, "row"],
) -> tuple[Float[Tensor, "d"], float]:
    """Fit a linear probe for the labels that does not rest on a shortcut.

    Labels and shortcut are 0 or 1. They agree in most rows and differ in some, more often for one
    label than for the other. Return the probe's direction w and its bias b: the probe answers 1
    where `activations @ w + b > 0`. It is tried on fresh rows. There the shortcut tells nothing:
    the four pairs of label and shortcut are equally frequent. In each of the four, the share of
    right answers must be at most 0.1 below that of the best linear probe for such rows.

    >>> generator = torch.Generator().manual_seed(0)
    >>> labels = torch.arange(400) % 2
    >>> shortcut = torch.where(torch.arange(400) < 20, 1 - labels, labels)
    >>> x = torch.stack([3.0 * labels, 9.0 * shortcut], dim=1)
    >>> x = x + torch.randn(400, 2, generator=generator)
    >>> w, b = fit_without_shortcut(x, labels, shortcut)
    >>> good_without, bad_with = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 9.0])
    >>> bool(good_without @ w + b > 0), bool(bad_with @ w + b > 0)
    (True, False)
    """
    raise NotImplementedError("fit_without_shortcut: not written yet")


# Exercise 13.3 · about 6 lines · difficulty 4/5 · importance 4/5 · 20 minutes · 4 points
def answer_without_labels(
    positive: Float[Tensor, "pair d"],
    negative: Float[Tensor, "pair d"],
    known: Int[Tensor, "pair"],
) -> Int[Tensor, "pair"]:
    """Answer for pairs of statements, without any labels, which of the two is true.

    Row i of `positive` and row i of `negative` are activations of two statements, of which exactly
    one is true. Such pairs also disagree on another feature, which may be louder than truth:
    `known[i]` is 1 if the first of pair i has it, and 0 if the second has it. It tells nothing
    about truth. First statements lie apart from second ones, whatever is true. Return 1 where the
    first is true and 0 where the second is, for at least 95% of the pairs. The opposite answer for
    *all* pairs is as good: what is true and what is false cannot be told apart without labels.

    >>> truth, known = torch.arange(40) % 2, torch.arange(40) // 20
    >>> noise = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
    >>> signs = torch.stack([truth, 3 * known, 0 * truth], dim=1) * 2.0
    >>> found = answer_without_labels(signs + 0.1 * noise[0], 0.1 * noise[1] - signs, known)
    >>> bool((found == truth).all() or (found == 1 - truth).all())
    True
    """
    raise NotImplementedError("answer_without_labels: not written yet")


# Exercise 13.4 · about 14 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 5 points
def find_used_variables(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    values: dict[str, Int[Tensor, "batch"]],
    name: str,
) -> list[str]:
    """List the variables that a model not only holds at one site, but reads from there.

    The site is the stream `name` at the last position; `name` is a hook name like
    "blocks.0.hook_resid_post". `values[variable][i]` is the value of a variable in prompt i: 0, 1
    or 2. The site holds all of them: its mean over the prompts with a value differs from value to
    value. A variable is used if at least one prompt in ten is answered otherwise once its value is
    exchanged there for another one, and nothing else is. (For which of the other two makes no
    difference: no case is close.) The answer is the token with the highest logit at the last
    position. To exchange a value is to put what the site holds for another value, on average, in
    place of what it holds for its own. Return the names of the variables that are used, in any
    order.

    (Any two values of two variables come together in equally many prompts.)

    >>> from mini_transformer import toys
    >>> model = toys.load("unused_feature").model
    >>> x, y = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
    >>> tokens = torch.stack([x, y, torch.full_like(x, 8)], dim=1)
    >>> find_used_variables(model, tokens, {"x": x, "y": y}, "blocks.0.hook_resid_mid")
    ['x']
    """
    raise NotImplementedError("find_used_variables: not written yet")
