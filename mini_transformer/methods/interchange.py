"""Interchange interventions: does this part of an activation carry that variable? Swap it between two prompts and see.

The run on `base` gets, at one hook and position, the part of the run on `source` that lies in a
subspace; if the subspace carries a variable, the answer is the one that the base would have with
the source's value (the counterfactual answer). Beside it belong a random subspace of the same size,
and pairs in which the variable does not differ.
Sources: Geiger et al. 2021 (2106.02997), section 3; Geiger et al. 2023 (2303.02536), section 3.

Checked against: hooks written out per pair, hand-set subspaces, random ones, and the interventions of pyvene 0.1.8 on the same weights.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.hooks import HookName, HookPoint
from mini_transformer.methods.arguments import meet, widen, without_autocast
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Answers = Integer[Tensor, "batch"]
Subspace = Float[Tensor, "dim d_model"]


def swap_subspace(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    subspace: Subspace,
    hook: HookName,
    position: int = -1,
) -> Float[Tensor, "batch pos out"]:
    """Logits on `base` with the activation at `hook`, in the span of `subspace`, taken from `source`.

    Rows may be of another dtype than the model. ValueError for prompts of different shape, and rows that are not orthonormal or of
    another width than the hook.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> base, source = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    >>> swapped = swap_subspace(model, base, source, torch.eye(8), ("resid_post", 0))  # everything
    >>> bool(torch.allclose(swapped[:, -1], model(source)[:, -1], atol=1e-5))
    True
    """
    values = read_hook(model, base, source, hook, position)
    check_subspace(subspace, values[0].shape[1])
    with torch.no_grad():
        return run_swapped(
            model, base, values, subspace, torch.ones_like(subspace[:, 0]), hook, position
        )


def measure_interchange(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    subspace: Subspace,
    hook: HookName,
    position: int = -1,
    answer_position: int = -1,
) -> float:
    """Share of pairs in which swapping the subspace brings the counterfactual answer (interchange accuracy).

    >>> from mini_transformer import toys
    >>> case = toys.load("unused_feature")  # x y = is followed by x + 1
    >>> base, source = torch.tensor([[1, 2, 8], [3, 4, 8]]), torch.tensor([[5, 6, 8], [7, 0, 8]])
    >>> x = case.truth.variables["x"]
    >>> measure_interchange(case.model, base, source, torch.tensor([6, 0]), x.subspace, x.site)
    1.0
    """
    check_answers(model, base, answers, answer_position)
    logits = swap_subspace(model, base, source, subspace, hook, position)
    return (
        (logits[:, answer_position].argmax(dim=-1) == answers.to(logits.device))
        .float()
        .mean()
        .item()
    )


def run_swapped(
    model: Transformer,
    base: Tokens,
    values: tuple[Tensor, Tensor],
    rows: Subspace,
    mask: Float[Tensor, "dim"],
    hook: HookName,
    position: int,
) -> Tensor:
    """One run on `base` in which each row of the subspace, as far as its mask says, is taken from the source."""
    with without_autocast():
        own, other, rows, mask = meet(*values, rows, mask)
        swapped = own + ((other - own) @ rows.T * mask) @ rows
    return run_replaced(model, base, swapped, hook, position)


def run_replaced(
    model: Transformer, base: Tokens, values: Tensor, hook: HookName, position: int
) -> Tensor:
    """One run on `base` with these activations (b, d), of any dtype, at hook and position."""

    def put(value: Tensor, hook: HookPoint) -> None:
        value[:, position] = values.to(value.dtype)

    return model.run_with_hooks(base, fwd_hooks=[(hook, put)])


def read_hook(
    model: Transformer, base: Tokens, source: Tokens, hook: HookName, position: int
) -> tuple[Tensor, Tensor]:
    """The activation (b, d) at hook and position in both runs; ValueError where the prompts or the hook do not fit."""
    if base.shape != source.shape or base.ndim != 2 or not base.numel():
        given = f"{tuple(base.shape)} and {tuple(source.shape)}"
        raise ValueError(
            f"base and source prompts are {given}, but must be pairs of one shape (batch, pos), at least one"
        )
    if not -base.shape[1] <= position < base.shape[1]:
        raise ValueError(f"position is {position}, but the prompts have {base.shape[1]} tokens")
    with torch.no_grad():
        runs = [
            model.run_with_cache(tokens, names_filter=hook)[1][hook] for tokens in (base, source)
        ]
    if runs[0].ndim != 3:
        raise ValueError(
            f"{hook!r} is {tuple(runs[0].shape)}, but a hook with axes (batch, pos, width) is needed"
        )
    return runs[0][:, position], runs[1][:, position]


def check_subspace(subspace: Subspace, width: int) -> None:
    """ValueError unless the rows are orthonormal, and as wide as the hook."""
    if subspace.ndim != 2 or not subspace.is_floating_point() or subspace.shape[1] != width:
        given = f"{subspace.dtype} {tuple(subspace.shape)}"
        raise ValueError(
            f"the subspace is {given}, but the hook's width is {width}: give floats (dim, {width})"
        )
    dim, d = subspace.shape
    if dim > d:
        raise ValueError(f"the subspace has {dim} rows, but there are only {d} dimensions")
    with without_autocast():
        wide = widen(subspace.detach())
        gap = (wide @ wide.T - torch.eye(dim, device=wide.device).to(wide)).abs()
    if not (gap <= max(1e-4, 2 * torch.finfo(subspace.dtype).eps)).all():
        raise ValueError(
            "the rows of the subspace are not orthonormal: give the rows of torch.linalg.qr(subspace.T)[0].T"
        )


def check_answers(model: Transformer, base: Tokens, answers: Answers, position: int) -> None:
    """ValueError unless there is one answer in the vocabulary for each prompt, at a position that it has."""
    if answers.is_floating_point() or answers.shape != base.shape[:1] or not len(answers):
        raise ValueError(
            f"answers are {answers.dtype} {tuple(answers.shape)}, but must be one token per pair: ({len(base)},)"
        )
    if int(answers.min()) < 0 or int(answers.max()) >= model.config.d_vocab_out:
        raise ValueError(
            f"answers run to {int(answers.max())}, but must be from 0 to {model.config.d_vocab_out - 1}"
        )
    if not -base.shape[1] <= position < base.shape[1]:
        raise ValueError(
            f"answer_position is {position}, but the prompts have {base.shape[1]} tokens"
        )
