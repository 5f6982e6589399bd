"""Solve the exercises of lesson 10, superposition. Check with `minilab grade 10`.

They name shapes from weights, predict what is stored, find what drives a neuron, and tell apart
axes and directions that mean something from those that do not. Axes: b batch, t position, d hidden
numbers or axes, f features or values, n samples.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


def name_shapes(W: Float[Tensor, "d feature"]) -> list[tuple[str, list[int]]]:
    """Name the shapes in which a toy stores its features.

    Column f of `W` is the direction of feature f. A feature is stored if its column is longer than
    0.5; leave all others out. Two stored features are linked if the cosine of their columns is
    above 0.15 or below -0.15. Linked features belong to one group, and so do features that are
    linked through others.

    The name of a group depends on how many features it has, and in how many dimensions: 1 in 1 is
    "alone", 2 in 1 "pair", 3 in 2 "triangle", 4 in 3 "tetrahedron", 5 in 2 "pentagon", all else
    "other". Trained arrows are never exact, so count as dimensions the singular values of the
    group's columns that are above a fifth of the largest.

    Return for each group its name and the numbers of its features, in any order.

    >>> name_shapes(torch.tensor([[0.9, 0.0, -1.1, 0.0, 0.2], [0.0, 2.0, 0.01, 0.0, 0.2]]))
    [('pair', [0, 2]), ('alone', [1])]
    """
    # ANSWER
    names = {
        (1, 1): "alone",
        (2, 1): "pair",
        (3, 2): "triangle",
        (4, 3): "tetrahedron",
        (5, 2): "pentagon",
    }
    length = W.norm(dim=0)
    unit = W / length
    linked = (unit.T @ unit).abs() > 0.15
    waiting = [f for f in range(W.shape[1]) if length[f] > 0.5]
    groups = []
    while waiting:
        group = [waiting.pop(0)]
        for member in group:  # grows while it is read
            found = [f for f in waiting if linked[member, f]]
            group += found
            waiting = [f for f in waiting if f not in found]
        group.sort()
        size = torch.linalg.svdvals(W[:, group])
        n_dimensions = int((size > 0.2 * size[0]).sum())
        groups.append((names.get((len(group), n_dimensions), "other"), group))
    return groups
    # END ANSWER


def find_phases(
    density: Float[Tensor, "setting 2"], importance: Float[Tensor, "setting"]
) -> list[str]:
    """Say which of three toys loses least, for each setting.

    The toys are the lesson's, `ReLU(WᵀW x + b)`, with two features and one hidden number. The toy
    "first" stores the first feature only, W = [[1, 0]]; "second" the second only, W = [[0, 1]];
    "both" stores them as a pair, W = [[1, -1]]. A feature that is not stored is answered by its
    mean over all inputs, which is then its `b`; of a stored feature `b` is 0.

    Here the two features are not equally rare: feature j of setting s is on with probability
    `density[s, j]`, whether or not the other is, and then uniform between 0 and 1. The loss is the
    mean squared error, that of the second feature (j = 1) weighted by `importance[s]`, that of the
    first by 1.

    Return the name of the toy that loses least, for each setting. No setting is a close call: the
    next toy loses at least a fifth more.

    >>> find_phases(torch.tensor([[0.9, 0.9], [0.05, 0.05]]), torch.tensor([0.2, 1.0]))
    ['first', 'both']
    """
    # ANSWER
    p, q = density.T
    # To answer with the mean costs the variance.
    spread = density / 3 - (density / 2) ** 2
    # Where both are on, a pair loses the smaller amount of each, whose mean square is 1/6.
    both_cost = (1 + importance) * p * q / 6
    cost = torch.stack([importance * spread[:, 1], spread[:, 0], both_cost])
    return [("first", "second", "both")[i] for i in cost.argmin(dim=0)]
    # END ANSWER


def find_drivers(
    model: Transformer, tokens: Int[Tensor, "batch pos"], features: list[int]
) -> dict[int, list[int]]:
    """Find the features that drive each neuron of a model.

    A prompt lists features, and feature f is the token f; the token 0 stands for nothing. Take a
    feature out of a prompt by writing 0 wherever it stands. What a neuron hands on at the last
    position, `("post", 0)`, may change by that. Average the size of this change, whatever its sign,
    over the prompts in which the feature stands. The feature drives the neuron if the average is at
    least 0.1; a feature that stands in no prompt drives none.

    Return the driving features for every neuron, in any order; the list may be empty. Its weights
    alone do not show it: not all that a neuron could read ever reaches it.

    >>> from mini_transformer import toys
    >>> model = toys.load("boolean_and").model  # its first neuron needs both bits to be 1
    >>> tokens = torch.tensor([[0, 1, 2, 2, 2, 3], [1, 1, 2, 2, 2, 3]])
    >>> find_drivers(model, tokens, [1]), find_drivers(model, tokens[:1], [1])
    ({0: [1], 1: []}, {0: [], 1: []})
    """
    # ANSWER
    drivers: dict[int, list[int]] = {neuron: [] for neuron in range(model.config.d_mlp)}
    with torch.no_grad():
        for feature in features:
            there = tokens[(tokens == feature).any(dim=1)]
            if len(there):
                without = there.masked_fill(there == feature, 0)
                caches = [model.run_with_cache(prompts)[1] for prompts in (there, without)]
                own, other = (cache["post", 0][:, -1] for cache in caches)
                change = (own - other).abs().mean(dim=0)
                for neuron in (change >= 0.1).nonzero().flatten().tolist():
                    drivers[neuron].append(feature)
    return drivers
    # END ANSWER


def find_privileged(layers: list[Float[Tensor, "sample axis"]]) -> list[int]:
    """Find the layers whose features lie along the axes.

    Privileged here means more than in the lesson: each feature has an axis of its own. Each layer's
    activations are sums of sparse features, each along a direction of its own, plus a constant and
    a little noise. In some layers the directions are the axes; in all others they are turned at
    random, and may be more than there are axes. How rare features are, and whether they come
    together, differs from layer to layer. So do the sizes of axes and the constants: neither says
    anything about directions.

    Return the numbers of the layers, counted from 0, in which the directions are the axes. Ask of
    each layer what would be different if it were turned. What you find earns its share, and layers
    that do not belong there take from it.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.rand(2000, 6, generator=generator)
    >>> x = x * (torch.rand(2000, 6, generator=generator) < 0.1)
    >>> turn = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    >>> find_privileged([x @ turn, 1 - 3 * x])
    [1]
    """

    # ANSWER
    def measure_peaks(h):
        """Measure the kurtosis of the axes: how rarely, and then how far, they leave the mean."""
        h = (h - h.mean(dim=0)).double()
        return (h.pow(4).mean(dim=0) / h.square().mean(dim=0).square()).mean()

    generator = torch.Generator().manual_seed(0)
    found = []
    for i, h in enumerate(layers):
        d = h.shape[1]
        scaled = (h - h.mean(dim=0)) / h.std(dim=0)
        turns = [torch.linalg.qr(torch.randn(d, d, generator=generator)).Q for _ in range(20)]
        turned = torch.stack([measure_peaks(scaled @ turn) for turn in turns])
        if measure_peaks(scaled) > 1.3 * turned.max():
            found.append(i)
    return found
    # END ANSWER


def tell_encodings(
    hidden: Float[Tensor, "sample d"], values: Float[Tensor, "sample value"]
) -> list[str]:
    """Say for each value whether a hidden state holds it linearly, otherwise, or not at all.

    Row n of `hidden` is the state for input n, `values[n, j]` what value j is for this input. A
    value is one of:

    - "linear": a linear readout with a constant explains at least 90% of its variance on inputs
      that it was not fitted to;
    - "nonlinear": no linear readout does, but inputs with similar states have similar values, so
      that at least half of its variance can be explained on other inputs;
    - "absent": less than a tenth of its variance can be explained in either way.

    Return one of these words for each value, in order.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.rand(1000, 3, generator=generator) - 0.5
    >>> tell_encodings(x[:, :2], torch.stack([2 * x[:, 0] + 1, x[:, 1].abs(), x[:, 2]], dim=1))
    ['linear', 'nonlinear', 'absent']
    """

    # ANSWER
    def explain(guess, value):
        return 1 - (guess - value).square().mean(dim=0) / value.var(dim=0)

    half = len(hidden) // 2
    h = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1)
    readout = torch.linalg.lstsq(h[:half], values[:half]).solution
    linear = explain(h[half:] @ readout, values[half:])

    distance = torch.cdist(hidden, hidden).fill_diagonal_(torch.inf)
    nearest = distance.topk(10, largest=False).indices
    similar = explain(values[nearest].mean(dim=1), values)
    return [
        "linear" if line >= 0.9 else "nonlinear" if alike > 0.2 else "absent"
        for line, alike in zip(linear, similar, strict=True)
    ]
    # END ANSWER
