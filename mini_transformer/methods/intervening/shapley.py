"""Shapley values: what each token of a prompt adds to a metric, averaged over all orders.

An order says when each token comes in. It is the only split that adds up to the whole change, gives
equal tokens equal shares and idle ones nothing, and of the sum of two metrics gives the sum of both
splits. Two tokens that each suffice get half each, where `occlude_each` gives both nothing; but a
half may also mean that both are needed, so look at the coalitions, too. Exact values take 2^n runs
for n tokens; sampled orders give unbiased ones with a standard error. Most of the prompts on the
way are nothing like those that the model was trained on.
Sources: Shapley 1953, "A value for n-person games"; Castro et al. 2009 on sampled orders; Lundberg
& Lee 2017 (1705.07874), section 2.4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mini_transformer.methods.arguments import Metric, Tokens, check_positions, check_prompts
from mini_transformer.methods.intervening.baselines import Baseline, score_coalitions
from mini_transformer.model import Transformer

__all__ = ["ShapleyEstimate", "measure_shapley", "sample_shapley"]

MOST = 14  # tokens for exact values: 16,384 coalitions


@dataclass(frozen=True)
class ShapleyEstimate:
    """Values (b, player) from sampled orders, and one standard deviation of their mean."""

    values: Float[Tensor, "batch player"]
    standard_error: Float[Tensor, "batch player"]


def measure_shapley(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    positions: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "batch player"]:
    """Measure the exact Shapley value of each position's token, in units of the metric.

    `positions` are the players, by default all; the tokens elsewhere are always there.
    `metric(logits)` gives one number per prompt, baselines are those of `multiply_gradient`.
    ValueError for more than 14 players: use `sample_shapley`.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_or")
    >>> def metric(logits):
    ...     return (logits[:, -1, 1] > logits[:, -1, 0]).float()
    >>> tokens, zero = torch.tensor([[1, 1, 2, 2, 2, 3]]), torch.tensor(0)
    >>> measure_shapley(case.model, tokens, metric, zero, positions=[0, 1, 2])
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    check_prompts(tokens)
    players = find_players(positions, tokens.shape[1])
    n = len(players)
    if n > MOST:
        given = f"{n} positions have 2^{n} coalitions"
        raise ValueError(f"{given}, but exact values take at most {MOST}: sample_shapley")
    number = torch.arange(2**n, device=model.W_E.device)  # of a coalition; its bits are its members
    inside = (number[:, None] >> number[:n]) & 1 == 1  # coalition player
    present = seat(inside, players, tokens.shape[1])
    values = score_coalitions(model, tokens, metric, baseline, present, batch_size)
    shares = [1 / (n * math.comb(n - 1, size)) for size in range(n)]  # of the orders
    share = values.new_tensor(shares)
    found = []
    for player in range(n):
        without = number[~inside[:, player]]
        added = values[without + 2**player] - values[without]  # coalition batch
        found.append(share[inside[without].sum(dim=1)] @ added)
    return torch.stack(found, dim=1)


def sample_shapley(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    draws: int = 100,
    positions: Sequence[int] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> ShapleyEstimate:
    """Estimate Shapley values from `draws` random orders, with their standard errors.

    The orders are the same for every prompt. Arguments are those of `measure_shapley`. The values
    add up to the whole change of the metric, however few the draws (at least 2).

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_or")
    >>> def metric(logits):
    ...     return (logits[:, -1, 1] > logits[:, -1, 0]).float()
    >>> tokens, zero = torch.tensor([[1, 1, 2, 2, 2, 3]]), torch.tensor(0)
    >>> found = sample_shapley(case.model, tokens, metric, zero, positions=[0, 1])
    >>> bool((found.values - 0.5).abs().max() < 3 * found.standard_error.max())
    True
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}, but a standard error needs at least 2")
    check_prompts(tokens)
    players = find_players(positions, tokens.shape[1])
    n = len(players)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(draws, n, generator=generator, dtype=torch.float32, device="cpu")
    place = drawn.argsort(dim=1).to(model.W_E.device)  # when each player comes in
    arrivals = torch.arange(n + 1, device=place.device)
    inside = place[:, None] < arrivals[:, None]  # draw arrivals player
    present = seat(inside.flatten(0, 1), players, tokens.shape[1])
    values = score_coalitions(model, tokens, metric, baseline, present, batch_size)
    added = values.unflatten(0, (draws, n + 1)).diff(dim=1).transpose(1, 2)  # draw batch arrival
    shares = added.gather(2, place[:, None].expand_as(added))  # draw batch player
    return ShapleyEstimate(shares.mean(dim=0), shares.std(dim=0) / math.sqrt(draws))


def find_players(positions: Sequence[int] | None, length: int) -> list[int]:
    """Count the players' positions from 0.

    ValueError for none, for one that the prompts do not have, or one given twice.
    """
    players = list(range(length)) if positions is None else list(positions)
    check_positions(players, length)
    players = [position % length for position in players]
    if not players or len(set(players)) < len(players):
        raise ValueError(f"positions are {positions}, but must be at least one, and each once")
    return players


def seat(
    inside: Bool[Tensor, "coalition player"], players: list[int], length: int
) -> Bool[Tensor, "coalition pos"]:
    """Mark which tokens are present: those of a coalition, and all that do not play."""
    present = inside.new_ones(len(inside), length)
    present[:, players] = inside
    return present
