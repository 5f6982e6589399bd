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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.methods.arguments import (
    Labels,
    check_gradients,
    draw_normal,
    make_ordinary,
    meet,
    read_labels,
    widen,
    without_autocast,
)
from mini_transformer.methods.descent import descend
from mini_transformer.tensors import copy_fields

Activations = Float[Tensor, "n d"]
Layers = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Probe:
    """Layers (W, b) with ReLU between them; the last gives one score per class, or (n, 1) for two classes: that of 1."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    def __post_init__(self) -> None:
        copy_fields(self)

    @property
    def directions(self) -> Float[Tensor, "class d"]:
        """What a linear probe reads, one row per class (two classes: one row, pointing to class 1)."""
        if len(self.layers) > 1:
            raise ValueError(
                f"this probe has {len(self.layers)} layers, but only a linear one has directions"
            )
        return self.layers[0][0].T.clone()  # an edit of it must not change the probe

    def score(self, activations: Activations) -> Float[Tensor, "n class"]:
        """One score per class, up to a constant per row; the softmax gives probabilities."""
        return self.compute_scores(activations).to(activations.dtype)

    def predict(self, activations: Activations) -> Integer[Tensor, "n"]:
        """The class with the highest score."""
        return self.compute_scores(activations).argmax(dim=1)

    @without_autocast()
    def compute_scores(self, activations: Activations) -> Float[Tensor, "n class"]:
        """The scores in the wider of both dtypes, where classes tie less often."""
        width = self.layers[0][0].shape[0]
        if activations.ndim != 2 or activations.shape[1] != width:
            raise ValueError(
                f"activations are {tuple(activations.shape)}, but the probe reads (n, {width})"
            )
        x, *weights = meet(activations, *itertools.chain(*self.layers))
        return run_layers(list(zip(weights[::2], weights[1::2], strict=True)), x)

    def accuracy(self, activations: Activations, labels: Labels) -> float:
        """Share of rows in which the predicted class is the label."""
        check_activations(activations)
        if labels.shape != activations.shape[:1]:
            raise ValueError(
                f"there are {len(activations)} activations, but labels are {tuple(labels.shape)}: one for each"
            )
        return (self.predict(activations) == labels.to(activations.device)).float().mean().item()


def run_layers(layers: Layers, x: Tensor) -> Float[Tensor, "n class"]:
    """The scores of activations; two classes have a zero beside their only one."""
    for i, (W, b) in enumerate(layers):
        x = (x if i == 0 else x.relu()) @ W + b
    return torch.cat([torch.zeros_like(x), x], dim=1) if x.shape[1] == 1 else x


@without_autocast()
def train_probe(
    activations: Activations,
    labels: Labels,
    hidden: int | None = None,
    penalty: float | int = 1.0,
    seed: int = 0,
) -> Probe:
    """Train a probe for labels 0, 1, ... from activations.

    It is linear, or, with a number in `hidden`, has one hidden layer of that width, started from `seed`.
    The linear one is the unique optimum for the penalty, up to 1e-6 or so, whatever the activations' mean and scale.
    Labels may be bool. ValueError for labels that do not fit, are not all of 0 to the highest, or are of one class only.

    >>> x = torch.tensor([[-2.0, 0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    >>> train_probe(x, torch.tensor([0, 0, 1, 1])).predict(torch.tensor([[-9.0, 5.0], [9.0, 5.0]])).tolist()
    [0, 1]
    """
    check_gradients()
    labels, n_classes = check_labels(activations, labels)
    if hidden is not None and (not isinstance(hidden, Integral) or hidden < 1):
        raise ValueError(
            f"hidden is {hidden!r}, but must be None (linear) or a width of at least 1"
        )
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalty is {penalty}, but must be positive and finite")
    x, dtype = make_ordinary(activations.detach()).double(), widen(activations[:0]).dtype
    n_scores = n_classes - (n_classes == 2)
    if hidden is None:
        layers = solve(x, labels, n_scores, penalty)
    else:
        layers = fit_mlp(x, labels, n_scores, penalty, hidden, seed)
    return Probe(tuple((W.detach().to(dtype), b.detach().to(dtype)) for W, b in layers))


def fit_mlp(
    x: Activations, labels: Tensor, n_scores: int, penalty: float | int, hidden: int, seed: int
) -> Layers:
    """Descend on the same loss from random weights; a mean beyond the spread is taken out first, and folded into the bias."""
    generator, d = torch.Generator().manual_seed(seed), x.shape[1]
    mean = x.mean(dim=0)
    if mean.norm() <= (x - mean).square().sum(dim=1).mean().sqrt():
        mean = torch.zeros_like(mean)
    layers = [
        (draw_normal(i, o, generator=generator, like=x) / math.sqrt(i), x.new_zeros(o))
        for i, o in itertools.pairwise([d, hidden, n_scores])
    ]
    parameters = [tensor.requires_grad_() for layer in layers for tensor in layer]

    def loss(step: int) -> Tensor:
        fit = torch.nn.functional.cross_entropy(
            run_layers(layers, x - mean), labels, reduction="sum"
        )
        return (fit + penalty / 2 * sum(W.square().sum() for W, _ in layers)) / len(x)

    descend(loss, parameters, 500, 1e-2)
    (W, b), last = layers
    return [(W, b - mean @ W), last]


def solve(x: Activations, labels: Tensor, n_scores: int, penalty: float | int) -> Layers:
    """The optimum of a linear probe by Newton's method (Boyd & Vandenberghe 2004, section 9.5).

    It runs on centred activations, along their principal axes, each scaled so that its second derivative is about 1.
    The penalty sees the weights as they are without that.
    """
    mean = x.mean(dim=0)
    left = x - mean
    largest = left.abs().max().clamp(min=torch.finfo(x.dtype).tiny)
    _, S, axes = torch.linalg.svd(torch.linalg.qr(left / largest, mode="r").R, full_matrices=False)
    curvature = (S * largest).square() / 4
    scale = 1 / (curvature + penalty).sqrt()
    inputs = torch.cat(
        [left @ axes.T * scale, x.new_full((len(x), 1), 2 / math.sqrt(len(x)))], dim=1
    )
    shrink = torch.cat([penalty * scale.square(), x.new_zeros(1)])[
        :, None
    ]  # the bias has no penalty
    theta = x.new_zeros(inputs.shape[1], n_scores)

    def compute_margins(theta: Tensor) -> Tensor:
        """Each score less that of the true class, so that what is nearly certain is not rounded to certain."""
        scores = run_layers([(theta, x.new_zeros(n_scores))], inputs)
        return scores - scores.gather(1, labels[:, None])

    def compute_loss(theta: Tensor) -> Tensor:
        others = compute_margins(theta).scatter(1, labels[:, None], -math.inf).logsumexp(dim=1)
        return torch.nn.functional.softplus(others).sum() + (shrink * theta.square()).sum() / 2

    first = 0.0
    for _ in range(200):
        p = compute_margins(theta).softmax(dim=1)
        wrong = p.scatter(1, labels[:, None], 0.0)
        residual = wrong - torch.zeros_like(p).scatter(
            1, labels[:, None], wrong.sum(dim=1, keepdim=True)
        )
        gradient = inputs.T @ residual[:, -n_scores:] + shrink * theta

        def curve(v: Tensor, p: Tensor = p) -> Tensor:
            change = p * compute_margins(v)
            change = change - p * change.sum(dim=1, keepdim=True)
            curved = inputs.T @ change[:, -n_scores:] + shrink * v
            # A change that all classes share changes no probability: it stays at zero.
            return curved + v.mean(dim=1, keepdim=True) if n_scores > 1 else curved

        first = first or gradient.norm().item()
        step = solve_conjugate(
            curve, -gradient, min(0.1, max(1e-8, gradient.norm().item() / (first or 1.0)))
        )
        drop, here, share = -(gradient * step).sum(), compute_loss(theta), 1.0
        while (
            compute_loss(theta + share * step) > here - 1e-4 * share * drop + 1e-13 * here
            and share > 1e-9
        ):
            share /= 2
        theta = theta + share * step
        if drop <= 1e-13 * here:  # twice what the loss could still fall, before this step
            W = axes.T @ (scale[:, None] * theta[:-1])
            return [(W, theta[-1] * inputs[0, -1] - mean @ W)]
    raise ValueError(
        f"the probe's loss is {float(here):.4g} and still falls after 200 steps: give a penalty above {penalty}"
    )


def solve_conjugate(apply: Callable[[Tensor], Tensor], target: Tensor, share: float) -> Tensor:
    """Solve apply(step) = target by conjugate gradients (Hestenes & Stiefel 1952), until this share of it is left."""
    step, left = torch.zeros_like(target), target.clone()
    direction, size = left, left.square().sum().item()
    goal = share**2 * size
    for _ in range(2 * target.numel() + 10):
        if size <= goal or size == 0:
            break
        curved = apply(direction)
        bend = (direction * curved).sum().item()
        if bend <= 0:
            break
        step, left = step + size / bend * direction, left - size / bend * curved
        size, before = left.square().sum().item(), size
        direction = left + size / before * direction
    return step


def draw_control_labels(types: Integer[Tensor, "n"], labels: Labels, seed: int = 0) -> Labels:
    """The control task: rows of one type (one token, say) get one label, drawn for that type from all `labels`.

    >>> control = draw_control_labels(torch.tensor([5, 7, 5, 7, 9]), torch.tensor([0, 1, 1, 0, 1]))
    >>> bool(control[0] == control[2]), bool(control[1] == control[3])
    (True, True)
    """
    if types.shape != labels.shape or types.ndim != 1 or not len(types):
        raise ValueError(
            f"types are {tuple(types.shape)} and labels {tuple(labels.shape)}, but must be one per row: (n,)"
        )
    which, generator = types.unique(return_inverse=True)[1], torch.Generator().manual_seed(seed)
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
    """Accuracy on a held-out half, minus that of such a probe on the control task (types as there).

    The half that trains holds every class: a class of one row is in it, and not in the other. ValueError for more classes than
    half of the rows.

    >>> noise = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    >>> measure_selectivity(noise, (noise[:, 0] > 0).long(), torch.arange(400)) > 0.3  # control labels cannot be learned
    True
    """
    labels, _ = check_labels(activations, labels)
    # A class may be missing from the control task, and is not counted there.
    targets = [labels, draw_control_labels(types, labels, seed).unique(return_inverse=True)[1]]
    if not targets[1].any():
        raise ValueError(
            "the control task came out with one class only: give more types, or another seed"
        )
    accuracies, (train, test) = [], split_halves(torch.stack(targets).cpu(), seed)
    for target in targets:
        probe = train_probe(activations[train], target[train], hidden, penalty, seed)
        accuracies.append(probe.accuracy(activations[test], target[test]))
    return accuracies[0] - accuracies[1]


def split_halves(targets: Integer[Tensor, "target n"], seed: int) -> tuple[Tensor, Tensor]:
    """Two random halves of the rows, the first of which holds every class of every target."""
    n, half = targets.shape[1], (targets.shape[1] + 1) // 2
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    needed = torch.zeros(n, dtype=torch.bool, device="cpu")
    for target in targets[:, order]:
        for c in range(int(target.max()) + 1):
            needed[(target == c).nonzero()[0]] = True
    if int(needed.sum()) > half:
        raise ValueError(
            f"the training half of the {n} rows has {half}, but must hold {int(needed.sum())} for one of each class: give more"
        )
    first = torch.zeros(n, dtype=torch.bool, device="cpu")
    first[(~needed).int().argsort(stable=True)[:half]] = True
    return order[first], order[~first]


def check_activations(activations: Tensor, what: str = "activations") -> None:
    """ValueError unless there is at least one row of floats, and one column."""
    if not activations.is_floating_point() or activations.ndim != 2 or not len(activations):
        given = f"{activations.dtype} {tuple(activations.shape)}"
        raise ValueError(
            f"{what} are {given}, but must be floats of shape (n, d), with at least one row"
        )
    if not activations.shape[1]:
        raise ValueError(
            f"{what} are {tuple(activations.shape)}, rows without numbers: give at least one column"
        )
    if not activations.isfinite().all():
        raise ValueError(f"{what} {tuple(activations.shape)} hold numbers that are not finite")


def check_labels(activations: Tensor, labels: Tensor) -> tuple[Integer[Tensor, "n"], int]:
    """The labels as int64 beside the activations, and the number of classes; ValueError as in `read_labels`."""
    check_activations(activations)
    return read_labels(activations, labels)
