"""Feature synthesis: make up the input that excites a unit most.

First a relaxed input climbs the gradient: at each free position a mixture of token embeddings,
weighted by a softmax. The mixture often excites a unit more than any real prompt can, so its value
proves nothing. Then each position keeps its heaviest token, and real prompts climb on by single
swaps: the gradient ranks them, the model says which one is best. The end is a prompt that no single
swap improves, and its value is that of real tokens; two swaps together might still do better. What
is found need not occur in any data, and says what can excite a unit, not what does.
Sources: Olah et al. 2017 on optimised inputs; Ebrahimi et al. 2018 (1712.06751) on swaps by
gradient; Zou et al. 2023 (2307.15043), section 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.methods.arguments import Tokens, check_prompts
from mini_transformer.methods.descent import descend
from mini_transformer.methods.numerics import check_gradients, draw_normal, widen
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = ["Synthesis", "climb_by_swaps", "synthesize_input"]

Excite = Callable[[Tensor], Tensor]  # prompts (b, t) to one number each (b), by running the model


@dataclass(frozen=True)
class Synthesis:
    """A prompt, and how strongly it excites the unit.

    Beside it stands what the relaxed input and its projection reached.
    """

    tokens: Integer[Tensor, "pos"]
    value: float
    relaxed: float
    projected: float


def synthesize_input(
    model: Transformer,
    start: Integer[Tensor, "pos"],
    excite: Excite,
    free: Sequence[int] | None = None,
    allowed: Sequence[int] | None = None,
    restarts: int = 8,
    steps: int = 100,
    lr: float | int = 0.3,
    shortlist: int = 32,
    seed: int = 0,
) -> Synthesis:
    """Synthesize the prompt that excites a unit most, by gradients and then by swaps.

    `excite(prompts)` runs the model and gives one number per prompt: of any activation, say
    `lambda prompts: read_units(model, prompts, ("pre", 0))[:, -1, 5]`, or of logits. Prefer what
    comes before a ReLU: where that is shut, there is no gradient. The search starts from `restarts`
    relaxed inputs, and from `start` if its tokens are allowed. Only positions in `free` change
    (default: all), to tokens in `allowed` (default: all).

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods import read_units
    >>> case = toys.load("boolean_and")
    >>> def neuron(prompts):
    ...     return read_units(case.model, prompts, ("pre", 0))[:, -1, 0]
    >>> start = torch.tensor([0, 0, 2, 2, 2, 3])
    >>> found = synthesize_input(case.model, start, neuron, free=[0, 1, 2], allowed=[0, 1])
    >>> found.tokens[:2].tolist(), round(found.value, 3)
    ([1, 1], 1.0)
    """
    check_gradients(model)
    if start.ndim != 1 or restarts < 1:
        given = f"start is {tuple(start.shape)}, restarts {restarts}"
        raise ValueError(f"{given}: expected one prompt, and at least 1")
    start = make_ordinary(start.to(device=model.W_E.device, dtype=torch.int64))
    places, vocabulary = find_choices(model, start[None], free, allowed)
    prompts, relaxed = climb_relaxed(
        model, start, excite, places, vocabulary, restarts, steps, float(lr), seed
    )
    projected = try_prompts(model, prompts, excite).max().item()
    if torch.isin(start[places], vocabulary).all():
        prompts = torch.cat([prompts, start[None]])
    found, values = climb_by_swaps(model, prompts, excite, free, allowed, shortlist)
    best = int(values.argmax())
    return Synthesis(found[best], values[best].item(), relaxed, projected)


def climb_by_swaps(
    model: Transformer,
    prompts: Tokens,
    excite: Excite,
    free: Sequence[int] | None = None,
    allowed: Sequence[int] | None = None,
    shortlist: int = 32,
) -> tuple[Tokens, Float[Tensor, "batch"]]:
    """Swap one token of each prompt at a time for as long as that helps: coordinate ascent.

    Returned are the prompts and their values. In every round the gradient ranks all swaps, the
    first `shortlist` of them are run, and the best is kept. When none of these improves any prompt,
    all swaps are run: at the end no single one improves any, by more than rounding. Arguments are
    those of `synthesize_input`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> def logit(prompts):
    ...     return model(prompts)[:, -1, 7]
    >>> start = torch.tensor([[1, 2, 3]])
    >>> found, values = climb_by_swaps(model, start, logit)
    >>> bool(torch.allclose(logit(found), values)), bool(values > logit(start))
    (True, True)
    """
    check_gradients(model)
    places, vocabulary = find_choices(model, prompts, free, allowed)
    if shortlist < 1:
        raise ValueError(f"shortlist is {shortlist}, but at least one swap must be tried")
    prompts = prompts.to(device=model.W_E.device, dtype=torch.int64).clone()
    values = try_prompts(model, prompts, excite)
    while True:
        ranked = rank_swaps(model, prompts, excite, places, vocabulary)
        for n in (shortlist, ranked.shape[1]):
            swaps = ranked[:, :n]
            tried = prompts[:, None].repeat(1, swaps.shape[1], 1)  # b swap t
            place, token = places[swaps // len(vocabulary)], vocabulary[swaps % len(vocabulary)]
            tried.scatter_(2, place[..., None], token[..., None])
            reached = try_prompts(model, tried.flatten(0, 1), excite).view(swaps.shape)
            # The size of this unit's values on these prompts.
            size = torch.where(reached.isfinite(), reached, 0.0).abs().amax(dim=1)
            reached, which = reached.max(dim=1)
            rounding = 8 * torch.finfo(values.dtype).eps * size
            better = reached > values + rounding  # so that it ends
            if better.any():
                break
        else:
            return prompts, values
        prompts[better] = tried[better, which[better]]
        values = torch.where(better, reached, values)


def climb_relaxed(
    model: Transformer,
    start: Integer[Tensor, "pos"],
    excite: Excite,
    places: Integer[Tensor, "place"],
    vocabulary: Integer[Tensor, "choice"],
    restarts: int,
    steps: int,
    lr: float | int,
    seed: int,
) -> tuple[Integer[Tensor, "restart pos"], float]:
    """Move mixtures of tokens up the gradient.

    Returned are the heaviest tokens of each, and the best value that a mixture reached.
    """
    generator = torch.Generator().manual_seed(seed)
    W_E = model.W_E.detach()
    prompts = start.long().repeat(restarts, 1)
    shape = restarts, len(places), len(vocabulary)
    weights = draw_normal(*shape, generator=generator, like=widen(W_E)).requires_grad_()

    def excite_mixture() -> Tensor:
        mixture = weights.softmax(dim=-1).to(W_E.dtype) @ W_E[vocabulary]
        embedding = W_E[prompts].index_copy(1, places, mixture.to(W_E.dtype))
        return excite_embedded(model, prompts, embedding, excite)

    descend(lambda step: -excite_mixture().sum(), [weights], steps, lr)
    with torch.no_grad():
        relaxed = excite_mixture().max().item()
    return prompts.index_copy(1, places, vocabulary[weights.argmax(dim=-1)]), relaxed


def rank_swaps(
    model: Transformer,
    prompts: Tokens,
    excite: Excite,
    places: Integer[Tensor, "place"],
    vocabulary: Integer[Tensor, "choice"],
) -> Integer[Tensor, "batch swap"]:
    """Rank all swaps, numbered place by place, by what the gradient expects of them (HotFlip)."""
    embedding = model.W_E.detach()[prompts].requires_grad_()
    with torch.enable_grad():
        value = excite_embedded(model, prompts, embedding, excite).sum()
    if not value.requires_grad:
        fix = "return an activation or a logit, computed by this model with gradients"
        raise ValueError(f"excite has no gradient: {fix}")
    (slope,) = torch.autograd.grad(value, embedding)
    old, slope = embedding.detach()[:, places], slope[:, places]
    lost = (slope * old).sum(dim=-1, keepdim=True)
    gain = slope @ model.W_E.detach()[vocabulary].T - lost  # b place choice
    return gain.flatten(1).argsort(dim=1, descending=True, stable=True)


def excite_embedded(
    model: Transformer, prompts: Tokens, embedding: Tensor, excite: Excite
) -> Float[Tensor, "batch"]:
    """Excite the unit while the model reads these embeddings in place of the prompts'."""
    with model.hooks([("embed", lambda value, hook: embedding)]):
        values = check_values(excite(prompts), len(prompts))
    if torch.is_grad_enabled() and not values.requires_grad:
        fix = "return an activation or a logit, computed by this model with gradients"
        raise ValueError(f"excite has no gradient: {fix}")
    return values


