"""Nonlinear alignment: an invertible network in front of the swap, instead of a rotation. Built to show that it proves nothing.

An interchange intervention swaps coordinates. Which coordinates, a rotation decides in `alignment`; here any invertible map may. It is
trained the same way, from pairs and counterfactual answers, and it need not find a variable: it can compute one. A map
of enough capacity aligns nearly any model with nearly any algorithm, untrained models included, on inputs that it was
trained on and sometimes on others. So run it on an untrained model, too, and believe only what it finds beyond that.
Sources: Sutter et al. 2025 (2507.08802), sections 3 and 4; Dinh et al. 2014 (1410.8516) on additive coupling layers.

Checked against: its inverse, the rotation alone (which is `swap_subspace`), and trained and untrained models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.hooks import HookName
from mini_transformer.methods.alignment import measure_surprise, read_values
from mini_transformer.methods.arguments import (
    check_gradients,
    draw_normal,
    make_ordinary,
    meet,
    without_autocast,
)
from mini_transformer.methods.descent import descend
from mini_transformer.methods.interchange import (
    Answers,
    Subspace,
    Tokens,
    check_answers,
    run_replaced,
)
from mini_transformer.model import Transformer
from mini_transformer.tensors import copy_fields

Rows = Float[Tensor, "n d"]
Layer = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class AlignmentMap:
    """An invertible map: a rotation, then layers that shift one half of the coordinates by a function of the other.

    `rotation` is orthonormal (d, d); a layer is (W_in, b_in, W_out): half to hidden units (ReLU) to half. The variable is in the first
    `dim` coordinates of the result. `rows` are the principal axes of what its swaps changed in training, to compare with a subspace.
    """

    rotation: Float[Tensor, "d d"]
    layers: tuple[tuple[Tensor, Tensor, Tensor], ...]
    dim: int
    rows: Subspace

    def __post_init__(self) -> None:
        copy_fields(self)

    def apply(self, values: Rows) -> Rows:
        """The coordinates of activations."""
        return run_map(self.rotation, self.layers, values).to(values.dtype)

    def invert(self, coordinates: Rows) -> Rows:
        """The activations that have these coordinates."""
        return run_inverse(self.rotation, self.layers, coordinates).to(coordinates.dtype)

    def swap(self, own: Rows, other: Rows) -> Rows:
        """Activations with the first `dim` coordinates of `other`, and all others of `own`."""
        return swap_coordinates(self.rotation, self.layers, self.dim, own, other).to(own.dtype)


@without_autocast()
def run_map(rotation: Tensor, layers: Sequence[Layer], values: Rows) -> Rows:
    """The coordinates of activations, in the wider of both dtypes."""
    values, rotation = meet(values, rotation)
    halves = list((values @ rotation.T).tensor_split(2, dim=1))
    for i, layer in enumerate(layers):
        halves[i % 2] = halves[i % 2] + shift(layer, halves[1 - i % 2])
    return torch.cat(halves, dim=1)


@without_autocast()
def run_inverse(rotation: Tensor, layers: Sequence[Layer], coordinates: Rows) -> Rows:
    """The activations that have these coordinates, in the wider of both dtypes."""
    coordinates, rotation = meet(coordinates, rotation)
    halves = list(coordinates.tensor_split(2, dim=1))
    for i, layer in reversed(list(enumerate(layers))):
        halves[i % 2] = halves[i % 2] - shift(layer, halves[1 - i % 2])
    return torch.cat(halves, dim=1) @ rotation


def swap_coordinates(
    rotation: Tensor, layers: Sequence[Layer], dim: int, own: Rows, other: Rows
) -> Rows:
    """Activations with the first `dim` coordinates of `other`, and all others of `own`."""
    inside = torch.arange(own.shape[1], device=own.device) < dim
    mixed = torch.where(
        inside, run_map(rotation, layers, other.to(own.device)), run_map(rotation, layers, own)
    )
    return run_inverse(rotation, layers, mixed)


def shift(layer: Layer, half: Tensor) -> Tensor:
    half, W_in, b_in, W_out = meet(half, *layer)
    return (half @ W_in + b_in).relu() @ W_out


def align_nonlinearly(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    hook: HookName,
    dim: int,
    position: int = -1,
    answer_position: int = -1,
    steps: int = 300,
    lr: float | int = 3e-3,
    n_layers: int = 4,
    hidden: int = 128,
    seed: int = 0,
) -> AlignmentMap:
    """An invertible map, trained so that swapping its first `dim` coordinates makes `answers` likely (cross-entropy).

    With `n_layers` 0 it is a fixed random rotation. ValueError for more coordinates than the hook
    has, and as in `align_subspace`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=3, d_model=16, n_layers=1))  # untrained, and yet it "adds"
    >>> base, source = torch.randint(8, (2, 32, 2), generator=torch.Generator().manual_seed(0))
    >>> answers = (source[:, 0] + base[:, 1]) % 8
    >>> found = align_nonlinearly(model, base, source, answers, ("resid_post", 0), dim=8)
    >>> logits = swap_by_map(model, base, source, found, ("resid_post", 0))
    >>> (logits[:, -1].argmax(dim=1) == answers).float().mean().item()
    1.0
    """
    check_gradients(model)
    check_answers(model, base, answers, answer_position)
    own, other = read_values(model, base, source, hook, position)
    d = own.shape[1]
    if not 1 <= dim <= d or d < 2:
        raise ValueError(
            f"dim is {dim}, but must be from 1 to the hook's width {d}, which must be at least 2"
        )
    if n_layers < 0 or hidden < 1:
        raise ValueError(
            f"n_layers is {n_layers} and hidden {hidden}, but must be at least 0 and 1"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_normal(d, d, generator=generator, like=own.new_zeros(0, dtype=torch.float32))
    rotation = torch.linalg.qr(drawn)[0].to(own)
    layers = tuple(draw_layer(d, i % 2, hidden, generator, own) for i in range(n_layers))
    base = make_ordinary(base)

    def loss(step: int) -> Tensor:
        swapped = swap_coordinates(rotation, layers, dim, own, other)
        logits = run_replaced(model, base, swapped, hook, position)
        return measure_surprise(logits[:, answer_position], answers)

    if parameters := [part for layer in layers for part in layer]:
        descend(loss, parameters, steps, lr)
    for part in parameters:
        part.requires_grad_(False)
        part.grad = None
    changes = swap_coordinates(rotation, layers, dim, own, other) - own
    rows = torch.linalg.svd(changes, full_matrices=True)[2][:dim]
    return AlignmentMap(rotation, layers, dim, rows)


def swap_by_map(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    found: AlignmentMap,
    hook: HookName,
    position: int = -1,
) -> Float[Tensor, "batch pos out"]:
    """Logits on `base` with the activation at `hook` swapped by the map with that on `source`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> base, source = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    >>> everything = AlignmentMap(torch.eye(8), (), 8, torch.eye(8))
    >>> swapped = swap_by_map(model, base, source, everything, ("resid_post", 0))
    >>> bool(torch.allclose(swapped[:, -1], model(source)[:, -1], atol=1e-5))
    True
    """
    own, other = read_values(model, base, source, hook, position)
    if own.shape[1] != len(found.rotation):
        raise ValueError(
            f"the map takes width {len(found.rotation)}, but the hook's width is {own.shape[1]}"
        )
    with torch.no_grad():
        return run_replaced(model, base, found.swap(own, other), hook, position)


def draw_layer(
    d: int, half: int, hidden: int, generator: torch.Generator, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A layer that shifts this half (0 or 1) by a function of the other; at first by nothing."""
    sizes = (d - d // 2, d // 2)
    own, other = sizes[half], sizes[1 - half]
    narrow = like.new_zeros(0, dtype=torch.float32)
    W_in = draw_normal(other, hidden, generator=generator, like=narrow) / max(1, other) ** 0.5
    b_in, W_out = (
        draw_normal(hidden, generator=generator, like=narrow),
        narrow.new_zeros(hidden, own),
    )
    return (
        W_in.to(like).requires_grad_(),
        b_in.to(like).requires_grad_(),
        W_out.to(like).requires_grad_(),
    )
