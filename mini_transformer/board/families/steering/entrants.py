"""Methods that find a steering vector and a hook, from activations alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mini_transformer import methods
from mini_transformer.board.problem import Method

__all__ = ["ENTRANTS", "measure_separation", "steer_by_means", "steer_by_probe"]

Activations = Mapping[Any, Tensor]  # by hook


def steer_by_means(positive: Activations, negative: Activations) -> tuple[Tensor, Any]:
    """Return the difference in means, at the hook where it is largest for the spread."""
    hook = max(positive, key=lambda hook: measure_separation(positive[hook], negative[hook]))
    return positive[hook].mean(dim=0) - negative[hook].mean(dim=0), hook


def steer_by_probe(positive: Activations, negative: Activations) -> tuple[Tensor, Any]:
    """Return a linear probe's direction at that hook, as long as the difference in means."""
    vector, hook = steer_by_means(positive, negative)
    both = torch.cat([negative[hook], positive[hook]])
    labels = (torch.arange(len(both)) >= len(negative[hook])).long()
    direction = methods.fit_probe(both, labels).directions[0]
    return direction / direction.norm() * vector.norm(), hook


def measure_separation(positive: Tensor, negative: Tensor) -> float:
    """Measure the squared distance of the means over the spread around them."""
    spread = (positive.var(dim=0, correction=0) + negative.var(dim=0, correction=0)).sum()
    distance = (positive.mean(dim=0) - negative.mean(dim=0)).square().sum()
    return (distance / (spread + 1e-6)).item()


ENTRANTS: dict[str, Method] = {
    "mean_difference": steer_by_means,
    "probe_direction": steer_by_probe,
}
