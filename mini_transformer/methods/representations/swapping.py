"""Replace activations at one hook: what interchange and alignments stand on.

Activations are rows (n, d): one per prompt and position, prompt by prompt.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from mini_transformer.hooks import HookName, HookPoint
from mini_transformer.methods.arguments import (
    Activations,
    Answers,
    Position,
    Tokens,
    check_answers,
    find_place,
    find_positions,
)
from mini_transformer.methods.numerics import meet, widen, without_autocast
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = [
    "Subspace",
    "check_counterfactuals",
    "measure_surprise",
    "read_hook",
    "run_replaced",
    "run_swapped",
]

Subspace = Float[Tensor, "dim d_model"]


@torch.no_grad()
def read_hook(
    model: Transformer, base: Tokens, source: Tokens, hook: HookName, position: Position
) -> tuple[Activations, Activations]:
    """Read the activations at hook and position in both runs, in float32 at least.

    ValueError where the prompts or the hook do not fit.
    """
    check_pairs(base, source)
    at = find_positions(position, base.shape)
    rows = []
    for tokens in (base, source):
        value = model.run_with_cache(tokens, names_filter=hook)[1][hook]
        if value.ndim != 3:
            given = f"{hook!r} is {tuple(value.shape)}"
            raise ValueError(f"{given}, but a hook with axes (batch, pos, width) is needed")
        rows.append(make_ordinary(widen(value[at].flatten(0, 1))))
    return rows[0], rows[1]


def check_pairs(base: Tokens, source: Tokens) -> None:
    """Raise ValueError unless these are pairs of prompts of one shape, at least one."""
    if base.shape != source.shape or base.ndim != 2 or not base.numel():
        given = f"base and source prompts are {tuple(base.shape)} and {tuple(source.shape)}"
        raise ValueError(f"{given}, but must be pairs of one shape (batch, pos), at least one")


def check_counterfactuals(
    model: Transformer, base: Tokens, source: Tokens, answers: Answers, position: Position
) -> None:
    """Raise ValueError unless each pair of prompts has an answer, at a position that it has."""
    check_answers(model, base, answers)
    check_pairs(base, source)
    find_place(position, base.shape, "answer_position")


def run_swapped(
    model: Transformer,
    base: Tokens,
    values: tuple[Activations, Activations],
    rows: Subspace,
    mask: Float[Tensor, "dim"],
    hook: HookName,
    position: Position,
) -> Float[Tensor, "batch pos out"]:
    """Run on `base` with each row of a subspace, as far as its mask says, from the source.

    `values` are the activations of both runs, as `read_hook` gives them.
    """
    with without_autocast():
        own, other, rows, mask = meet(*values, rows, mask)
        swapped = own + ((other - own) @ rows.T * mask) @ rows
    return run_replaced(model, base, swapped, hook, position)


def run_replaced(
    model: Transformer, base: Tokens, values: Activations, hook: HookName, position: Position
) -> Float[Tensor, "batch pos out"]:
    """Run on `base` with these activations, of any dtype, at hook and position."""
    at = find_positions(position, base.shape)

    def put(value: Tensor, point: HookPoint) -> None:
        value[at] = values.to(value.dtype).view_as(value[at])

    return model.run_with_hooks(base, fwd_hooks=[(hook, put)])


def measure_surprise(
    logits: Float[Tensor, "batch pos out"], answers: Answers, position: Position
) -> Float[Tensor, ""]:
    """Measure the cross-entropy of the answers at a position, in float32 at least."""
    answers = make_ordinary(answers.to(device=logits.device, dtype=torch.int64))
    said = logits[find_place(position, logits.shape, "answer_position")]
    return cross_entropy(widen(said), answers)
