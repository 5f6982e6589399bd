"""Methods that read a label: probes of activations, one that asks the model; trivial ones."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import methods
from mini_transformer.board.problem import Method
from mini_transformer.hooks import HookPoint
from mini_transformer.methods import Probe
from mini_transformer.model import Transformer

__all__ = ["ENTRANTS", "REFERENCES", "Reading", "ask_model", "find_class_means"]

BARELY = 0.5  # a reading of what the model reads that is below this share of the other is chance


@dataclass(frozen=True)
class Reading:
    """A probe that says whether the model uses what it reads; None if it does not know."""

    directions: Float[Tensor, "k d"]
    predict: Callable[[Tensor], Tensor]
    used: bool | None = None


@dataclass(frozen=True)
class NearestMean:
    """Predict the class whose mean is nearest, along `metric` if there is one."""

    means: Float[Tensor, "class d"]
    metric: Float[Tensor, "d d"] | None = None

    @property
    def directions(self) -> Tensor:
        """Return what is read: the class means, centred, in the metric."""
        centred = self.means - self.means.mean(dim=0)
        return centred if self.metric is None else centred @ self.metric

    def predict(self, activations: Tensor) -> Tensor:
        """Return the class of each activation."""
        W = self.directions.T
        middle = (self.means @ W).diagonal() / 2 + self.means.mean(dim=0) @ W / 2
        return (activations @ W - middle).argmax(dim=1)


def find_class_means(activations: Tensor, labels: Tensor) -> NearestMean:
    """Average the activations of each class."""
    means = [activations[labels == label].mean(dim=0) for label in range(int(labels.max()) + 1)]
    return NearestMean(torch.stack(means))


def discriminate(activations: Tensor, labels: Tensor) -> NearestMean:
    """Compare with the class means where the noise is white (Fisher 1936)."""
    means = find_class_means(activations, labels).means
    noise = torch.cov((activations - means[labels]).T)
    return NearestMean(means, torch.linalg.inv(noise))


def ask_model(
    activations: Tensor,
    labels: Tensor,
    model: Transformer | None = None,
    hook: str | None = None,
    prompts: Tensor | None = None,
) -> Reading:
    """Read along what the model reads, if the label is there; else as a linear probe does.

    What the model says most often with one label is that label's; the gradient of the odds that it
    says so, summed over prompts, is a direction that the model reads along.
    """
    probe = methods.fit_probe(activations, labels)
    if model is None or hook is None or prompts is None:
        return Reading(probe.directions, probe.predict)
    kept: list[Tensor] = []

    def keep(value: Tensor, point: HookPoint) -> Tensor:
        kept.append(value.detach().requires_grad_())
        return kept[0]

    with torch.enable_grad():
        said = model.run_with_hooks(prompts, fwd_hooks=[(hook, keep)])[:, -1].softmax(dim=1)
        each = torch.stack([said[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
        more = (each == each.amax(dim=0)).to(said).detach()
        share = (said @ more.T).clamp(1e-6, 1 - 1e-6)
        total = (share / (1 - share)).log().sum(dim=0)
        rows = [torch.autograd.grad(one, kept[0], retain_graph=True)[0] for one in total]
    along = torch.stack([row.sum(dim=(0, 1)) for row in rows])[: 1 if len(rows) == 2 else None]
    along = torch.nn.functional.normalize(along, dim=1)
    own = methods.fit_probe(activations @ along.T, labels)
    chance = labels.bincount().max() / len(labels)
    gained, can_be = (
        (one.predict(x) == labels).double().mean() - chance
        for one, x in ((own, activations @ along.T), (probe, activations))
    )
    if gained < BARELY * can_be:
        return Reading(probe.directions, probe.predict, used=False)
    ((W, b),) = own.layers
    whole = Probe(((along.T @ W, b),))
    return Reading(whole.directions, whole.predict, used=True)


ENTRANTS: dict[str, Method] = {
    "discriminant": discriminate,
    "ask_model": ask_model,
    "linear": methods.fit_probe,
    "class_means": find_class_means,
}


def keep_large(activations: Tensor, labels: Tensor) -> NearestMean:
    """Compare with the class means, small coordinates of their differences set to zero."""
    means = find_class_means(activations, labels).means
    apart = means - means.mean(dim=0)
    large = apart.abs() > apart.abs().median()
    return NearestMean(means.mean(dim=0) + torch.where(large, apart, 0.0))


def read_coordinate(activations: Tensor, labels: Tensor) -> NearestMean:
    """Read the one coordinate with the largest F statistic."""
    means = find_class_means(activations, labels).means
    spread = (activations - means[labels]).square().mean(dim=0)
    best = (means.var(dim=0) / spread).argmax()
    return NearestMean(means, torch.diag(torch.eye(len(spread))[best]))


def weigh_coordinates(activations: Tensor, labels: Tensor) -> NearestMean:
    """Compare with the class means, each coordinate in units of its own spread (naive Bayes)."""
    means = find_class_means(activations, labels).means
    return NearestMean(means, torch.diag(1 / (activations - means[labels]).var(dim=0)))


def read_loudest(activations: Tensor, labels: Tensor) -> NearestMean:
    """Read that of the five principal axes along which the classes differ most."""
    means = find_class_means(activations, labels).means
    axes = torch.linalg.svd(activations - activations.mean(dim=0), full_matrices=False).Vh[:5]
    spread = ((activations - means[labels]) @ axes.T).square().mean(dim=0)
    axis = axes[((means @ axes.T).var(dim=0) / spread).argmax()]
    return NearestMean(means, torch.outer(axis, axis))


def find_nearest_rows(activations: Tensor, labels: Tensor) -> Reading:
    """Predict what most of the five nearest activations are."""

    def predict(x: Tensor) -> Tensor:
        near = torch.cdist(x, activations).topk(5, largest=False).indices
        return labels[near].mode(dim=1).values

    return Reading(find_class_means(activations, labels).directions, predict)


REFERENCES: dict[str, Method] = {
    "constant": lambda activations, labels: Reading(
        torch.ones(1, activations.shape[1]), lambda x: labels.mode().values.expand(len(x))
    ),
    "one_coordinate": read_coordinate,
    "weighed_coordinates": weigh_coordinates,
    "large_coordinates": keep_large,
    "loudest_axis": read_loudest,
    "nearest_rows": find_nearest_rows,
}
