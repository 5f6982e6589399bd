"""Solve the exercises of lesson 16, causal abstraction. Check with `minilab grade 16`.

They find where variables are carried, refute hypotheses, and see through swaps that prove nothing.
Axes: d width of an activation, "base" and "source" prompts by number.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from mini_transformer import Transformer
from mini_transformer.methods import swap_subspace

Place = tuple[str, int, Float[Tensor, "dim d"]]


# Exercise 16.1 · about 8 lines · difficulty 3/5 · importance 5/5 · 20 minutes · 4 points
def find_places(
    model: Transformer,
    prompts: Int[Tensor, "prompt pos"],
    answers: Int[Tensor, "base source"],
    places: dict[str, Place],
) -> list[str]:
    """Find the places of a model that carry a variable.

    A place is the name of a hook, a position, and orthonormal rows. To swap it, run a base prompt
    with the part of this activation that lies in the span of the rows, and no other part, from the
    run on a source prompt. `answers[i, j]` is the token that prompt i calls for if the variable has
    the value that it has in prompt j. A place carries the variable if, with any prompt as base and
    any as source, the token with the highest logit at the last position is this one.

    Return the names of the places that carry it, if there are any. Each earns points, and each name
    that does not belong in the list takes from them.

    >>> from mini_transformer import toys
    >>> x = toys.load("boolean_and").truth.variables["x"]
    >>> prompts = torch.tensor([[0, 1, 2, 2, 2, 3], [1, 1, 2, 2, 2, 3]])
    >>> places = {name: (x.site, at, x.subspace) for name, at in (("last", 5), ("first", 0))}
    >>> find_places(toys.load("boolean_and").model, prompts, torch.tensor([[0, 1]] * 2), places)
    ['last']
    """
    raise NotImplementedError("find_places: not written yet")


# Exercise 16.2 · about 10 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 5 points
def refute_hypotheses(
    model: Transformer,
    prompts: Int[Tensor, "prompt pos"],
    place: Place,
    values: Int[Tensor, "hypothesis prompt"],
    answers: Int[Tensor, "hypothesis prompt value"],
) -> list[tuple[int, int] | None]:
    """Refute each hypothesis about a place by a pair of prompts, if it can be refuted.

    A place is as in `find_places`. Hypothesis h says that the place carries a variable with the
    value `values[h, j]` in prompt j, and that prompt i calls for the token `answers[h, i, k]` if
    the value is k. So it predicts what the token with the highest logit at the last position is
    when you swap the place, for any base and source. All hypotheses are right about runs without a
    swap.

    Return for each hypothesis the numbers (base, source) of two prompts for which the model answers
    otherwise than it predicts, or None if there are no such two. Some are wrong about very few
    pairs.

    >>> from mini_transformer import toys
    >>> x = toys.load("boolean_and").truth.variables["x"]
    >>> prompts = torch.tensor([[0, 1, 2, 2, 2, 3], [1, 1, 2, 2, 2, 3], [1, 0, 2, 2, 2, 3]])
    >>> values = torch.tensor([[0, 1, 1], [0, 1, 0]])  # x, and x AND y
    >>> answers = torch.tensor([[[0, 1], [0, 1], [0, 0]], [[0, 1]] * 3])
    >>> model = toys.load("boolean_and").model
    >>> refute_hypotheses(model, prompts, (x.site, 5, x.subspace), values, answers)
    [None, (0, 2)]
    """
    raise NotImplementedError("refute_hypotheses: not written yet")


# Exercise 16.3 · about 16 lines · difficulty 4/5 · importance 5/5 · 30 minutes · 5 points
def find_subspace(
    model: Transformer,
    base: Int[Tensor, "pair pos"],
    source: Int[Tensor, "pair pos"],
    answers: Int[Tensor, "pair"],
    hook: str,
    position: int,
    dim: int,
) -> Float[Tensor, "dim d"]:
    """Find the subspace of an activation that carries a variable.

    `answers[i]` is the token that prompt `base[i]` calls for, at the last position, if the variable
    has the value that it has in `source[i]`. Search at the hook and the position given, by any
    method.

    Return `dim` orthonormal rows. They are judged by swaps of other pairs. In half of these, base
    and source agree in the variable and differ in all else: there the answer must stay. At least
    95% of the answers must be right.

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods import measure_interchange
    >>> model = toys.load("boolean_xor").model
    >>> prompts = torch.tensor([[x, y, 2, 2, 2, 3] for x in (0, 1) for y in (0, 1)])
    >>> base, source = prompts.repeat(4, 1), prompts.repeat_interleave(4, dim=0)
    >>> answers = source[:, 0] ^ base[:, 1]
    >>> pairs = base, source, answers
    >>> rows = find_subspace(model, *pairs, "blocks.0.hook_resid_mid", 5, 1)
    >>> measure_interchange(model, *pairs, rows, "blocks.0.hook_resid_mid", 5)
    1.0
    """
    raise NotImplementedError("find_subspace: not written yet")


# Exercise 16.4 · about 19 lines · difficulty 4/5 · importance 4/5 · 30 minutes · 5 points
def tell_illusions(
    model: Transformer,
    prompts: Int[Tensor, "prompt pos"],
    answers: Int[Tensor, "base source"],
    hook: str,
    position: int,
    subspaces: list[Float[Tensor, "dim d"]],
) -> list[str]:
    """Tell subspaces that carry a variable from those that only move the answer.

    A swap is right if the token with the highest logit at the last position is `answers[i, j]`, for
    base i and source j. All pairs count, also a prompt with itself. Say one word for each list of
    orthonormal rows:

    - "useless" if swaps are right for fewer than 90% of all pairs;
    - "illusion" if at least 90% are right, but fewer once the subspace is confined;
    - "carries" if at least 90% are right, before and after.

    To confine a subspace, project its rows onto the span of the differences between what any two
    prompts have at this hook and position, and swap the span of the projected rows. Two kinds of
    singular values count as 0: of the differences those below a thousandth of the largest, and of
    the projected rows those below a thousandth (if none is left, nothing is swapped).

    >>> from mini_transformer import toys
    >>> x = toys.load("boolean_and").truth.variables["x"]
    >>> prompts = torch.tensor([[0, 1, 2, 2, 2, 3], [1, 1, 2, 2, 2, 3]])
    >>> never = torch.eye(x.subspace.shape[1])[-1:]
    >>> never = never - never @ x.subspace.T @ x.subspace
    >>> subspaces = [x.subspace, torch.nn.functional.normalize(never)]
    >>> answers = torch.tensor([[0, 1], [0, 1]])
    >>> tell_illusions(toys.load("boolean_and").model, prompts, answers, x.site, 5, subspaces)
    ['carries', 'useless']
    """
    raise NotImplementedError("tell_illusions: not written yet")


# Exercise 16.5 · about 20 lines · difficulty 4/5 · importance 4/5 · 30 minutes · 5 points
def name_messages(
    model: Transformer,
    prompts: Int[Tensor, "prompt pos"],
    features: dict[str, Int[Tensor, "prompt"]],
) -> dict[str, str]:
    """Name what matters of a prompt to what each head hands on.

    `features` gives each feature's value in every prompt. Replace what one head hands on, `("z",
    layer)` at all positions, by what it hands on in another prompt with the same value of a
    feature. The feature is enough for the head if this never changes the model's answer, the token
    with the highest logit at the last position, whichever two prompts with the same value are
    taken.

    Return for each head, named as "a0.h1" for layer 0 and head 1, the feature that is enough and
    has the fewest different values. There is always exactly one.
    """
    raise NotImplementedError("name_messages: not written yet")
