"""Interchange: does this part of an activation carry that variable? Swap it and see.

The run on `base` gets, at one hook and position, the part of the run on `source` that lies in a
subspace. If the subspace carries a variable, the answer is the one that the base would have with
the source's value (the counterfactual answer). Beside it belong a random subspace of the same size,
and pairs in which the variable does not differ.
Sources: Geiger et al. 2021 (2106.02997), section 3; Geiger et al. 2023 (2303.02536), section 3.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.hooks import HookName
from mini_transformer.methods.arguments import Answers, Position, Tokens, find_place
from mini_transformer.methods.numerics import widen, without_autocast
from mini_transformer.methods.representations.swapping import (
    Subspace,
    check_counterfactuals,
    read_hook,
    run_swapped,
)
from mini_transformer.model import Transformer

__all__ = ["measure_interchange", "swap_subspace"]


@torch.no_grad()
def swap_subspace(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    subspace: Subspace,
    hook: HookName,
    position: Position = -1,
) -> Float[Tensor, "batch pos out"]:
    """Run on `base` with the activation at `hook`, in the span of `subspace`, from `source`.

    Returns the logits. With `position` None every position gets what the source has there. Rows may
    be of another dtype than the model. ValueError for prompts of different shape, and rows that are
    not orthonormal or of another width than the hook.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> base, source = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    >>> swapped = swap_subspace(model, base, source, torch.eye(8), ("resid_post", 0))  # everything
    >>> bool(torch.allclose(swapped[:, -1], model(source)[:, -1], atol=1e-5))
    True
    """
    values = read_hook(model, base, source, hook, position)
    check_subspace(subspace, values[0].shape[1])
    everything = torch.ones_like(subspace[:, 0])
    return run_swapped(model, base, values, subspace, everything, hook, position)


def measure_interchange(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    subspace: Subspace,
    hook: HookName,
    position: Position = -1,
    answer_position: Position = -1,
) -> float:
    """Measure how often swapping the subspace brings the counterfactual answer.

    This share of pairs is the interchange accuracy. The answer is read at `answer_position`, which
    cannot be None.

    >>> from mini_transformer import toys
    >>> case = toys.load("unused_feature")  # x y = is followed by x + 1
    >>> base, source = torch.tensor([[1, 2, 8], [3, 4, 8]]), torch.tensor([[5, 6, 8], [7, 0, 8]])
    >>> x = case.truth.variables["x"]
    >>> measure_interchange(case.model, base, source, torch.tensor([6, 0]), x.subspace, x.site)
    1.0
    """
    check_counterfactuals(model, base, source, answers, answer_position)
    logits = swap_subspace(model, base, source, subspace, hook, position)
    said = logits[find_place(answer_position, base.shape)].argmax(dim=-1)
    return (said == answers.to(said.device)).float().mean().item()


def check_subspace(subspace: Subspace, width: int) -> None:
    """Raise ValueError unless the rows are orthonormal, and as wide as the hook."""
    fits = subspace.ndim == 2 and subspace.is_floating_point() and subspace.shape[1] == width
    if not fits:
        given = f"the subspace is {subspace.dtype} {tuple(subspace.shape)}"
        raise ValueError(f"{given}, but the hook's width is {width}: give floats (dim, {width})")
    dim, d = subspace.shape
    if dim > d:
        raise ValueError(f"the subspace has {dim} rows, but there are only {d} dimensions")
    with without_autocast():
        wide = widen(subspace.detach())
        gap = (wide @ wide.T - torch.eye(dim, device=wide.device).to(wide)).abs()
    if not (gap <= max(1e-4, 2 * torch.finfo(subspace.dtype).eps)).all():
        raise ValueError(
            "the rows of the subspace are not orthonormal: "
            "give the rows of torch.linalg.qr(subspace.T)[0].T"
        )
