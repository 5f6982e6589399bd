"""Alignment search: find the subspace that carries a variable.

*DAS* (distributed alignment search) looks for orthonormal rows. The source run's part in their span
is copied into the base run, which shall then give the counterfactual answer. Its *boundless* form
rotates the whole activation, and learns how many of the rotated axes to swap, too. A fitted
subspace can succeed through directions that the model never uses (Makelov et al. 2023, 2311.17030),
and a large one can fit an untrained model: test it on pairs that it was not fitted to, beside a
random subspace and an untrained model.
Sources: Geiger et al. 2023 (2303.02536), section 3; Wu et al. 2023 (2305.08809), section 3.
"""

import math

import torch
from torch import Tensor

from mini_transformer.hooks import HookName
from mini_transformer.methods.arguments import Answers, Position, Tokens
from mini_transformer.methods.descent import descend
from mini_transformer.methods.numerics import check_gradients, draw_normal
from mini_transformer.methods.representations.swapping import (
    Subspace,
    check_counterfactuals,
    measure_surprise,
    read_hook,
    run_swapped,
)
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = ["fit_boundless_das", "fit_das"]


def fit_das(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    hook: HookName,
    dim: int,
    position: Position = -1,
    answer_position: Position = -1,
    steps: int = 200,
    lr: float | int = 0.05,
    seed: int = 0,
) -> Subspace:
    """Fit `dim` orthonormal rows such that swapping their span makes `answers` likely.

    `base` and `source` (b, t) are prompts, `answers` (b) the tokens that base prompts call for once
    the variable has the source's value, at `answer_position`. What is swapped is the activation at
    `hook` and `position`. Return the rows (dim, d_model), in float32 at least. The loss is the
    cross-entropy; all pairs are used in every step. ValueError for more directions than the hook
    has.

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods import measure_interchange
    >>> case = toys.load("unused_feature")
    >>> base = torch.tensor([[x, 0, 8] for x in (0, 1, 2, 3)])
    >>> source = torch.tensor([[x, 0, 8] for x in (4, 5, 6, 7)])
    >>> answers, x = torch.tensor([5, 6, 7, 0]), case.truth.variables["x"]
    >>> subspace = fit_das(case.model, base, source, answers, x.site, dim=4)
    >>> measure_interchange(case.model, base, source, answers, subspace, x.site)
    1.0
    """
    check_gradients(model)
    check_counterfactuals(model, base, source, answers, answer_position)
    values = read_hook(model, base, source, hook, position)
    base = make_ordinary(base)
    d = values[0].shape[1]
    if not 1 <= dim <= d:
        raise ValueError(f"dim is {dim}, but must be from 1 to the hook's width {d}")
    generator = torch.Generator().manual_seed(seed)
    free = draw_normal(d, dim, generator=generator, like=values[0]).requires_grad_()
    everything = torch.ones_like(free[0])

    def loss(step: int) -> Tensor:
        rows = torch.linalg.qr(free)[0].T
        logits = run_swapped(model, base, values, rows, everything, hook, position)
        return measure_surprise(logits, answers, answer_position)

    descend(loss, [free], steps, lr)
    return torch.linalg.qr(free.detach())[0].T.contiguous()


def fit_boundless_das(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    hook: HookName,
    position: Position = -1,
    answer_position: Position = -1,
    steps: int = 300,
    lr: float | int = 0.05,
    cost: float | int = 1.0,
    seed: int = 0,
) -> Subspace:
    """Fit a rotation of the whole activation, and how many of its first axes are swapped.

    Axis i counts sigmoid((boundary - i) / temperature), with a temperature that falls from d / 4 to
    d / 100, and `cost` times boundary / d is added to the loss. Returns the axes before the
    boundary: at least one, at most all.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> base, source = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    >>> answers = torch.tensor([7])
    >>> rows = fit_boundless_das(model, base, source, answers, ("resid_post", 0), steps=5)
    >>> rows.shape[1], 1 <= len(rows) <= 8
    (8, True)
    """
    if not 0 <= cost < math.inf:
        raise ValueError(f"cost is {cost}, but must be at least 0, and finite")
    check_gradients(model)
    check_counterfactuals(model, base, source, answers, answer_position)
    values = read_hook(model, base, source, hook, position)
    base = make_ordinary(base)
    d = values[0].shape[1]
    generator = torch.Generator().manual_seed(seed)
    free = draw_normal(d, d, generator=generator, like=values[0]).requires_grad_()
    share = free.new_tensor(0.5).requires_grad_()
    axis = torch.arange(d, device=free.device).to(free) + 0.5

    def loss(step: int) -> Tensor:
        temperature = d / 4 * (1 / 25) ** (step / steps)
        mask = ((share * d - axis) / temperature).sigmoid()
        rows = torch.linalg.qr(free)[0].T
        logits = run_swapped(model, base, values, rows, mask, hook, position)
        return measure_surprise(logits, answers, answer_position) + cost * share

    descend(loss, [free, share], steps, lr, after=lambda step: share.clamp_(0.0, 1.0))
    dim = min(d, max(1, round(share.item() * d)))
    return torch.linalg.qr(free.detach())[0].T[:dim].contiguous()
