"""Nonlinear alignment: an invertible network before the swap, which proves nothing.

An interchange intervention swaps coordinates. In `das` a rotation decides which; here any
invertible map may. It is fitted the same way, from pairs and counterfactual answers, and it need
not find a variable: it can compute one. A map of enough capacity aligns nearly any model with
nearly any algorithm, untrained models included, on inputs that it was fitted to and sometimes on
others. So run it on an untrained model, too, and believe only what it finds beyond that.
Sources: Sutter et al. 2025 (2507.08802), sections 3 and 4; Dinh et al. 2014 (1410.8516) on additive
coupling layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.hooks import HookName
from mini_transformer.methods.arguments import Activations, Answers, Position, Tokens
from mini_transformer.methods.descent import descend
from mini_transformer.methods.numerics import check_gradients, draw_normal, meet, without_autocast
from mini_transformer.methods.representations.swapping import (
    Subspace,
    check_counterfactuals,
    measure_surprise,
    read_hook,
    run_replaced,
)
from mini_transformer.model import Transformer
from mini_transformer.tensors import copy_fields, make_ordinary

__all__ = ["AlignmentMap", "fit_nonlinear_alignment", "swap_by_map"]

Layer = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class AlignmentMap:
    """An invertible map: a rotation, then layers that each shift one half by the other.

    `rotation` is orthonormal (d, d). A layer is (W_in, b_in, W_out): from half the coordinates to
    hidden units (ReLU) to the other half. The variable is in the first `dim` coordinates of the
    result. `rows` are the principal axes of what its swaps changed in training, to compare with a
    subspace.
    """

    rotation: Float[Tensor, "d d"]
    layers: tuple[tuple[Tensor, Tensor, Tensor], ...]
    dim: int
    rows: Subspace

    def __post_init__(self) -> None:
        copy_fields(self)

    def apply(self, values: Activations) -> Activations:
        """Map activations to their coordinates."""
        return run_map(self.rotation, self.layers, values).to(values.dtype)

    def invert(self, coordinates: Activations) -> Activations:
        """Map coordinates to the activations that have them."""
        return run_inverse(self.rotation, self.layers, coordinates).to(coordinates.dtype)

    def swap(self, own: Activations, other: Activations) -> Activations:
        """Give activations the first `dim` coordinates of `other`; the rest stays their own."""
        return swap_coordinates(self.rotation, self.layers, self.dim, own, other).to(own.dtype)


@without_autocast()
def run_map(rotation: Tensor, layers: Sequence[Layer], values: Activations) -> Activations:
    """Map activations to coordinates, in the wider of both dtypes."""
    values, rotation = meet(values, rotation)
    halves = list((values @ rotation.T).tensor_split(2, dim=1))
    for i, layer in enumerate(layers):
        halves[i % 2] = halves[i % 2] + shift(layer, halves[1 - i % 2])
    return torch.cat(halves, dim=1)


@without_autocast()
def run_inverse(rotation: Tensor, layers: Sequence[Layer], coordinates: Activations) -> Activations:
    """Map coordinates to activations, in the wider of both dtypes."""
    coordinates, rotation = meet(coordinates, rotation)
    halves = list(coordinates.tensor_split(2, dim=1))
    for i, layer in reversed(list(enumerate(layers))):
        halves[i % 2] = halves[i % 2] - shift(layer, halves[1 - i % 2])
    return torch.cat(halves, dim=1) @ rotation


def swap_coordinates(
    rotation: Tensor, layers: Sequence[Layer], dim: int, own: Activations, other: Activations
) -> Activations:
    """Give activations the first `dim` coordinates of `other`; the rest stays their own."""
    inside = torch.arange(own.shape[1], device=own.device) < dim
    theirs = run_map(rotation, layers, other.to(own.device))
    return run_inverse(
        rotation, layers, torch.where(inside, theirs, run_map(rotation, layers, own))
    )


def shift(layer: Layer, half: Tensor) -> Tensor:
    """Compute by how much one half is shifted, from the other."""
    half, W_in, b_in, W_out = meet(half, *layer)
    return (half @ W_in + b_in).relu() @ W_out


def fit_nonlinear_alignment(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    hook: HookName,
    dim: int,
    position: Position = -1,
    answer_position: Position = -1,
    steps: int = 300,
    lr: float | int = 3e-3,
    n_layers: int = 4,
    hidden: int = 128,
    seed: int = 0,
) -> AlignmentMap:
    """Fit an invertible map such that swapping its first coordinates makes `answers` likely.

    `dim` coordinates are swapped; the loss is the cross-entropy. With `n_layers` 0 the map is a
    fixed random rotation. ValueError for more coordinates than the hook has, and as in `fit_das`.

    >>> from mini_transformer import Config
    >>> config = Config(d_vocab=9, n_ctx=3, d_model=16, n_layers=1)
    >>> model = Transformer(config)  # untrained, and yet it "adds"
    >>> base, source = torch.randint(8, (2, 32, 2), generator=torch.Generator().manual_seed(0))
    >>> answers = (source[:, 0] + base[:, 1]) % 8
    >>> found = fit_nonlinear_alignment(model, base, source, answers, ("resid_post", 0), dim=8)
    >>> logits = swap_by_map(model, base, source, found, ("resid_post", 0))
    >>> (logits[:, -1].argmax(dim=1) == answers).float().mean().item()
    1.0
    """
    check_gradients(model)
    check_counterfactuals(model, base, source, answers, answer_position)
    own, other = read_hook(model, base, source, hook, position)
    base = make_ordinary(base)
    d = own.shape[1]
    if not 1 <= dim <= d or d < 2:
        fits = f"from 1 to the hook's width {d}, which must be at least 2"
        raise ValueError(f"dim is {dim}, but must be {fits}")
    if n_layers < 0 or hidden < 1:
        raise ValueError(
            f"n_layers is {n_layers} and hidden {hidden}, but must be at least 0 and 1"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_normal(d, d, generator=generator, like=own.new_zeros(0, dtype=torch.float32))
    rotation = torch.linalg.qr(drawn)[0].to(own)
    layers = tuple(draw_layer(d, i % 2, hidden, generator, own) for i in range(n_layers))
    parameters = [part for layer in layers for part in layer]

    def loss(step: int) -> Tensor:
        swapped = swap_coordinates(rotation, layers, dim, own, other)
        logits = run_replaced(model, base, swapped, hook, position)
        return measure_surprise(logits, answers, answer_position)

    if parameters:
        descend(loss, parameters, steps, lr)
    for part in parameters:
        part.requires_grad_(False)
        part.grad = None
    changes = swap_coordinates(rotation, layers, dim, own, other) - own
    rows = torch.linalg.svd(changes, full_matrices=True)[2][:dim]
    return AlignmentMap(rotation, layers, dim, rows)


@torch.no_grad()
def swap_by_map(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    found: AlignmentMap,
    hook: HookName,
    position: Position = -1,
) -> Float[Tensor, "batch pos out"]:
    """Run on `base` with the activation at `hook` swapped by the map with that on `source`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> base, source = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    >>> everything = AlignmentMap(torch.eye(8), (), 8, torch.eye(8))
    >>> swapped = swap_by_map(model, base, source, everything, ("resid_post", 0))
    >>> bool(torch.allclose(swapped[:, -1], model(source)[:, -1], atol=1e-5))
    True
    """
    own, other = read_hook(model, base, source, hook, position)
    if own.shape[1] != len(found.rotation):
        raise ValueError(
            f"the map takes width {len(found.rotation)}, but the hook's width is {own.shape[1]}"
        )
    return run_replaced(model, base, found.swap(own, other), hook, position)


def draw_layer(d: int, half: int, hidden: int, generator: torch.Generator, like: Tensor) -> Layer:
    """Draw a layer that shifts this half (0 or 1) by a function of the other; at first by 0."""
    sizes = (d - d // 2, d // 2)
    own, other = sizes[half], sizes[1 - half]
    narrow = like.new_zeros(0, dtype=torch.float32)
    W_in = draw_normal(other, hidden, generator=generator, like=narrow) / max(1, other) ** 0.5
    b_in = draw_normal(hidden, generator=generator, like=narrow)
    W_out = narrow.new_zeros(hidden, own)
    return (
        W_in.to(like).requires_grad_(),
        b_in.to(like).requires_grad_(),
        W_out.to(like).requires_grad_(),
    )
