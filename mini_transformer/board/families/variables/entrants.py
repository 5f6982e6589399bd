"""Methods that find a variable's subspace: DAS, what is read, and a map that is too free.

`align_freely` answers another question than the one asked.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from mini_transformer import methods
from mini_transformer.board.problem import Method
from mini_transformer.hooks import HookPoint
from mini_transformer.methods.representations.interchange import read_hook

__all__ = ["ENTRANTS", "align", "align_freely", "find_read_axes"]


def align(model, hook, pairs, boundless: bool = False) -> Tensor:
    """Align a subspace by DAS. The boundless form finds out how many directions it takes."""
    given = (model, pairs.base, pairs.source, pairs.answers, hook)
    where: dict[str, Any] = {"position": pairs.position, "answer_position": pairs.answer_position}
    if boundless:
        return methods.fit_boundless_das(*given, steps=150, **where)
    return methods.fit_das(*given, dim=pairs.dim, **where)


def align_freely(model, hook, pairs) -> Any:
    """Align through an invertible network: nothing restricts what it may compute."""
    given = (model, pairs.base, pairs.source, pairs.answers, hook)
    where: dict[str, Any] = {"position": pairs.position, "answer_position": pairs.answer_position}
    return methods.fit_nonlinear_alignment(*given, pairs.dim, steps=200, lr=1e-2, **where)


def find_read_axes(model, hook, pairs) -> Tensor:
    """Return the principal axes of source minus base that gradients of the logits see.

    This is what varies and is read.
    """
    own, other = read_hook(model, pairs.base, pairs.source, hook, pairs.position)
    nudges: list[Tensor] = []

    def nudge(value: Tensor, hook: HookPoint) -> Tensor:
        nudges.append(torch.zeros_like(value[:, pairs.position]).requires_grad_())
        value[:, pairs.position] += nudges[0]
        return value

    with torch.enable_grad():
        logits = model.run_with_hooks(pairs.base, fwd_hooks=[(hook, nudge)])
        sums = logits[:, pairs.answer_position].sum(dim=0)
        slopes = [torch.autograd.grad(total, nudges, retain_graph=True)[0] for total in sums]
    _, sizes, read = torch.linalg.svd(torch.cat(slopes), full_matrices=False)
    read = read[sizes > 1e-4 * sizes[0]]
    return torch.linalg.svd((other - own) @ read.T @ read, full_matrices=True)[2][: pairs.dim]


ENTRANTS: dict[str, Method] = {
    "das": align,
    "das_boundless": functools.partial(align, boundless=True),
    "read_axes": find_read_axes,
    "nonlinear_map": align_freely,
}
