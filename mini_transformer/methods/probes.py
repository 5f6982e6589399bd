"""Probes: predict a label from activations, and ask whether the probe found it there or learned it itself.

A linear probe is a logistic regression: sum of cross-entropies + penalty / 2 * |W|^2. High accuracy says that a label can
be read, not that the model reads it (`ablate_directions` and `swap_subspace` ask that), and a strong probe can learn labels that the
activations hold only as the identity of a token. Hence the control task: every type of input gets a random label, and
selectivity = accuracy - accuracy on the control task. Sources: Alain & Bengio 2016 (1610.01644); Hewitt & Liang 2019
(1909.03368), sections 2 and 3.

Checked against: scikit-learn's LogisticRegression, labels that are planted or random, and a hand-set variable.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.methods.descent import descend

Activations = Float[Tensor, "n d"]
Labels = Int[Tensor, "n"]
ProbeKind = Literal["linear", "mlp"]


@dataclass(frozen=True)
class Probe:
    """Layers (W, b) with ReLU between them; the last gives one score per class, or (n, 1) for two classes: that of 1."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def directions(self) -> Float[Tensor, "class d"]:
        """What a linear probe reads, one row per class (two classes: one row, pointing to class 1)."""
        if len(self.layers) > 1:
            raise ValueError(f"this probe has {len(self.layers)} layers, but only a linear one has directions")
        return self.layers[0][0].T

    def score(self, activations: Activations) -> Float[Tensor, "n class"]:
        """One score per class, up to a constant per row; the softmax gives probabilities."""
        width = self.layers[0][0].shape[0]
        if activations.ndim != 2 or activations.shape[1] != width:
            raise ValueError(f"activations are {tuple(activations.shape)}, but the probe reads (n, {width})")
        x = activations
        for i, (W, b) in enumerate(self.layers):
            x = (x if i == 0 else x.relu()) @ W + b
        return torch.cat([torch.zeros_like(x), x], dim=1) if x.shape[1] == 1 else x

    def predict(self, activations: Activations) -> Labels:
        """The class with the highest score."""
        return self.score(activations).argmax(dim=1)

    def accuracy(self, activations: Activations, labels: Labels) -> float:
        """Share of rows in which the predicted class is the label."""
        check_activations(activations)
        if labels.shape != activations.shape[:1]:
            raise ValueError(
                f"there are {len(activations)} activations, but labels are {tuple(labels.shape)}: one for each"
            )
        return (self.predict(activations) == labels).float().mean().item()


def train_probe(
    activations: Activations,
    labels: Labels,
    kind: ProbeKind = "linear",
    penalty: float = 1.0,
    width: int = 32,
    seed: int = 0,
) -> Probe:
    """A probe for labels 0, 1, ... from activations; "mlp" has one hidden layer of `width`, started from `seed`.

    The linear one is the unique optimum for the penalty, up to 1e-6 or so. ValueError for labels that do not fit, are not
    all of 0 to the highest, or are of one class only.

    >>> x = torch.tensor([[-2.0, 0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    >>> train_probe(x, torch.tensor([0, 0, 1, 1])).predict(torch.tensor([[-9.0, 5.0], [9.0, 5.0]])).tolist()
    [0, 1]
    """
    n_classes = check_labels(activations, labels)
    if kind not in ("linear", "mlp"):
        raise ValueError(f"probe kind is {kind!r}, but must be 'linear' or 'mlp'")
    if not penalty > 0 or width < 1:
        raise ValueError(f"penalty is {penalty} and width {width}, but both must be positive")
    x, dtype, d = activations.detach().double(), activations.dtype, activations.shape[1]
    sizes = [d, n_classes - (n_classes == 2)] if kind == "linear" else [d, width, n_classes - (n_classes == 2)]
    generator = torch.Generator().manual_seed(seed)
    layers = [(torch.zeros(i, o).double(), torch.zeros(o).double()) for i, o in itertools.pairwise(sizes)]
    if kind == "mlp":
        layers = [(torch.randn(W.shape, generator=generator).double() / math.sqrt(len(W)), b) for W, b in layers]
    parameters = [tensor.requires_grad_() for layer in layers for tensor in layer]

    def loss(step: int = 0) -> Tensor:
        fit = torch.nn.functional.cross_entropy(Probe(tuple(layers)).score(x), labels.long(), reduction="sum")
        return (fit + penalty / 2 * sum(W.square().sum() for W, _ in layers)) / len(x)

    descend(loss, parameters, 500, 1e-2) if kind == "mlp" else solve(loss, parameters)
    return Probe(tuple((W.detach().to(dtype), b.detach().to(dtype)) for W, b in layers))


