"""Feature synthesis: make up the input that excites a unit most, instead of looking for it in a data set.

First a relaxed input climbs the gradient: at each free position a mixture of token embeddings, weighted by a softmax. The mixture
often excites a unit more than any real prompt can, so its value proves nothing. Then each position keeps its heaviest token,
and real prompts climb on by single swaps: the gradient ranks them, the model says which one is best. The end
is a prompt that no single swap improves, and its value is that of real tokens; two swaps together might still do better. What
is found need not occur in any data, and says what can excite a unit, not what does.
Sources: Olah et al. 2017 on optimised inputs; Ebrahimi et al. 2018 (1712.06751) on swaps by gradient; Zou et al. 2023 (2307.15043), section 2.

Checked against: all prompts of small models tried out, all single swaps of the prompt that is found, and hand-set units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.methods.arguments import check_gradients, draw_normal, make_ordinary, widen
from mini_transformer.methods.descent import descend
from mini_transformer.methods.sites import check_prompts, choose_rows
from mini_transformer.model import Transformer

Prompts = Integer[Tensor, "batch pos"]
Excite = Callable[[Tensor], Tensor]  # prompts (b, t) to one number each (b), by running the model


@dataclass(frozen=True)
class Synthesis:
    """A prompt, and how strongly it excites the unit; beside it what the relaxed input and its projection reached."""

    tokens: Integer[Tensor, "pos"]
    value: float
    relaxed: float
    projected: float


def synthesise_input(
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
    """The best prompt found from `restarts` relaxed inputs, and from `start` if its tokens are allowed, each followed by swaps.

    `excite(prompts)` runs the model and gives one number per prompt: of any activation, say
    `lambda prompts: read_units(model, prompts, ("pre", 0))[:, -1, 5]`, or of logits. Prefer what comes before a ReLU: where that
    is shut, there is no gradient. Only positions in `free` change (default: all), to tokens in `allowed` (default: all).

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods import read_units
    >>> case = toys.load("boolean_and")
    >>> def neuron(prompts):
    ...     return read_units(case.model, prompts, ("pre", 0))[:, -1, 0]
    >>> found = synthesise_input(case.model, torch.tensor([0, 0, 2, 2, 2, 3]), neuron, free=[0, 1, 2], allowed=[0, 1])
    >>> found.tokens[:2].tolist(), round(found.value, 3)
    ([1, 1], 1.0)
    """
    check_gradients(model)
    if start.ndim != 1 or restarts < 1:
        raise ValueError(
            f"start is {tuple(start.shape)}, restarts {restarts}: expected one prompt, and at least 1"
        )
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
    prompts: Prompts,
    excite: Excite,
    free: Sequence[int] | None = None,
    allowed: Sequence[int] | None = None,
    shortlist: int = 32,
) -> tuple[Prompts, Float[Tensor, "batch"]]:
    """Each prompt after swapping one token at a time for as long as that helps, and its value: coordinate ascent.

    In every round the gradient ranks all swaps, the first `shortlist` of them are run, and the best is kept. When none of these
    improves any prompt, all swaps are run: at the end no single one improves any, by more than rounding. Arguments are those of
    `synthesise_input`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> def logit(prompts):
    ...     return model(prompts)[:, -1, 7]
    >>> found, values = climb_by_swaps(model, torch.tensor([[1, 2, 3]]), logit)
    >>> bool(torch.allclose(logit(found), values)), bool(values > logit(torch.tensor([[1, 2, 3]])))
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
            size = (
                torch.where(reached.isfinite(), reached, 0.0).abs().amax(dim=1)
            )  # of this unit, on these prompts
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
    """Mixtures of tokens after gradient ascent: the heaviest token of each, and the best value that a mixture reached."""
    generator = torch.Generator().manual_seed(seed)
    W_E, prompts = model.W_E.detach(), start.long().repeat(restarts, 1)
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
    prompts: Prompts,
    excite: Excite,
    places: Integer[Tensor, "place"],
    vocabulary: Integer[Tensor, "choice"],
) -> Integer[Tensor, "batch swap"]:
    """All swaps, numbered place by place, from the one that the gradient expects most of (HotFlip's estimate)."""
    embedding = model.W_E.detach()[prompts].requires_grad_()
    with torch.enable_grad():
        value = excite_embedded(model, prompts, embedding, excite).sum()
    if not value.requires_grad:
        raise ValueError(
            "excite has no gradient: return an activation or a logit, computed by this model with gradients"
        )
    (slope,) = torch.autograd.grad(value, embedding)
    old, slope = embedding.detach()[:, places], slope[:, places]
    gain = slope @ model.W_E.detach()[vocabulary].T - (slope * old).sum(
        dim=-1, keepdim=True
    )  # b place choice
    return gain.flatten(1).argsort(dim=1, descending=True, stable=True)


def excite_embedded(
    model: Transformer, prompts: Prompts, embedding: Tensor, excite: Excite
) -> Float[Tensor, "batch"]:
    """What `excite` gives while the model reads these embeddings in place of the prompts'."""
    with model.hooks([("embed", lambda value, hook: embedding)]):
        return check_values(excite(prompts), len(prompts))


@torch.no_grad()
def try_prompts(model: Transformer, prompts: Prompts, excite: Excite) -> Float[Tensor, "batch"]:
    """What `excite` gives for real prompts, some at a time."""
    parts = prompts.split(choose_rows(model.config, prompts.shape[1]))
    return torch.cat([check_values(excite(part), len(part)) for part in parts])


def check_values(values: Tensor, n: int) -> Float[Tensor, "batch"]:
    """ValueError unless there is one float per prompt, and none is nan."""
    if not isinstance(values, Tensor) or values.shape != (n,) or not values.is_floating_point():
        given = (
            f"{values.dtype} {tuple(values.shape)}"
            if isinstance(values, Tensor)
            else type(values).__name__
        )
        raise ValueError(
            f"excite returned {given} for {n} prompts, but must return one float each: shape ({n},)"
        )
    if values.isnan().any():
        raise ValueError(
            f"excite returned nan for {int(values.isnan().sum())} of {n} prompts, but must return numbers"
        )
    return values


def find_choices(
    model: Transformer, prompts: Prompts, free: Sequence[int] | None, allowed: Sequence[int] | None
) -> tuple[Integer[Tensor, "place"], Integer[Tensor, "choice"]]:
    """The free positions and allowed tokens; ValueError for none, or for some that do not exist."""
    check_prompts(prompts, "prompts")
    if prompts.min() < 0 or prompts.max() >= len(model.W_E):
        ends = f"{prompts.min()} to {prompts.max()}"
        raise ValueError(
            f"tokens run from {ends}, but the vocabulary from 0 to {len(model.W_E) - 1}"
        )
    found = []
    for what, given, size in (
        ("position", free, prompts.shape[1]),
        ("token", allowed, len(model.W_E)),
    ):
        numbers = sorted(set(range(size) if given is None else given))
        if not numbers or numbers[0] < 0 or numbers[-1] >= size:
            raise ValueError(
                f"{what}s {given} were asked for, but give at least one, from 0 to {size - 1}"
            )
        found.append(torch.tensor(numbers, device=model.W_E.device))
    return found[0], found[1]
