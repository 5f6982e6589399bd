"""Rank-one edit: rewrite one association of an MLP's memory, and disturb all others as little as possible.

An MLP's output weights map keys (what its neurons do, `hook_post`) to values (what it writes). To write value v for key k, the
change is the outer product of u = C^-1 k / (k C^-1 k) with v minus the old value, where C is the second moment of the keys that the
MLP meets: of all changes that give k its new value, the one that moves the values of those keys least in the mean square. One
weight matrix, one direction in, one direction out. That an edit there works does not prove that the fact was stored there
(Hase et al. 2023, 2301.04213): look at what else changes.
Sources: Meng et al. 2022 (2202.05262), section 3.1 and appendix A; Kohonen 1972 on linear associative memory.

Checked against: the constrained least-squares problem solved by its own linear system, and one fact out of 256 edited in a trained
model, where all others can be asked.
"""

import copy

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.hooks import HookPoint
from mini_transformer.methods.arguments import (
    check_gradients,
    follow,
    make_ordinary,
    widen,
    without_autocast,
)
from mini_transformer.methods.sites import check_prompts
from mini_transformer.model import MLP, Transformer


def edit_rank_one(
    model: Transformer,
    layer: int,
    key: Float[Tensor, "d_mlp"],
    value: Float[Tensor, "d_model"],
    keys: Float[Tensor, "key d_mlp"],
    ridge: float | int = 1e-4,
) -> Transformer:
    """A new model whose MLP in `layer` writes `value` when its neurons are `key`, changed least on the other `keys`.

    `keys` are activations of `hook_post`, flattened over prompts and positions; those that matter as often as they occur. `ridge`, a
    share of their mean square, keeps the change finite along directions in which there are no keys. ValueError for a layer without
    MLP, a key of another width or of zeros.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, d_mlp=16))
    >>> _, cache = model.run_with_cache(torch.tensor([[1, 2, 3]]))
    >>> keys = cache["post", 0][0]
    >>> edited = edit_rank_one(model, 0, keys[1], torch.ones(8), keys)
    >>> torch.allclose(edited.run_with_cache(torch.tensor([[1, 2, 3]]))[1]["mlp_out", 0][0, 1], torch.ones(8), atol=1e-4)
    True
    """
    d_model, d_mlp = find_mlp(model, layer).W_out.shape[1], model.config.d_mlp
    shapes = tuple(key.shape), tuple(value.shape), tuple(keys.shape[1:])
    if shapes != ((d_mlp,), (d_model,), (d_mlp,)) or not len(keys):
        raise ValueError(
            f"key, value and keys are {shapes[0]}, {shapes[1]} and {tuple(keys.shape)}, expected ({d_mlp},), "
            f"({d_model},) and (at least 1, {d_mlp})"
        )
    if not key.any() or not all(x.isfinite().all() for x in (key, value, keys)):
        raise ValueError(
            "the key is zero, or a number is not finite: no change of the output weights can do that"
        )
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}, but must be positive")
    edited = copy.deepcopy(model)
    mlp = find_mlp(edited, layer)
    with torch.no_grad(), without_autocast():
        W_out = widen(mlp.W_out)
        key, value, keys = (follow(x, W_out) for x in (key, value, keys))
        k, others = key.double(), keys.double()
        moment = others.T @ others / len(others)
        size = (
            others.square().mean().item() or 1.0
        )  # without any keys but zeros, every change is as good
        moment += ridge * size * torch.eye(d_mlp, dtype=torch.float64, device=k.device)
        listens = torch.linalg.solve(moment, k)
        listens = listens / (listens @ k)
        old = key @ W_out + (0.0 if mlp.b_out is None else mlp.b_out)
        mlp.W_out.copy_(W_out + torch.outer(listens, (value - old).double()).to(W_out))
    return edited


def find_value(
    model: Transformer,
    prompts: Integer[Tensor, "batch pos"],
    answers: Integer[Tensor, "batch"],
    layer: int,
    position: int,
    steps: int = 60,
    lr: float | int = 0.1,
) -> Float[Tensor, "d_model"]:
    """What the MLP of `layer` has to write at `position` for the model to end each prompt with its answer.

    Found by gradient descent (Adam) on the cross-entropy at the last position, from the mean of what it writes now; one value for all prompts,
    so prompts that are to stay as they are belong among them, with the answers that they have. That `steps` were enough is not
    checked: run the model with it. ValueError for what does not fit, and under torch.inference_mode.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, d_mlp=16))
    >>> value = find_value(model, torch.tensor([[1, 2, 3]]), torch.tensor([7]), layer=0, position=-1)
    >>> model.run_with_hooks(torch.tensor([[1, 2, 3]]), fwd_hooks=[
    ...     (("mlp_out", 0), lambda x, hook: torch.cat([x[:, :-1], value.expand(1, 1, -1)], dim=1))])[0, -1].argmax().item()
    7
    """
    find_mlp(model, layer)
    check_prompts(prompts, "prompts")
    if answers.shape != prompts.shape[:1] or answers.is_floating_point():
        given = f"{tuple(prompts.shape)} and answers {answers.dtype} {tuple(answers.shape)}"
        raise ValueError(f"prompts are {given}, but there must be one answer, a token, per prompt")
    if int(answers.min()) < 0 or int(answers.max()) >= model.config.d_vocab_out:
        raise ValueError(
            f"answers run to {int(answers.max())}, but must be from 0 to {model.config.d_vocab_out - 1}"
        )
    if not -prompts.shape[1] <= position < prompts.shape[1]:
        raise ValueError(
            f"position {position} was asked for, but the prompts have {prompts.shape[1]} positions"
        )
    check_gradients(model)
    prompts, answers = make_ordinary(prompts), make_ordinary(answers).to(model.W_E.device)
    with torch.no_grad():
        _, cache = model.run_with_cache(prompts, names_filter=("mlp_out", layer))
    value = widen(cache["mlp_out", layer][:, position]).mean(dim=0).requires_grad_()
    optimizer = torch.optim.Adam([value], lr=lr)

    def write(old: Tensor, hook: HookPoint) -> None:
        old[:, position] = value

    if steps < 1:
        raise ValueError(f"steps is {steps}, but must be at least 1")
    for _ in range(steps):
        with torch.enable_grad():
            logits = model.run_with_hooks(prompts, fwd_hooks=[(("mlp_out", layer), write)])[:, -1]
            (value.grad,) = torch.autograd.grad(
                F.cross_entropy(widen(logits), answers.long()), value
            )
        optimizer.step()
    return value.detach()


def find_mlp(model: Transformer, layer: int) -> MLP:
    """The MLP of a layer; ValueError if there is none."""
    if not 0 <= layer < model.config.n_layers or model.blocks[layer].mlp is None:
        has = f"{model.config.n_layers} layers, " + (
            "each with an MLP" if model.config.d_mlp else "none with an MLP"
        )
        raise ValueError(f"an MLP in layer {layer} was asked for, but this model has {has}")
    mlp = model.blocks[layer].mlp
    assert mlp is not None
    return mlp