def solve(loss, parameters: list[Tensor]) -> None:
    """Minimise a smooth convex loss (L-BFGS, Liu & Nocedal 1989)."""
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        with torch.enable_grad():
            value = loss()
        for parameter, gradient in zip(parameters, torch.autograd.grad(value, parameters), strict=True):
            parameter.grad = gradient
        return value

    optimiser.step(closure)


def draw_control_labels(types: Int[Tensor, "n"], labels: Labels, seed: int = 0) -> Labels:
    """The control task: rows of one type (one token, say) get one label, drawn for that type from all `labels`.

    >>> control = draw_control_labels(torch.tensor([5, 7, 5, 7, 9]), torch.tensor([0, 1, 1, 0, 1]))
    >>> bool(control[0] == control[2]), bool(control[1] == control[3])
    (True, True)
    """
    if types.shape != labels.shape or types.ndim != 1 or not len(types):
        raise ValueError(
            f"types are {tuple(types.shape)} and labels {tuple(labels.shape)}, but must be one per row: (n,)"
        )
    which = types.unique(return_inverse=True)[1]
    drawn = torch.randint(len(labels), (int(which.max()) + 1,), generator=torch.Generator().manual_seed(seed))
    return labels[drawn][which]


def measure_selectivity(
    activations: Activations,
    labels: Labels,
    types: Int[Tensor, "n"],
    kind: ProbeKind = "linear",
    penalty: float = 1.0,
    seed: int = 0,
) -> float:
    """Accuracy on a held-out half, minus that of the same kind of probe on the control task (types as there).

    >>> noise = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    >>> measure_selectivity(noise, (noise[:, 0] > 0).long(), torch.arange(400)) > 0.3  # control labels cannot be learned
    True
    """
    check_labels(activations, labels)
    control, accuracies = draw_control_labels(types, labels, seed), []
    train, test = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).chunk(2)
    for target in (labels, control):
        classes, target = target.unique(return_inverse=True)  # a class may be missing from the control task
        if len(classes) == 1:
            raise ValueError("the control task came out with one class only: give more types, or another seed")
        probe = train_probe(activations[train], target[train], kind, penalty, seed=seed)
        accuracies.append(probe.accuracy(activations[test], target[test]))
    return accuracies[0] - accuracies[1]


def check_activations(activations: Tensor, what: str = "activations") -> None:
    """ValueError unless there is at least one row of floats."""
    if not activations.is_floating_point() or activations.ndim != 2 or not len(activations):
        given = f"{activations.dtype} {tuple(activations.shape)}"
        raise ValueError(f"{what} are {given}, but must be floats of shape (n, d), with at least one row")
    if not activations.isfinite().all():
        raise ValueError(f"{what} {tuple(activations.shape)} hold numbers that are not finite")


def check_labels(activations: Tensor, labels: Tensor) -> int:
    """The number of classes; ValueError unless every row has a label and each of 0, 1, ... is one."""
    check_activations(activations)
    if labels.is_floating_point() or labels.shape != activations.shape[:1]:
        given = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(
            f"labels are {given}, but must be one integer per row of the activations: ({len(activations)},)"
        )
    classes = labels.unique()
    if len(classes) < 2:
        raise ValueError(f"all labels are {int(classes[0])}, but at least two classes are needed")
    if not torch.equal(classes, torch.arange(len(classes), dtype=classes.dtype)):
        raise ValueError(
            f"the labels are {classes.tolist()[:6]}, but must count from 0: use labels.unique(return_inverse=True)"
        )
    return len(classes)
