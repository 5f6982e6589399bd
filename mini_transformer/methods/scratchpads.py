"""Scratchpad interventions: is the answer computed from what the model wrote down on the way, or only written after it?

That a scratchpad is right says nothing about its use: a model may have the answer elsewhere and write for show. Editing tells:
put another text in the scratchpad's place, keep the question, and see whether the answer follows it. Answering early gives less
and less of the scratchpad, the rest replaced by a filler token, which says how much of it is needed. A scratchpad that
no edit can move the answer from is not what the answer was computed from; one that does may still be only a part of it.
Sources: Lanham et al. 2023 (2307.13702), section 2; Turpin et al. 2023 (2305.04388).

Checked against: runs on edited prompts one by one, and a pair of hand-set models with the same inputs and outputs of which one
reads its scratchpad and the other does not.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.methods.sites import check_prompts
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]


@torch.no_grad()
def write_scratchpad(
    model: Transformer, prompts: Tokens, n: int
) -> Integer[Tensor, "batch longer"]:
    """The prompts with the `n` tokens that the model itself writes next, the likeliest each time.

    >>> from mini_transformer import toys
    >>> case = toys.load("scratchpad_faithful")
    >>> print(case.task.read(write_scratchpad(case.model, torch.tensor([[1, 1, 1, 4]]), 2)[0][:5]))
    1 1 1 : 2
    """
    check_prompts(prompts)
    if n < 0 or prompts.shape[1] + n > model.config.n_ctx + 1:
        room = model.config.n_ctx + 1 - prompts.shape[1]
        raise ValueError(
            f"{n} tokens were asked for, but after {prompts.shape[1]} the context has room for 0 to {room}"
        )
    prompts = prompts.clone()  # also for n = 0: what is returned is the caller's own
    for _ in range(n):
        prompts = torch.cat(
            [prompts, model(prompts)[:, -1:].argmax(dim=-1).to(prompts.dtype)], dim=1
        )
    return prompts


@torch.no_grad()
def score_reliance(
    model: Transformer,
    prompts: Tokens,
    scratchpad: slice,
    edits: Integer[Tensor, "edit batch written"],
    position: int = -1,
) -> Float[Tensor, "batch"]:
    """Per prompt, the share of edited scratchpads under which the model gives another answer than with its own.

    `scratchpad` says at which positions it stands, `edits` what to put there. An edit that changes nothing does not count.
    0: the answer does not depend on these edits; 1: every one changes it. ValueError for a prompt without any real edit.

    >>> from mini_transformer import toys
    >>> prompts, edits = torch.tensor([[1, 1, 1, 4, 2]]), torch.tensor([[[0]], [[1]], [[3]]])
    >>> for name in ("scratchpad_faithful", "scratchpad_unfaithful"):
    ...     print(name, score_reliance(toys.load(name).model, prompts, slice(4, 5), edits).item())
    scratchpad_faithful 1.0
    scratchpad_unfaithful 0.0
    """
    own = find_scratchpad(prompts, scratchpad, position)
    if edits.ndim != 3 or edits.shape[1:] != own.shape:
        raise ValueError(
            f"edits are {tuple(edits.shape)}, expected (edit, {own.shape[0]}, {own.shape[1]})"
        )
    real = (edits != own).any(dim=-1)  # edit b
    if not real.any(dim=0).all():
        row = int((~real.any(dim=0)).nonzero()[0])
        raise ValueError(
            f"prompt {row} has no edit that differs from its own scratchpad, so nothing can be said of it"
        )
    answers = answer(model, prompts, position)
    changed = torch.stack(
        [answer(model, put(prompts, scratchpad, edit), position) != answers for edit in edits]
    )
    return (changed & real).sum(dim=0) / real.sum(dim=0)


@torch.no_grad()
def answer_early(
    model: Transformer, prompts: Tokens, scratchpad: slice, filler: int, position: int = -1
) -> Float[Tensor, "given"]:
    """Share of prompts with the same answer as on the whole scratchpad, when only its first 0, 1, ... tokens are given.

    The rest are replaced by the token `filler`, so that all positions stay what they are; the last share is 1. A curve that is
    high from the start belongs to a scratchpad that is not needed, if `filler` is not what the model would take for the rest.

    >>> from mini_transformer import toys
    >>> prompts = torch.tensor([[1, 1, 1, 4, 2], [0, 1, 3, 4, 1]])
    >>> for name in ("scratchpad_faithful", "scratchpad_unfaithful"):
    ...     print(name, answer_early(toys.load(name).model, prompts, slice(4, 5), filler=3).tolist())
    scratchpad_faithful [0.0, 1.0]
    scratchpad_unfaithful [1.0, 1.0]
    """
    own = find_scratchpad(prompts, scratchpad, position)
    if not 0 <= filler < model.config.d_vocab:
        raise ValueError(
            f"filler is {filler}, but the vocabulary runs from 0 to {model.config.d_vocab - 1}"
        )
    answers, shares = answer(model, prompts, position), []
    for given in range(own.shape[1] + 1):
        cut = own.clone()
        cut[:, given:] = filler
        shares.append(
            (answer(model, put(prompts, scratchpad, cut), position) == answers).float().mean()
        )
    return torch.stack(shares)


def find_scratchpad(
    prompts: Tokens, scratchpad: slice, position: int
) -> Integer[Tensor, "batch written"]:
    """The tokens of the scratchpad; ValueError if there are none, or if the answer is read before they end."""
    check_prompts(prompts)
    length = prompts.shape[1]
    where = range(length)[scratchpad]
    if not len(where):
        raise ValueError(
            f"the scratchpad {scratchpad} holds no tokens of these prompts, which are {tuple(prompts.shape)}"
        )
    if not -length <= position < length or position % length < max(where):
        raise ValueError(
            f"the answer is read at position {position} of {length}, but must be read where the scratchpad, up to "
            f"position {max(where)}, is known"
        )
    return prompts[:, scratchpad]


def answer(model: Transformer, prompts: Tokens, position: int) -> Integer[Tensor, "batch"]:
    return model(prompts)[:, position].argmax(dim=-1)


def put(prompts: Tokens, scratchpad: slice, written: Tensor) -> Tokens:
    """The prompts with this in the scratchpad's place."""
    prompts = prompts.clone()
    prompts[:, scratchpad] = written
    return prompts
