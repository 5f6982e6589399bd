"""Gradient descent for techniques that fit something: tensors in, the same tensors changed, and no trace in the model.

Gradients are taken of the fitted tensors only, so nothing piles up in a model that the loss runs through.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mini_transformer.methods.arguments import check_gradients

Loss = Callable[[int], Tensor]  # number of the step to a loss


def descend(
    loss: Loss,
    parameters: Sequence[Tensor],
    steps: int,
    lr: float | int,
    after: Callable[[int], object] = lambda step: None,
) -> float:
    """Change `parameters` in place by Adam (Kingma & Ba 2014) to lower the loss; returns the loss of the last step.

    The rate falls linearly to zero over the last half. `after(step)` runs after every update, without gradients. ValueError
    where the loss is not finite, and under torch.inference_mode.

    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> descend(lambda step: ((x - 1) ** 2).sum(), [x], steps=500, lr=0.1) < 1e-4
    True
    """
    if steps < 1 or not lr > 0:
        raise ValueError(f"steps is {steps} and lr {lr}, but both must be positive")
    check_gradients()
    optimiser, value = torch.optim.Adam(parameters, lr=lr), float("nan")
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, 2 * (steps - step) / steps)
        with torch.enable_grad():
            here = loss(step)
        if not torch.isfinite(here):
            raise ValueError(
                f"the loss is {here.item()} at step {step}, but must be finite: try a lower lr than {lr}"
            )
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(here, parameters), strict=True
        ):
            parameter.grad = gradient
        optimiser.step()
        with torch.no_grad():
            after(step)
        value = here.item()
    return value
