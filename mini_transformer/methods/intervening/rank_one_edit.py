"""Rank-one edit: rewrite one association of an MLP's memory.

All others are disturbed as little as possible. An MLP's output weights map keys (what its neurons
do, `hook_post`) to values (what it writes). To write value v for key k, the change is the outer
product of u = C^-1 k / (k C^-1 k) with v minus the old value, where C is the second moment of the
keys that the MLP meets. Of all changes that give k its new value, it is the one that moves the
values of those keys least in the mean square. One weight matrix, one direction in, one direction
out. That an edit there works does not prove that the fact was stored there (Hase et al. 2023,
2301.04213): look at what else changes.
Sources: Meng et al. 2022 (2202.05262), section 3.1 and appendix A; Kohonen 1972 on linear
associative memory.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.hooks import HookPoint
from mini_transformer.methods.arguments import (
    Answers,
    Position,
    Tokens,
    check_answers,
    check_prompts,
    find_mlp,
    find_positions,
)
from mini_transformer.methods.descent import check_descent
from mini_transformer.methods.numerics import check_gradients, follow, widen, without_autocast
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = ["edit_rank_one", "fit_value"]


def edit_rank_one(
    model: Transformer,
    layer: int,
    key: Float[Tensor, "d_mlp"],
    value: Float[Tensor, "d_model"],
    keys: Float[Tensor, "key d_mlp"],
    ridge: float | int = 1e-4,
) -> Transformer:
    """Copy a model so that its MLP in `layer` writes `value` when its neurons are `key`.

    The copy differs least on the other `keys`. These are activations of `hook_post`, flattened over
    prompts and positions; each matters as often as it occurs. `ridge`, a share of their mean
    square, keeps the change finite along directions in which there are no keys. ValueError for a
    layer without MLP, a key of another width or of zeros.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, d_mlp=16))
    >>> tokens = torch.tensor([[1, 2, 3]])
    >>> keys = model.run_with_cache(tokens)[1]["post", 0][0]
    >>> edited = edit_rank_one(model, 0, keys[1], torch.ones(8), keys)
    >>> written = edited.run_with_cache(tokens)[1]["mlp_out", 0][0, 1]
    >>> torch.allclose(written, torch.ones(8), atol=1e-4)
    True
    """
    d_mlp, d_model = find_mlp(model, layer).W_out.shape
    given = tuple(key.shape), tuple(value.shape), tuple(keys.shape)
    if given[:2] != ((d_mlp,), (d_model,)) or given[2][1:] != (d_mlp,) or not len(keys):
        fits = f"({d_mlp},), ({d_model},) and (at least 1, {d_mlp})"
        are = f"{given[0]}, {given[1]} and {given[2]}"
        raise ValueError(f"key, value and keys are {are}, expected {fits}")
    if not key.any() or not all(x.isfinite().all() for x in (key, value, keys)):
        given_zero = "the key is zero, or a number is not finite"
        raise ValueError(f"{given_zero}: no change of the output weights can do that")
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}, but must be positive")
    edited = copy.deepcopy(model)
    mlp = find_mlp(edited, layer)
    with torch.no_grad(), without_autocast():
        W_out = widen(mlp.W_out)
        key, value, keys = (follow(x, W_out) for x in (key, value, keys))
        k, others = key.double(), keys.double()
        moment = others.T @ others / len(others)
        # Without any keys but zeros, every change is as good.
        size = others.square().mean().item() or 1.0
        moment += ridge * size * torch.eye(d_mlp, dtype=torch.float64, device=k.device)
        listens = torch.linalg.solve(moment, k)
        listens = listens / (listens @ k)
        old = key @ W_out + (0.0 if mlp.b_out is None else mlp.b_out)
        mlp.W_out.copy_(W_out + torch.outer(listens, (value - old).double()).to(W_out))
    return edited


def fit_value(
    model: Transformer,
    prompts: Tokens,
    answers: Answers,
    layer: int,
    position: Position = -1,
    steps: int = 60,
    lr: float | int = 0.1,
) -> Float[Tensor, "d_model"]:
    """Fit what the MLP of `layer` has to write for the answers to follow the prompts.

    Gradient descent (Adam) on the cross-entropy at the last position, from the mean of what the MLP
    writes now at `position`. It is one value for all prompts, so prompts that are to stay as they
    are belong among them, with the answers that they have. That `steps` were enough is not checked:
    run the model with it. ValueError for what does not fit, and under torch.inference_mode.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, d_mlp=16))
    >>> tokens = torch.tensor([[1, 2, 3]])
    >>> value = fit_value(model, tokens, torch.tensor([7]), layer=0)
    >>> def write(old, hook):
    ...     old[:, -1] = value
    >>> model.run_with_hooks(tokens, fwd_hooks=[(("mlp_out", 0), write)])[0, -1].argmax().item()
    7
    """
    find_mlp(model, layer)
    check_prompts(prompts, "prompts")
    check_answers(model, prompts, answers)
    at = find_positions(position, prompts.shape)
    check_gradients(model)
    check_descent(steps, lr)
    prompts, answers = make_ordinary(prompts), make_ordinary(answers).to(model.W_E.device)
    with torch.no_grad():
        written = model.run_with_cache(prompts, names_filter=("mlp_out", layer))[1]
    start = widen(written["mlp_out", layer][at].flatten(0, 1)).mean(dim=0)
    value = start.requires_grad_()
    optimizer = torch.optim.Adam([value], lr=lr)

    def write(old: Tensor, hook: HookPoint) -> None:
        old[at] = value.to(old.dtype)

    for _ in range(steps):
        with torch.enable_grad():
            logits = model.run_with_hooks(prompts, fwd_hooks=[(("mlp_out", layer), write)])[:, -1]
            loss = F.cross_entropy(widen(logits), answers.long())
            (value.grad,) = torch.autograd.grad(loss, value)
        optimizer.step()
    return value.detach()
