"""Logistic regression to its optimum, whatever the mean and the scale of the inputs.

The loss is the sum of cross-entropies + penalty / 2 * |W|^2, which has one minimum. Newton's method
(Boyd & Vandenberghe 2004, section 9.5) finds it; conjugate gradients find each step.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["Layers", "run_layers", "solve"]

Layers = Sequence[tuple[Tensor, Tensor]]


def run_layers(layers: Layers, x: Tensor) -> Float[Tensor, "n class"]:
    """Compute the scores of activations; two classes have a zero beside their only one."""
    for i, (W, b) in enumerate(layers):
        x = (x if i == 0 else x.relu()) @ W + b
    return torch.cat([torch.zeros_like(x), x], dim=1) if x.shape[1] == 1 else x


def solve(
    x: Float[Tensor, "n d"], labels: Integer[Tensor, "n"], n_scores: int, penalty: float | int
) -> Layers:
    """Find the weights and biases of the optimum, as one layer.

    Inputs are centred, along their principal axes, and each is scaled so that its second derivative
    is about 1. The penalty sees the weights as they are without that.
    """
    n = len(x)
    mean = x.mean(dim=0)
    left = x - mean
    largest = left.abs().max().clamp(min=torch.finfo(x.dtype).tiny)
    _, S, axes = torch.linalg.svd(torch.linalg.qr(left / largest, mode="r").R, full_matrices=False)
    curvature = (S * largest).square() / 4
    scale = 1 / (curvature + penalty).sqrt()
    bias = 2 / math.sqrt(n)  # the last input, without a penalty
    inputs = torch.cat([left @ axes.T * scale, x.new_full((n, 1), bias)], dim=1)
    shrink = torch.cat([penalty * scale.square(), x.new_zeros(1)])[:, None]
    theta = x.new_zeros(inputs.shape[1], n_scores)

    def compute_margins(theta: Tensor) -> Tensor:
        """Subtract the true class's score, so that nearly certain is not rounded to certain."""
        scores = run_layers([(theta, x.new_zeros(n_scores))], inputs)
        return scores - scores.gather(1, labels[:, None])

    def compute_loss(theta: Tensor) -> Tensor:
        others = compute_margins(theta).scatter(1, labels[:, None], -math.inf).logsumexp(dim=1)
        return softplus(others).sum() + (shrink * theta.square()).sum() / 2

    first = 0.0
    for _ in range(200):
        p = compute_margins(theta).softmax(dim=1)
        wrong = p.scatter(1, labels[:, None], 0.0)
        true = wrong.sum(dim=1, keepdim=True)
        residual = wrong - torch.zeros_like(p).scatter(1, labels[:, None], true)
        gradient = inputs.T @ residual[:, -n_scores:] + shrink * theta

        def curve(v: Tensor, p: Tensor = p) -> Tensor:
            """Multiply by the second derivative at theta."""
            change = p * compute_margins(v)
            change = change - p * change.sum(dim=1, keepdim=True)
            curved = inputs.T @ change[:, -n_scores:] + shrink * v
            # A change that all classes share changes no probability: it stays at zero.
            return curved + v.mean(dim=1, keepdim=True) if n_scores > 1 else curved

        size = gradient.norm().item()
        first = first or size
        step = solve_conjugate(curve, -gradient, min(0.1, max(1e-8, size / (first or 1.0))))
        drop = -(gradient * step).sum()
        here = compute_loss(theta)
        share = choose_share(compute_loss, theta, step, here, drop)
        theta = theta + share * step
        if drop <= 1e-13 * here:  # twice what the loss could still fall, before this step
            W = axes.T @ (scale[:, None] * theta[:-1])
            return [(W, theta[-1] * inputs[0, -1] - mean @ W)]
    given = f"the probe's loss is {float(here):.4g} and still falls after 200 steps"
    raise ValueError(f"{given}: give a penalty above {penalty}")


def choose_share(
    compute_loss: Callable[[Tensor], Tensor],
    theta: Tensor,
    step: Tensor,
    here: Tensor,
    drop: Tensor,
) -> float:
    """Halve the step until the loss falls by a part of what the gradient promises."""
    share = 1.0
    while share > 1e-9:
        goal = here - 1e-4 * share * drop + 1e-13 * here
        if not compute_loss(theta + share * step) > goal:
            break
        share /= 2
    return share


def solve_conjugate(apply: Callable[[Tensor], Tensor], target: Tensor, share: float) -> Tensor:
    """Solve apply(step) = target by conjugate gradients, until this share of it is left.

    Source: Hestenes & Stiefel 1952.
    """
    step = torch.zeros_like(target)
    left = target.clone()
    direction = left
    size = left.square().sum().item()
    goal = share**2 * size
    for _ in range(2 * target.numel() + 10):
        if size <= goal or size == 0:
            break
        curved = apply(direction)
        bend = (direction * curved).sum().item()
        if bend <= 0:
            break
        step = step + size / bend * direction
        left = left - size / bend * curved
        before = size
        size = left.square().sum().item()
        direction = left + size / before * direction
    return step
