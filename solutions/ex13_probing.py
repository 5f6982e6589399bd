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

    # ANSWER
    def measure(x, parts):
        """Measure accuracy on each of four parts by a probe that was trained on the others."""
        right = []
        for part in range(4):
            left_out = parts == part
            probe = methods.fit_probe(x[~left_out], labels[~left_out])
            right.append(probe.predict(x[left_out]) == labels[left_out])
        return torch.cat(right).float().mean().item()

    generator = torch.Generator().manual_seed(0)
    by_row = torch.randperm(len(types), generator=generator) % 4
    names, which = types.unique(return_inverse=True)
    by_type = (torch.randperm(len(names), generator=generator) % 4)[which]
    kinds = {}
    for name, x in sites.items():
        if measure(x, by_type) >= 0.8:
            kinds[name] = "label"
        else:
            kinds[name] = "type" if measure(x, by_row) >= 0.8 else "nothing"
    return kinds
    # END ANSWER


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
    # ANSWER
    pair = 2 * labels + shortcut
    weight = 1 / torch.bincount(pair, minlength=4)[pair]
    x = activations - activations.mean(dim=0)
    w = torch.zeros(x.shape[1], requires_grad=True)
    b = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=100, line_search_fn="strong_wolfe")

    def compute_loss():
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(x @ w + b, labels.float(), weight, reduction="sum")
        loss = loss + 0.01 * w.square().sum()
        loss.backward()
        return loss

    optimizer.step(compute_loss)
    w = w.detach()
    return w, float(b.detach() - activations.mean(dim=0) @ w)
    # END ANSWER


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
    # ANSWER
    first, second = positive.clone(), negative.clone()
    for value in (0, 1):
        rows = known == value
        first[rows] -= first[rows].mean(dim=0)
        second[rows] -= second[rows].mean(dim=0)
    return methods.answer_pairs(methods.fit_ccs(first, second), first, second)
    # END ANSWER


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
    # ANSWER
    logits, cache = model.run_with_cache(tokens)
    said = logits[:, -1].argmax(dim=-1)
    site = cache[name][:, -1]
    used = []
    for variable, value in values.items():
        means = torch.stack([site[value == v].mean(dim=0) for v in range(3)])
        change = means[(value + 1) % 3] - means[value]

        def exchange(x, hook, change=change):
            x[:, -1] += change

        changed = model.run_with_hooks(tokens, fwd_hooks=[(name, exchange)])
        if (changed[:, -1].argmax(dim=-1) != said).float().mean() >= 0.1:
            used.append(variable)
    return used
    # END ANSWER
