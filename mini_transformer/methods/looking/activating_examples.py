"""Activating examples: on which prompts a unit is most active, and a sample of others.

Looking at the top alone is how a unit seems to mean one thing (the interpretability illusion): what
it does most of the time is further down. So look at bands of quantiles, too, where examples are
drawn at random from all that fall into a band. Both depend on the prompts: a data set that lacks
what excites a unit shows something else instead.
Sources: Bolukbasi et al. 2021 (2104.07143) on the illusion; Bricken et al. 2023 on examples from
the whole range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.hooks import HookName
from mini_transformer.methods.arguments import Position, Tokens, check_prompts
from mini_transformer.methods.looking.activation_statistics import measure_units
from mini_transformer.methods.looking.units import Basis, list_places, stream_units
from mini_transformer.methods.numerics import draw_uniform
from mini_transformer.model import Transformer

__all__ = ["Examples", "find_max_activating", "sample_bands"]


@dataclass(frozen=True)
class Examples:
    """Per unit, k places in the prompts, each with its activation and the tokens around it.

    A token -1 is beyond the prompt. `before` of the window's tokens come before the place. A place
    that does not exist (a band with fewer than k) has prompt -1 and value nan.
    """

    value: Float[Tensor, "unit k"]
    prompt: Integer[Tensor, "unit k"]
    position: Integer[Tensor, "unit k"]
    window: Integer[Tensor, "unit k width"]
    before: int

    def show(self, unit: int, token_names: Sequence[str]) -> str:
        """Write a unit's examples, a line each, with the token where it is active in brackets."""
        lines = []
        windows = self.window[unit].tolist()
        for value, window in zip(self.value[unit].tolist(), windows, strict=True):
            words = ["" if token < 0 else token_names[token] for token in window]
            words[self.before] = f"[{words[self.before]}]"
            lines.append(f"{value:8.3f}  {' '.join(filter(None, words))}")
        return "\n".join(lines)


def find_max_activating(
    model: Transformer,
    tokens: Tokens,
    hook: HookName,
    basis: Basis | None = None,
    k: int = 5,
    position: Position = -1,
    before: int = 5,
    after: int = 0,
    batch_size: int | None = None,
) -> Examples:
    """Find the k places at which each unit is most active, the highest first.

    Of equal ones, the first in the prompts comes first. Units, hook and basis are those of
    `read_units`; `position` None looks at all places of a prompt. Memory does not grow with the
    number of prompts. An activation that is nan is no example. ValueError for more examples than
    there are places.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> prompts = torch.tensor([[x, y, 2, 2, 2, 3] for x in (0, 1) for y in (0, 1)])
    >>> found = find_max_activating(case.model, prompts, ("post", 0), k=1)
    >>> print(found.show(0, case.task.token_names))
       1.000  1 1 . . . [=]
    """
    check_counts(tokens, position, k, before, after)
    best = Leaders(k)
    for rows, values in stream_units(model, tokens, hook, basis, position, batch_size):
        best.add(rows.start, values, values)
    return best.locate(tokens, position, before, after)