@torch.no_grad()
def try_prompts(model: Transformer, prompts: Tokens, excite: Excite) -> Float[Tensor, "batch"]:
    """Excite the unit by real prompts, some at a time."""
    parts = prompts.split(choose_rows(model.config, prompts.shape[1]))
    return torch.cat([check_values(excite(part), len(part)) for part in parts])


def check_values(values: Tensor, n: int) -> Float[Tensor, "batch"]:
    """Return the values; ValueError unless there is one float per prompt, and none is nan."""
    given = type(values).__name__
    if isinstance(values, Tensor):
        given = f"{values.dtype} {tuple(values.shape)}"
    if not isinstance(values, Tensor) or values.shape != (n,) or not values.is_floating_point():
        fits = f"must return one float each: shape ({n},)"
        raise ValueError(f"excite returned {given} for {n} prompts, but {fits}")
    if values.isnan().any():
        wrong = int(values.isnan().sum())
        raise ValueError(f"excite returned nan for {wrong} of {n} prompts, but must return numbers")
    return values


def find_choices(
    model: Transformer, prompts: Tokens, free: Sequence[int] | None, allowed: Sequence[int] | None
) -> tuple[Integer[Tensor, "place"], Integer[Tensor, "choice"]]:
    """Find the free positions and the allowed tokens.

    ValueError for none, or for some that do not exist.
    """
    check_prompts(prompts, "prompts")
    vocabulary = len(model.W_E)
    if prompts.min() < 0 or prompts.max() >= vocabulary:
        given = f"tokens run from {prompts.min()} to {prompts.max()}"
        raise ValueError(f"{given}, but the vocabulary from 0 to {vocabulary - 1}")
    found = []
    for what, asked, size in (
        ("position", free, prompts.shape[1]),
        ("token", allowed, vocabulary),
    ):
        numbers = sorted(set(range(size) if asked is None else asked))
        if not numbers or numbers[0] < 0 or numbers[-1] >= size:
            fix = f"give at least one, from 0 to {size - 1}"
            raise ValueError(f"{what}s {asked} were asked for, but {fix}")
        found.append(torch.tensor(numbers, device=model.W_E.device))
    return found[0], found[1]
