"""Gradients of a metric with respect to activations, for techniques that estimate effects."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import Metric, check_metric
from mini_transformer.methods.numerics import check_gradients

__all__ = ["differentiate", "find_slopes"]

# Run these prompts with these values at a site: logits (b, t, v).
Run = Callable[[slice, Sequence[Tensor]], Tensor]


def find_slopes(
    run: Run, values: Sequence[Tensor], metric: Metric, rows: int
) -> list[Float[Tensor, "batch ..."]]:
    """Find the gradient of the mean metric with respect to each of `values`.

    At most `rows` prompts are in one graph. The metric sees all prompts at once: first come its
    slopes in their logits, then those of the logits, part by part.
    """
    parts = [slice(start, start + rows) for start in range(0, len(values[0]), rows)]
    with torch.no_grad():
        logits = torch.cat([run(part, [value[part] for value in values]) for part in parts])
    found = []
    with torch.enable_grad():
        (slope,) = differentiate(check_metric(metric, logits.requires_grad_()), [logits])
        for part in parts:
            leaves = [value[part].clone().requires_grad_() for value in values]
            own = run(part, leaves)
            found.append(torch.autograd.grad(own, leaves, slope[part], materialize_grads=True))
    return [torch.cat(pieces) for pieces in zip(*found, strict=True)]


def differentiate(value: Float[Tensor, ""], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Differentiate the value with respect to each input; ValueError if it has no gradient."""
    check_gradients()
    found: Sequence[Tensor | None] = [None]
    if value.requires_grad:
        found = torch.autograd.grad(value, inputs, allow_unused=True)
    if all(slope is None for slope in found):
        fix = "use a logit difference or a probability, not an accuracy"
        raise ValueError(f"the metric has no gradient: {fix}")
    return [
        torch.zeros_like(x) if slope is None else slope
        for x, slope in zip(inputs, found, strict=True)
    ]
