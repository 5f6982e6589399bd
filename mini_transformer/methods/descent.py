"""Minimise a loss over given tensors with Adam, in place.

Gradients are taken of the fitted tensors only, so they never accumulate in a model that the loss
runs through.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mini_transformer.methods.numerics import check_gradients

__all__ = ["Loss", "check_descent", "descend"]

Loss = Callable[[int], Tensor]  # number of the step to a loss


def descend(
    loss: Loss,
    parameters: Sequence[Tensor],
    steps: int,
    lr: float | int,
    after: Callable[[int], object] = lambda step: None,
) -> float:
    """Change `parameters` in place by Adam (Kingma & Ba 2014) to lower the loss.

    The rate falls linearly to zero over the last half. `after(step)` runs after every update,
    without gradients. Returned is the loss of the last step. ValueError where the loss is not
    finite, and under torch.inference_mode.

    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> descend(lambda step: ((x - 1) ** 2).sum(), [x], steps=500, lr=0.1) < 1e-4
    True
    """
    check_descent(steps, lr)
    check_gradients()
    optimizer = torch.optim.Adam(parameters, lr=lr)
    value = float("nan")
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 2 * (steps - step) / steps)
        with torch.enable_grad():
            here = loss(step)
        if not torch.isfinite(here):
            given = f"the loss is {here.item()} at step {step}"
            raise ValueError(f"{given}, but must be finite: try a lower lr than {lr}")
        gradients = torch.autograd.grad(here, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        with torch.no_grad():
            after(step)
        value = here.item()
    return value


def check_descent(steps: int, lr: float | int) -> None:
    """Raise ValueError unless there is a step, and its rate is positive and finite."""
    if steps < 1 or not 0 < lr < math.inf:
        raise ValueError(f"steps is {steps} and lr {lr}, but both must be positive")
