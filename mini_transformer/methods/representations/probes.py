"""Probes: predict a label from activations, beside a control task.

A linear probe is a logistic regression: sum of cross-entropies + penalty / 2 * |W|^2. High accuracy
says that a label can be read, not that the model reads it (`ablate_directions` and `swap_subspace`
ask that). A strong probe can learn labels that the activations hold only as the identity of a
token. Hence the control task: every type of input gets a random label, and selectivity = accuracy -
accuracy on the control task.
Sources: Alain & Bengio 2016 (1610.01644); Hewitt & Liang 2019 (1909.03368), sections 2 and 3.
"""

import itertools
import math
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import cross_entropy

from mini_transformer.methods.arguments import Activations, Labels, check_activations, check_labels
from mini_transformer.methods.descent import descend
from mini_transformer.methods.numerics import (
    check_gradients,
    draw_normal,
    meet,
    widen,
    without_autocast,
)
from mini_transformer.methods.representations.logistic_regression import Layers, run_layers, solve
from mini_transformer.tensors import copy_fields, make_ordinary

__all__ = ["Probe", "draw_control_labels", "fit_probe", "measure_selectivity"]


@dataclass(frozen=True)
class Probe:
    """Layers (W, b) with ReLU between them.

    The last layer gives one score per class, or (n, 1) for two classes: that of class 1.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    def __post_init__(self) -> None:
        copy_fields(self)

    @property
    def directions(self) -> Float[Tensor, "class d"]:
        """What a linear probe reads, one row per class (two classes: one row, to class 1)."""
        if len(self.layers) > 1:
            raise ValueError(
                f"this probe has {len(self.layers)} layers, but only a linear one has directions"
            )
        return self.layers[0][0].T.clone()  # an edit of it must not change the probe

    def score(self, activations: Activations) -> Float[Tensor, "n class"]:
        """Score each class, up to a constant per row; the softmax gives probabilities."""
        return self.compute_scores(activations).to(activations.dtype)

    def predict(self, activations: Activations) -> Integer[Tensor, "n"]:
        """Predict the class with the highest score."""
        return self.compute_scores(activations).argmax(dim=1)

    @without_autocast()
    def compute_scores(self, activations: Activations) -> Float[Tensor, "n class"]:
        """Compute the scores in the wider of both dtypes, where classes tie less often."""
        width = self.layers[0][0].shape[0]
        if activations.ndim != 2 or activations.shape[1] != width:
            given = f"activations are {tuple(activations.shape)}"
            raise ValueError(f"{given}, but the probe reads (n, {width})")
        x, *weights = meet(activations, *itertools.chain(*self.layers))
        return run_layers(list(zip(weights[::2], weights[1::2], strict=True)), x)

    def accuracy(self, activations: Activations, labels: Labels) -> float:
        """Compute the share of rows in which the predicted class is the label."""
        check_activations(activations)
        if labels.shape != activations.shape[:1]:
            given = f"there are {len(activations)} activations, but labels are"
            raise ValueError(f"{given} {tuple(labels.shape)}: one for each")
        return (self.predict(activations) == labels.to(activations.device)).float().mean().item()


@without_autocast()
def fit_probe(
    activations: Activations,
    labels: Labels,
    hidden: int | None = None,
    penalty: float | int = 1.0,
    seed: int = 0,
) -> Probe:
    """Fit a probe for labels 0, 1, ... to activations.

    It is linear, or, with a number in `hidden`, has one hidden layer of that width, started from
    `seed`. The linear one is the unique optimum for the penalty, up to 1e-6 or so, whatever the
    activations' mean and scale. Labels may be bool. ValueError for labels that do not fit, are not
    all of 0 to the highest, or are of one class only.

    >>> x = torch.tensor([[-2.0, 0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    >>> probe = fit_probe(x, torch.tensor([0, 0, 1, 1]))
    >>> probe.predict(torch.tensor([[-9.0, 5.0], [9.0, 5.0]]))
    tensor([0, 1])
    """
    check_gradients()
    labels, n_classes = check_labels(activations, labels)
    if hidden is not None and (not isinstance(hidden, Integral) or hidden < 1):
        raise ValueError(
            f"hidden is {hidden!r}, but must be None (linear) or a width of at least 1"
        )
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalty is {penalty}, but must be positive and finite")
    x = make_ordinary(activations.detach()).double()
    dtype = widen(activations[:0]).dtype
    n_scores = n_classes - (n_classes == 2)
    if hidden is None:
        layers = solve(x, labels, n_scores, penalty)
    else:
        layers = fit_mlp(x, labels, n_scores, penalty, hidden, seed)
    return Probe(tuple((W.detach().to(dtype), b.detach().to(dtype)) for W, b in layers))


def fit_mlp(
    x: Activations, labels: Tensor, n_scores: int, penalty: float | int, hidden: int, seed: int
) -> Layers:
    """Descend on the same loss from random weights.

    A mean beyond the spread is taken out first, and folded into the bias.
    """
    generator = torch.Generator().manual_seed(seed)
    mean = x.mean(dim=0)
    if mean.norm() <= (x - mean).square().sum(dim=1).mean().sqrt():
        mean = torch.zeros_like(mean)
    layers = [
        (draw_normal(i, o, generator=generator, like=x) / math.sqrt(i), x.new_zeros(o))
        for i, o in itertools.pairwise([x.shape[1], hidden, n_scores])
    ]
    parameters = [tensor.requires_grad_() for layer in layers for tensor in layer]

    def loss(step: int) -> Tensor:
        fit = cross_entropy(run_layers(layers, x - mean), labels, reduction="sum")
        return (fit + penalty / 2 * sum(W.square().sum() for W, _ in layers)) / len(x)

    descend(loss, parameters, 500, 1e-2)
    (W, b), last = layers
    return [(W, b - mean @ W), last]


def draw_control_labels(types: Integer[Tensor, "n"], labels: Labels, seed: int = 0) -> Labels:
    """Draw the labels of a control task: rows of one type get one label, whatever theirs are.

    A type is a token, say. Its label is drawn from all `labels`.

    >>> types, labels = torch.tensor([5, 7, 5, 7, 9]), torch.tensor([0, 1, 1, 0, 1])
    >>> control = draw_control_labels(types, labels)
    >>> bool(control[0] == control[2]), bool(control[1] == control[3])
    (True, True)
    """
    if types.shape != labels.shape or types.ndim != 1 or not len(types):
        given = f"types are {tuple(types.shape)} and labels {tuple(labels.shape)}"
        raise ValueError(f"{given}, but must be one per row: (n,)")
    generator = torch.Generator().manual_seed(seed)
    which = types.unique(return_inverse=True)[1]
    drawn = torch.randint(len(labels), (int(which.max()) + 1,), generator=generator, device="cpu")
    return labels[drawn.to(labels.device)][which.to(labels.device)]


def measure_selectivity(
    activations: Activations,
    labels: Labels,
    types: Integer[Tensor, "n"],
    hidden: int | None = None,
    penalty: float | int = 1.0,
    seed: int = 0,
) -> float:
    """Measure accuracy on a held-out half, minus that of such a probe on the control task.

    `types` are those of `draw_control_labels`. The half that trains holds every class: a class of
    one row is in it, and not in the other. ValueError for more classes than half of the rows.

    >>> noise = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    >>> labels, types = (noise[:, 0] > 0).long(), torch.arange(400)
    >>> measure_selectivity(noise, labels, types) > 0.3  # control labels cannot be learned
    True
    """
    labels, _ = check_labels(activations, labels)
    # A class may be missing from the control task, and is not counted there.
    control = draw_control_labels(types, labels, seed).unique(return_inverse=True)[1]
    if not control.any():
        raise ValueError(
            "the control task came out with one class only: give more types, or another seed"
        )
    train, test = split_halves(torch.stack([labels, control]).cpu(), seed)
    own, other = (
        fit_probe(activations[train], target[train], hidden, penalty, seed).accuracy(
            activations[test], target[test]
        )
        for target in (labels, control)
    )
    return own - other


def split_halves(targets: Integer[Tensor, "target n"], seed: int) -> tuple[Tensor, Tensor]:
    """Split rows into random halves, the first of which holds every class of every target."""
    n = targets.shape[1]
    half = (n + 1) // 2
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    needed = torch.zeros(n, dtype=torch.bool, device="cpu")
    for target in targets[:, order]:
        for c in range(int(target.max()) + 1):
            needed[(target == c).nonzero()[0]] = True
    if int(needed.sum()) > half:
        given = f"the training half of the {n} rows has {half}"
        raise ValueError(
            f"{given}, but must hold {int(needed.sum())} for one of each class: give more"
        )
    first = torch.zeros(n, dtype=torch.bool, device="cpu")
    first[(~needed).int().argsort(stable=True)[:half]] = True
    return order[first], order[~first]
