"""Subspaces that take no search: coordinates, what varies, everything."""

import torch
from torch import Tensor

from mini_transformer.board.problem import Method
from mini_transformer.methods import swap_subspace
from mini_transformer.methods.representations.interchange import read_hook

__all__ = ["REFERENCES"]


def find_varying_axes(model, hook, pairs) -> Tensor:
    """Return the principal axes of source minus base: what varies most."""
    own, other = read_hook(model, pairs.base, pairs.source, hook, pairs.position)
    return torch.linalg.svd(other - own, full_matrices=False)[2][: pairs.dim]


def find_varying_coordinates(model, hook, pairs) -> Tensor:
    """Return the coordinates in which source and base differ most."""
    own, other = read_hook(model, pairs.base, pairs.source, hook, pairs.position)
    sizes = (other - own).square().sum(dim=0)
    return torch.eye(len(sizes))[sizes.topk(pairs.dim).indices]


def swap_coordinates(model, hook, pairs) -> Tensor:
    """Swap each coordinate alone, and return those that move the most answers.

    Where none moves any, as many as move the logits most.
    """
    axes = torch.eye(model.config.d_model)
    swap = (model, pairs.base, pairs.source)
    plain = model(pairs.base)[:, pairs.answer_position]
    moved = []
    for axis in axes:
        logits = swap_subspace(*swap, axis[None], hook, pairs.position)[:, pairs.answer_position]
        answers = (logits.argmax(dim=1) != plain.argmax(dim=1)).double().mean()
        moved.append(answers + 1e-3 * (logits - plain).abs().mean())
    return axes[torch.stack(moved).topk(pairs.dim).indices]


def take_everything(model, hook, pairs) -> Tensor:
    """Return the whole space."""
    return torch.eye(model.config.d_model)


REFERENCES: dict[str, Method] = {
    "varying_axes": find_varying_axes,
    "varying_coordinates": find_varying_coordinates,
    "swapped_coordinates": swap_coordinates,
    "everything": take_everything,
}
