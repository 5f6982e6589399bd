"""Scratchpad interventions: is the answer computed from what the model wrote down?

Or is the scratchpad only written for show? That it is right says nothing about its use: a model may
have the answer elsewhere. Editing tells: put another text in the scratchpad's place, keep the
question, and see whether the answer follows it. Answering early gives less and less of the
scratchpad, the rest replaced by a filler token, which says how much of it is needed. A scratchpad
that no edit can move the answer from is not what the answer was computed from; one that does may
still be only a part of it.
Sources: Lanham et al. 2023 (2307.13702), section 2; Turpin et al. 2023 (2305.04388).
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.methods.arguments import Position, Tokens, check_prompts, find_place
from mini_transformer.model import Transformer

__all__ = ["answer_early", "measure_reliance", "write_scratchpad"]


@torch.no_grad()
def write_scratchpad(
    model: Transformer, prompts: Tokens, n: int
) -> Integer[Tensor, "batch longer"]:
    """Append the `n` tokens that the model itself writes next, the likeliest each time.

    >>> from mini_transformer import toys
    >>> case = toys.load("scratchpad_faithful")
    >>> print(case.task.read(write_scratchpad(case.model, torch.tensor([[1, 1, 1, 4]]), 2)[0][:5]))
    1 1 1 : 2
    """
    check_prompts(prompts)
    if n < 0 or prompts.shape[1] + n > model.config.n_ctx + 1:
        room = model.config.n_ctx + 1 - prompts.shape[1]
        has = f"after {prompts.shape[1]} the context has room for 0 to {room}"
        raise ValueError(f"{n} tokens were asked for, but {has}")
    prompts = prompts.clone()  # also for n = 0: what is returned is the caller's own
    for _ in range(n):
        likeliest = model(prompts)[:, -1:].argmax(dim=-1)
        prompts = torch.cat([prompts, likeliest.to(prompts.dtype)], dim=1)
    return prompts


@torch.no_grad()
def measure_reliance(
    model: Transformer,
    prompts: Tokens,
    scratchpad: slice,
    edits: Integer[Tensor, "edit batch written"],
    position: Position = -1,
) -> Float[Tensor, "batch"]:
    """Measure, per prompt, the share of edited scratchpads that change the model's answer.

    `scratchpad` says at which positions it stands, `edits` what to put there, `position` where the
    answer is read. An edit that changes nothing does not count. 0: the answer does not depend on
    these edits; 1: every one changes it. ValueError for a prompt without any real edit.

    >>> from mini_transformer import toys
    >>> prompts, edits = torch.tensor([[1, 1, 1, 4, 2]]), torch.tensor([[[0]], [[1]], [[3]]])
    >>> for name in ("scratchpad_faithful", "scratchpad_unfaithful"):
    ...     model = toys.load(name).model
    ...     print(name, measure_reliance(model, prompts, slice(4, 5), edits).item())
    scratchpad_faithful 1.0
    scratchpad_unfaithful 0.0
    """
    own = find_scratchpad(prompts, scratchpad, position)
    if edits.ndim != 3 or edits.shape[1:] != own.shape:
        fits = f"(edit, {own.shape[0]}, {own.shape[1]})"
        raise ValueError(f"edits are {tuple(edits.shape)}, expected {fits}")
    real = (edits != own).any(dim=-1)  # edit b
    if not real.any(dim=0).all():
        row = int((~real.any(dim=0)).nonzero()[0])
        has = "no edit that differs from its own scratchpad"
        raise ValueError(f"prompt {row} has {has}, so nothing can be said of it")
    own_answers = answer(model, prompts, position)
    answers = [answer(model, put(prompts, scratchpad, edit), position) for edit in edits]
    changed = torch.stack(answers) != own_answers
    return (changed & real).sum(dim=0) / real.sum(dim=0)


@torch.no_grad()
def answer_early(
    model: Transformer,
    prompts: Tokens,
    scratchpad: slice,
    filler: int,
    position: Position = -1,
) -> Float[Tensor, "given"]:
    """Answer when only the first 0, 1, ... tokens of the scratchpad are given.

    Returned are the shares of prompts with the same answer as on the whole scratchpad. The rest of
    it is replaced by the token `filler`, so that all positions stay what they are; the last share
    is 1. A curve that is high from the start belongs to a scratchpad that is not needed, if
    `filler` is not what the model would take for the rest.

    >>> from mini_transformer import toys
    >>> prompts = torch.tensor([[1, 1, 1, 4, 2], [0, 1, 3, 4, 1]])
    >>> for name in ("scratchpad_faithful", "scratchpad_unfaithful"):
    ...     model = toys.load(name).model
    ...     print(name, answer_early(model, prompts, slice(4, 5), filler=3).tolist())
    scratchpad_faithful [0.0, 1.0]
    scratchpad_unfaithful [1.0, 1.0]
    """
    own = find_scratchpad(prompts, scratchpad, position)
    most = model.config.d_vocab - 1
    if not 0 <= filler <= most:
        raise ValueError(f"filler is {filler}, but the vocabulary runs from 0 to {most}")
    own_answers = answer(model, prompts, position)
    shares = []
    for given in range(own.shape[1] + 1):
        cut = own.clone()
        cut[:, given:] = filler
        answers = answer(model, put(prompts, scratchpad, cut), position)
        shares.append((answers == own_answers).float().mean())
    return torch.stack(shares)


def find_scratchpad(
    prompts: Tokens, scratchpad: slice, position: Position
) -> Integer[Tensor, "batch written"]:
    """Find the tokens of the scratchpad.

    ValueError if there are none, or if the answer is read before they end.
    """
    check_prompts(prompts)
    length = prompts.shape[1]
    where = range(length)[scratchpad]
    if not len(where):
        given = f"prompts, which are {tuple(prompts.shape)}"
        raise ValueError(f"the scratchpad {scratchpad} holds no tokens of these {given}")
    place = find_place(position, prompts.shape)[1]
    if int(place.min()) < max(where):
        given = f"the answer is read at position {int(place.min())} of {length}"
        fits = f"where the scratchpad, up to position {max(where)}, is known"
        raise ValueError(f"{given}, but must be read {fits}")
    return prompts[:, scratchpad]


def answer(model: Transformer, prompts: Tokens, position: Position) -> Integer[Tensor, "batch"]:
    """Read the likeliest token at each prompt's position."""
    return model(prompts)[find_place(position, prompts.shape)].argmax(dim=-1)


def put(prompts: Tokens, scratchpad: slice, written: Tensor) -> Tokens:
    """Copy the prompts with this in the scratchpad's place."""
    prompts = prompts.clone()
    prompts[:, scratchpad] = written
    return prompts
