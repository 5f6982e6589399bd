"""Entrants that are not a method of the package as it is: one in the board's signature, or a baseline that every method must beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mini_transformer import methods
from mini_transformer.board.families import NotApplicable
from mini_transformer.methods.edge_patching import patch_edges
from mini_transformer.methods.interchange import read_hook


def restore_edges(model, clean, corrupt, metric, ablation) -> Tensor:
    """What each edge brings back by itself; only another prompt's run can be restored from."""
    if ablation != "resample":
        raise NotApplicable
    return patch_edges(model, clean, corrupt, metric, ablation, direction="denoise")


def ablate_nodes(model, clean, corrupt, metric, ablation) -> dict[str, float]:
    """What the metric loses without each node; the board judges it as a circuit of nodes."""
    changes = methods.split_effects(model, clean, corrupt, metric, ablation)["total"]
    return {node: -change.item() for node, change in changes.items()}


@dataclass(frozen=True)
class Directions:
    """Directions as a dictionary whose codes are projections, in both signs."""

    W_dec: Tensor
    mean: Tensor

    def encode(self, activations: Tensor) -> Tensor:
        return ((activations - self.mean) @ torch.linalg.pinv(self.W_dec)).relu()


def find_principal_axes(activations: Tensor, n_features: int) -> Directions:
    """Principal axes in both signs, up to n_features: the baseline that knows no sparsity."""
    mean = activations.mean(dim=0)
    axes = torch.linalg.svd(activations - mean, full_matrices=False)[2]
    return Directions(torch.cat([axes, -axes])[:n_features], mean)


def find_independent_axes(activations: Tensor, n_features: int) -> Directions:
    """Independent components (FastICA; Hyvarinen & Oja 2000) in both signs: no more of them than dimensions."""
    from sklearn.decomposition import FastICA

    ica = FastICA(
        min(n_features, activations.shape[1]),
        random_state=0,
        tol=1e-3,
        max_iter=400,
        whiten="unit-variance",
    )
    ica.fit(activations.numpy())
    axes = torch.nn.functional.normalize(torch.from_numpy(ica.mixing_.T).to(activations), dim=1)
    return Directions(torch.cat([axes, -axes])[:n_features], activations.mean(dim=0))


@dataclass(frozen=True)
class NearestMean:
    """Predicts the class whose mean is nearest; its directions are the class means, centred."""

    means: Tensor

    @property
    def directions(self) -> Tensor:
        return self.means - self.means.mean(dim=0)

    def predict(self, activations: Tensor) -> Tensor:
        return torch.cdist(activations, self.means).argmin(dim=1)


def find_class_means(activations: Tensor, labels: Tensor) -> NearestMean:
    """The probe without training."""
    return NearestMean(
        torch.stack([activations[labels == label].mean(dim=0) for label in labels.unique()])
    )


def align(model, hook, pairs, boundless: bool = False) -> Tensor:
    """DAS; the boundless form finds out by itself how many directions it takes."""
    where: dict[str, Any] = {"position": pairs.position, "answer_position": pairs.answer_position}
    given = model, pairs.base, pairs.source, pairs.answers, hook
    if boundless:
        return methods.align_subspace_boundless(*given, **where)
    return methods.align_subspace(*given, dim=pairs.dim, **where)


def find_varying_axes(model, hook, pairs) -> Tensor:
    """The principal axes of the differences between source and base: what varies most."""
    own, other = read_hook(model, pairs.base, pairs.source, hook, pairs.position)
    return torch.linalg.svd(other - own, full_matrices=False)[2][: pairs.dim]


def steer_by_means(
    positive: Mapping[Any, Tensor], negative: Mapping[Any, Tensor]
) -> tuple[Tensor, Any]:
    """The difference in means, where it is largest for the spread around them."""
    hook = max(positive, key=lambda hook: measure_separation(positive[hook], negative[hook]))
    return positive[hook].mean(dim=0) - negative[hook].mean(dim=0), hook


def steer_by_probe(
    positive: Mapping[Any, Tensor], negative: Mapping[Any, Tensor]
) -> tuple[Tensor, Any]:
    """The direction of a linear probe at the same hook, as long as the difference in means."""
    vector, hook = steer_by_means(positive, negative)
    both = torch.cat([negative[hook], positive[hook]])
    labels = (torch.arange(len(both)) >= len(negative[hook])).long()
    direction = methods.train_probe(both, labels).directions[0]
    return direction / direction.norm() * vector.norm(), hook


def measure_separation(positive: Tensor, negative: Tensor) -> float:
    spread = (positive.var(dim=0, correction=0) + negative.var(dim=0, correction=0)).sum()
    return ((positive.mean(dim=0) - negative.mean(dim=0)).square().sum() / (spread + 1e-6)).item()
