"""Methods that find a steering vector and a hook: from activations, or with the model; trivial."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mini_transformer import methods
from mini_transformer.board.problem import Method
from mini_transformer.hooks import HookPoint
from mini_transformer.model import Transformer

__all__ = ["ENTRANTS", "REFERENCES", "measure_separation", "steer_by_means", "steer_by_probe"]

Activations = Mapping[str, Tensor]  # by hook


def steer_by_means(positive: Activations, negative: Activations) -> tuple[Tensor, str]:
    """Return the difference in means, at the hook where it is largest for the spread."""
    hook = max(positive, key=lambda hook: measure_separation(positive[hook], negative[hook]))
    return positive[hook].mean(dim=0) - negative[hook].mean(dim=0), hook


def steer_by_probe(positive: Activations, negative: Activations) -> tuple[Tensor, str]:
    """Return a linear probe's direction at that hook, as long as the difference in means."""
    vector, hook = steer_by_means(positive, negative)
    both = torch.cat([negative[hook], positive[hook]])
    labels = (torch.arange(len(both)) >= len(negative[hook])).long()
    direction = methods.fit_probe(both, labels).directions[0]
    return direction / direction.norm() * vector.norm(), hook


def follow_gradient(
    positive: Activations,
    negative: Activations,
    model: Transformer | None = None,
    positive_prompts: Tensor | None = None,
    negative_prompts: Tensor | None = None,
) -> tuple[Tensor, str]:
    """Return the direction that raises the odds of the answers which positive prompts get.

    Those are the answers that positive prompts get more often than negative ones. The gradient is
    summed over all prompts. Without a model this is the difference in means.
    """
    vector, hook = steer_by_means(positive, negative)
    if model is None or positive_prompts is None or negative_prompts is None:
        return vector, hook
    kept: list[Tensor] = []

    def keep(value: Tensor, point: HookPoint) -> Tensor:
        kept.append(value.detach().requires_grad_())
        return kept[0]

    prompts = torch.cat([positive_prompts, negative_prompts])
    with torch.enable_grad():
        said = model.run_with_hooks(prompts, fwd_hooks=[(hook, keep)])[:, -1].softmax(dim=1)
        first, second = said.detach().split([len(positive_prompts), len(negative_prompts)])
        wanted = first.mean(dim=0) > second.mean(dim=0)
        share = said[:, wanted].sum(dim=1).clamp(1e-6, 1 - 1e-6)
        gradient = torch.autograd.grad((share / (1 - share)).log().sum(), kept[0])[0]
    along = torch.nn.functional.normalize(gradient.sum(dim=(0, 1)), dim=0)
    return along * vector.norm(), hook


def measure_separation(positive: Tensor, negative: Tensor) -> float:
    """Measure the squared distance of the means over the spread around them."""
    spread = (positive.var(dim=0, correction=0) + negative.var(dim=0, correction=0)).sum()
    distance = (positive.mean(dim=0) - negative.mean(dim=0)).square().sum()
    return (distance / (spread + 1e-6)).item()


ENTRANTS: dict[str, Method] = {
    "probe_direction": steer_by_probe,
    "gradient": follow_gradient,
    "mean_difference": steer_by_means,
}


def change_means(change: Callable[[Tensor, Tensor], Tensor]) -> Method:
    """Make the method that finds its vector from both classes at the hook of `steer_by_means`."""

    def steer(positive: Activations, negative: Activations) -> tuple[Tensor, str]:
        _, hook = steer_by_means(positive, negative)
        return change(positive[hook], negative[hook]), hook

    return steer


def keep_large(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the difference in means, with small coordinates set to zero."""
    apart = positive.mean(dim=0) - negative.mean(dim=0)
    return torch.where(apart.abs() > apart.abs().median(), apart, 0.0)


def compute_t(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the t statistic of each coordinate."""
    apart = positive.mean(dim=0) - negative.mean(dim=0)
    return apart / (positive.var(dim=0) + negative.var(dim=0)).sqrt()


def choose_coordinate(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the one coordinate with the largest t statistic."""
    t = compute_t(positive, negative)
    return torch.where(t.abs() == t.abs().max(), t, 0.0)


def find_loudest(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the first principal axis of all activations, towards the positive ones."""
    both = torch.cat([positive, negative])
    axis = torch.linalg.svd(both - both.mean(dim=0), full_matrices=False).Vh[0]
    return axis * ((positive.mean(dim=0) - negative.mean(dim=0)) @ axis)


def read_weights(
    positive: Activations, negative: Activations, model: Transformer | None = None
) -> tuple[Tensor, str]:
    """Return what the unembedding reads most strongly, at the last hook."""
    hook = list(positive)[-1]
    if model is None:
        return torch.ones(positive[hook].shape[1]), hook
    return torch.linalg.svd(model.W_U.detach(), full_matrices=False).U[:, 0], hook


REFERENCES: dict[str, Method] = {
    "median_difference": change_means(
        lambda positive, negative: positive.median(dim=0).values - negative.median(dim=0).values
    ),
    "large_coordinates": change_means(keep_large),
    "t_statistics": change_means(compute_t),
    "one_coordinate": change_means(choose_coordinate),
    "loudest_axis": change_means(find_loudest),
    "weights_only": read_weights,
    "constant": change_means(lambda positive, negative: torch.ones(positive.shape[1])),
}
