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
    # ANSWER
    n = len(prompts)
    base, source = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    found = []
    for name, (hook, position, rows) in places.items():
        logits = swap_subspace(model, prompts[base], prompts[source], rows, hook, position)
        if (logits[:, -1].argmax(dim=-1) == answers[base, source]).all():
            found.append(name)
    return found
    # END ANSWER


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
    # ANSWER
    n = len(prompts)
    hook, position, rows = place
    base, source = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    logits = swap_subspace(model, prompts[base], prompts[source], rows, hook, position)
    said = logits[:, -1].argmax(dim=-1)
    found: list[tuple[int, int] | None] = []
    for value, answer in zip(values, answers, strict=True):
        wrong = (answer[base, value[source]] != said).nonzero().flatten().tolist()
        found.append((int(base[wrong[0]]), int(source[wrong[0]])) if wrong else None)
    return found
    # END ANSWER


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
    # ANSWER
    with torch.no_grad():
        both = torch.cat([base, source])
        activation = model.run_with_cache(both, names_filter=hook)[1][hook][:, position]
    own, other = activation.chunk(2)
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(own.shape[1], dim, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(150):
        rows = torch.linalg.qr(free).Q.T

        def put(value, point, rows=rows):
            value[:, position] = own + (other - own) @ rows.T @ rows

        logits = model.run_with_hooks(base, fwd_hooks=[(hook, put)])[:, -1]
        loss = cross_entropy(logits, answers)
        (free.grad,) = torch.autograd.grad(loss, [free])
        optimizer.step()
    return torch.linalg.qr(free.detach()).Q.T
    # END ANSWER


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
    # ANSWER
    n = len(prompts)
    base, source = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T

    def swaps_bring_answers(rows):
        logits = swap_subspace(model, prompts[base], prompts[source], rows, hook, position)
        right = logits[:, -1].argmax(dim=-1) == answers[base, source]
        return right.float().mean() >= 0.9

    with torch.no_grad():
        h = model.run_with_cache(prompts, names_filter=hook)[1][hook][:, position]
    _, size, axes = torch.linalg.svd(h - h.mean(dim=0), full_matrices=False)
    axes = axes[size > 1e-3 * size[0]]
    words = []
    for rows in subspaces:
        _, size, left = torch.linalg.svd(rows @ axes.T @ axes, full_matrices=False)
        confined = left[size > 1e-3]
        if not swaps_bring_answers(rows):
            words.append("useless")
        else:
            words.append("carries" if swaps_bring_answers(confined) else "illusion")
    return words
    # END ANSWER


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
    # ANSWER
    n = len(prompts)
    base, source = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    sizes = {name: len(feature.unique()) for name, feature in features.items()}
    names = sorted(features, key=lambda name: sizes[name])
    found = {}
    with torch.no_grad():
        logits, cache = model.run_with_cache(prompts)
        own = logits[:, -1].argmax(dim=-1)
        for layer in range(model.config.n_layers):
            for head in range(model.config.n_heads):

                def put(z, point, head=head):
                    z[:, :, head] = cache[point.name][source, :, head]

                logits = model.run_with_hooks(prompts[base], fwd_hooks=[(("z", layer), put)])
                changed = logits[:, -1].argmax(dim=-1) != own[base]
                for name in names:
                    same = features[name][base] == features[name][source]
                    if not (changed & same).any():
                        found[f"a{layer}.h{head}"] = name
                        break
    return found
    # END ANSWER