def sample_bands(
    model: Transformer,
    tokens: Tokens,
    hook: HookName,
    basis: Basis | None = None,
    levels: Sequence[float | int] = (0.0, 0.5, 0.9, 0.99, 1.0),
    k: int = 5,
    position: Position = -1,
    before: int = 5,
    after: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
) -> list[Examples]:
    """Sample examples from each band between two quantiles of a unit's activations.

    The lowest band comes first. A band holds its ends, so where most activations are zero, several
    bands may hold zeros. The quantiles are those of `measure_units`, the other arguments those of
    `find_max_activating`. ValueError for levels that do not rise from 0 to 1.

    >>> from mini_transformer import toys
    >>> case = toys.load("planted_features")
    >>> truth = case.truth.features
    >>> run = case.model, truth.draw(500, 0), truth.site, truth.directions
    >>> bands = sample_bands(*run, position=truth.position)
    >>> [round(band.value.mean().item(), 1) for band in bands]
    [-0.1, 0.1, 0.5, 1.3]
    """
    check_counts(tokens, position, k, before, after)
    if len(levels) < 2 or any(not 0 <= low < high <= 1 for low, high in pairwise(levels)):
        raise ValueError(f"levels are {levels}, but must rise from 0 to 1, at least two")
    found = measure_units(
        model, tokens, hook, basis, position, levels=levels, seed=seed, batch_size=batch_size
    )
    edges = found.quantiles
    # Quantiles may come from a sample, and then leave out the extremes.
    edges[[i for i, level in enumerate(levels) if level == 0]] = -torch.inf
    edges[[i for i, level in enumerate(levels) if level == 1]] = torch.inf
    generator = torch.Generator().manual_seed(seed)
    # The k highest in a band win.
    lottery = draw_uniform(found.n, generator=generator, like=edges.float())
    bands = [Leaders(k) for _ in levels[1:]]
    for rows, values in stream_units(model, tokens, hook, basis, position, batch_size):
        for band, (low, high) in zip(bands, pairwise(edges), strict=True):
            inside = (values >= low) & (values <= high)
            band.add(rows.start, values, torch.where(inside, lottery[rows, None], -torch.inf))
    return [band.locate(tokens, position, before, after) for band in bands]


class Leaders:
    """The k rows of the highest rank for each unit, among rows that come in batches.

    Ranks of -inf or nan do not count.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.parts = list[Tensor]()

    def add(
        self, start: int, values: Float[Tensor, "row unit"], ranks: Float[Tensor, "row unit"]
    ) -> None:
        """Add a batch of rows, counted from `start`; batches come in their order."""
        number = torch.arange(start, start + len(values), dtype=torch.int64, device=values.device)
        ranks = ranks.masked_fill(ranks.isnan(), -torch.inf)
        parts = [ranks.T.contiguous(), values.T, number[:, None].expand(values.shape).T]  # unit row
        if self.parts:
            pairs = zip(self.parts, parts, strict=True)
            parts = [torch.cat([old, new], dim=1) for old, new in pairs]
        best = find_highest(parts[0], min(self.k, parts[0].shape[1]))
        self.parts = [part.gather(1, best) for part in parts]

    def locate(self, tokens: Tokens, position: Position, before: int, after: int) -> Examples:
        """Look up the places and the windows of the rows that lead."""
        ranks, values, number = self.parts
        missing = ranks == -torch.inf
        places = list_places(tokens, position).to(number.device)
        prompt = number // places.shape[1]
        place = places.flatten()[number]
        padded = F.pad(tokens.long().to(number.device), (before, after), value=-1)
        steps = torch.arange(before + 1 + after, device=number.device)
        window = padded[prompt[..., None], place[..., None] + steps]
        return Examples(
            values.masked_fill(missing, torch.nan),
            prompt.masked_fill(missing, -1),
            place.masked_fill(missing, -1),
            window.masked_fill(missing[..., None], -1),
            before,
        )


def find_highest(ranks: Float[Tensor, "unit row"], k: int) -> Integer[Tensor, "unit k"]:
    """Find where the k highest of each unit are, the highest first.

    Of equal ones the first rows are taken; `topk` takes any of them.
    """
    last = ranks.topk(k, dim=1).values[:, -1:]
    above, equal = ranks > last, ranks == last
    room = k - above.sum(dim=1, keepdim=True)
    rows = (above | (equal & (equal.cumsum(dim=1) <= room))).nonzero()[:, 1].view(-1, k)
    return rows.gather(1, ranks.gather(1, rows).sort(dim=1, descending=True, stable=True).indices)


def check_counts(tokens: Tokens, position: Position, k: int, before: int, after: int) -> None:
    """Raise ValueError unless k examples can be had, with windows of a size that exists."""
    check_prompts(tokens)
    places = list_places(tokens, position).numel()
    if not 1 <= k <= places:
        has = f"there are {places} places to take them from"
        raise ValueError(f"{k} examples were asked for, but {has}")
    if before < 0 or after < 0:
        given = f"the window has {before} tokens before and {after} after"
        raise ValueError(f"{given}, but must have 0 or more")
