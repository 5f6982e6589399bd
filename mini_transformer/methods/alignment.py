"""Alignment: train the subspace that carries a variable, from pairs of prompts and counterfactual answers.

*DAS* (distributed alignment search) looks for an orthonormal basis whose swap between base and
source makes the counterfactual answers likely. Its *boundless* form rotates the whole activation,
and learns how many of the rotated axes to swap, too. A trained subspace can succeed through
directions that the model never uses (Makelov et al. 2023, 2311.17030), and a large one can fit an
untrained model: test it on pairs that it was not trained on, beside a random subspace and an
untrained model.
Sources: Geiger et al. 2023 (2303.02536), section 3; Wu et al. 2023 (2305.08809), section 3.

Checked against: hand-set subspaces (principal angles), held-out pairs, and a variable that nothing reads.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mini_transformer.hooks import HookName
from mini_transformer.methods.arguments import check_gradients, draw_normal, make_ordinary, widen
from mini_transformer.methods.descent import descend
from mini_transformer.methods.interchange import (
    Answers,
    Subspace,
    Tokens,
    check_answers,
    read_hook,
    run_swapped,
)
from mini_transformer.model import Transformer


def align_subspace(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    hook: HookName,
    dim: int,
    position: int = -1,
    answer_position: int = -1,
    steps: int = 200,
    lr: float | int = 0.05,
    seed: int = 0,
) -> Subspace:
    """DAS: `dim` orthonormal rows, trained so that swapping their span makes `answers` likely (cross-entropy).

    All pairs are used in every step. Rows are float32 at least. ValueError for more directions than the hook has.

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods import measure_interchange
    >>> case = toys.load("unused_feature")
    >>> base, source = (torch.tensor([[x, 0, 8] for x in digits]) for digits in ((0, 1, 2, 3), (4, 5, 6, 7)))
    >>> answers, x = torch.tensor([5, 6, 7, 0]), case.truth.variables["x"]
    >>> subspace = align_subspace(case.model, base, source, answers, x.site, dim=4)
    >>> measure_interchange(case.model, base, source, answers, subspace, x.site)
    1.0
    """
    check_gradients(model)
    check_answers(model, base, answers, answer_position)
    base, values = make_ordinary(base), read_values(model, base, source, hook, position)
    d = values[0].shape[-1]
    if not 1 <= dim <= d:
        raise ValueError(f"dim is {dim}, but must be from 1 to the hook's width {d}")
    generator = torch.Generator().manual_seed(seed)
    free = draw_normal(d, dim, generator=generator, like=values[0]).requires_grad_()
    everything = torch.ones_like(free[0])

    def loss(step: int) -> Tensor:
        rows = torch.linalg.qr(free)[0].T
        logits = run_swapped(model, base, values, rows, everything, hook, position)
        return measure_surprise(logits[:, answer_position], answers)

    descend(loss, [free], steps, lr)
    return torch.linalg.qr(free.detach())[0].T.contiguous()


def align_subspace_boundless(
    model: Transformer,
    base: Tokens,
    source: Tokens,
    answers: Answers,
    hook: HookName,
    position: int = -1,
    answer_position: int = -1,
    steps: int = 300,
    lr: float | int = 0.05,
    cost: float | int = 1.0,
    seed: int = 0,
) -> Subspace:
    """Boundless DAS: a rotation of the whole activation, of which the first few axes are swapped; how many is learned.

    Axis i counts sigmoid((boundary - i) / temperature), with a temperature that falls from d / 4 to d / 100, and `cost` times
    boundary / d is added to the loss. Returns the axes before the boundary: at least one, at most all.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> base, source = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    >>> rows = align_subspace_boundless(model, base, source, torch.tensor([7]), ("resid_post", 0), steps=5)
    >>> rows.shape[1], 1 <= len(rows) <= 8
    (8, True)
    """
    check_gradients(model)
    check_answers(model, base, answers, answer_position)
    base, values = make_ordinary(base), read_values(model, base, source, hook, position)
    d = values[0].shape[-1]
    free = draw_normal(
        d, d, generator=torch.Generator().manual_seed(seed), like=values[0]
    ).requires_grad_()
    share = free.new_tensor(0.5).requires_grad_()
    axis = torch.arange(d, device=free.device).to(free) + 0.5

    def loss(step: int) -> Tensor:
        temperature = d / 4 * (1 / 25) ** (step / steps)
        mask = ((share * d - axis) / temperature).sigmoid()
        logits = run_swapped(model, base, values, torch.linalg.qr(free)[0].T, mask, hook, position)
        return measure_surprise(logits[:, answer_position], answers) + cost * share

    descend(loss, [free, share], steps, lr, after=lambda step: share.clamp_(0.0, 1.0))
    dim = min(d, max(1, round(share.item() * d)))
    return torch.linalg.qr(free.detach())[0].T[:dim].contiguous()


def read_values(
    model: Transformer, base: Tokens, source: Tokens, hook: HookName, position: int
) -> tuple[Tensor, Tensor]:
    """What `read_hook` reads, in float32 at least, so that what is fitted to it is."""
    own, other = read_hook(model, base, source, hook, position)
    return make_ordinary(widen(own)), make_ordinary(widen(other))


def measure_surprise(logits: Tensor, answers: Answers) -> Tensor:
    """The cross-entropy of the answers, in float32 at least."""
    return cross_entropy(
        widen(logits), make_ordinary(answers.to(device=logits.device, dtype=torch.int64))
    )
