"""More features than dimensions, learned as directions that overlap.

x' = ReLU(W^T W x + b) stores sparse features. The toy models of Elhage et al. 2022 ("Toy Models of
Superposition", 2209.10652): a feature is 0 most of the time and otherwise uniform on [0, 1]; W
squeezes n features into d dimensions, its transpose reads them back, and the ReLU suppresses
interference. Many models are trained side by side, as one batch. Axes: i instance, f feature, d
hidden.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mini_transformer.hooks import HookedModule, HookPoint


class Autoencoders(HookedModule):
    """Independent autoencoders with tied weights, side by side: W (i, d, f) and b (i, f).

    >>> Autoencoders(n_instances=3, n_features=5, n_hidden=2)(torch.rand(3, 10, 5)).shape
    torch.Size([3, 10, 5])
    """

    def __init__(self, n_instances: int, n_features: int, n_hidden: int, seed: int = 0) -> None:
        super().__init__()
        self.config = {"n_instances": n_instances, "n_features": n_features, "n_hidden": n_hidden}
        for name, given in self.config.items():
            if not isinstance(given, int) or given < 1:
                raise ValueError(f"{name} is {given!r}, but must be a whole number, at least 1")
        draw = torch.Generator().manual_seed(seed)
        scale = math.sqrt(2 / (n_features + n_hidden))
        self.W = nn.Parameter(
            scale * torch.randn(n_instances, n_hidden, n_features, generator=draw)
        )
        self.b = nn.Parameter(torch.zeros(n_instances, n_features))
        self.hook_hidden = HookPoint()
        self.name_hook_points()

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch feature"]:
        hidden = self.hook_hidden(x @ self.W.mT)
        return torch.relu(torch.baddbmm(self.b.unsqueeze(1), hidden, self.W))


def draw_features(
    density: Float[Tensor, "instance"],
    n: int,
    n_features: int,
    generator: torch.Generator,
    lowest: float = 0.0,
) -> Float[Tensor, "instance batch feature"]:
    """Draw features that are on with probability `density`, then uniform on [lowest, 1].

    Instances share random numbers.
    """
    if not (density.min() >= 0 and density.max() <= 1):
        raise ValueError(
            f"densities run from {density.min():g} to {density.max():g}, but must be from 0 to 1"
        )
    on, value = torch.rand(2, n, n_features, generator=generator)
    return torch.where(on < density[:, None, None], lowest + (1 - lowest) * value, 0.0)


def measure_errors(
    model: Autoencoders,
    x: Float[Tensor, "instance batch feature"],
    importance: Float[Tensor, "instance feature"],
) -> Float[Tensor, "instance"]:
    """Measure each instance's squared error, weighted by importance.

    It is summed over features.
    """
    return torch.einsum("ibf,if->i", (model(x) - x).square(), importance) / x.shape[1]


def make_objective(
    density: Float[Tensor, "instance"],
    importance: Float[Tensor, "instance feature"],
    batch: int = 256,
    lowest: float = 0.0,
) -> Callable[[Any, torch.Generator], tuple[Tensor, None]]:
    """Make the objective: the sum of all instances' errors.

    Each instance sees the gradient that it would have alone.
    """

    def objective(model: Autoencoders, generator: torch.Generator) -> tuple[Tensor, None]:
        x = draw_features(density, batch, importance.shape[1], generator, lowest)
        return measure_errors(model, x, importance).sum(), None

    return objective


def measure_dimensionality(
    W: Float[Tensor, "*instance d_hidden feature"],
) -> Float[Tensor, "*instance feature"]:
    """Measure the share of a dimension that feature i has for itself.

    D_i = |W_i|^2 / sum_j (W_i_hat . W_j)^2. Below, two features share the first dimension.

    >>> measure_dimensionality(torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 2.0]]))
    tensor([0.5000, 0.5000, 1.0000])
    """
    norm = W.norm(dim=-2).clamp(min=1e-9)
    overlap = ((W / norm.unsqueeze(-2)).mT @ W).square().sum(dim=-1)
    return norm.square() / overlap.clamp(min=1e-9)
