"""Attention scores: how much of each head's attention goes where a known kind would look.

A score says where a head looks, not what it moves nor whether anything reads it: a head whose
output is zero scores as high as one that does the work (`ablation` and `patching` tell them apart).
A score is an average over the queries it is taken on, so take it where the behaviour is needed: a
model that repeats after at most 20 tokens may have a perfect previous-token head in the first 20
positions and a uniform one after them.
Sources: Olsson et al. 2022 (2209.11895) for prefix matching; Xiao et al. 2023 (2309.17453) for
sinks.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mini_transformer.methods.arguments import Tokens
from mini_transformer.methods.numerics import widen
from mini_transformer.model import Transformer

__all__ = [
    "score_duplicate_token",
    "score_heads",
    "score_induction",
    "score_previous_token",
    "score_sink",
]

HeadScores = Float[Tensor, "layer head"]
ALL = slice(None)


def score_heads(
    model: Transformer,
    tokens: Tokens,
    targets: Bool[Tensor, "batch query key"],
    queries: slice = ALL,
) -> HeadScores:
    """Score each head by the attention that it pays to the target keys.

    It is averaged over the queries that have a target; `queries` restricts them to some positions.
    ValueError if no query has a target.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=2, n_heads=4))
    >>> tokens = torch.tensor([[0, 1, 2, 3]])
    >>> everything = torch.ones(1, 4, 4, dtype=torch.bool)
    >>> bool(torch.allclose(score_heads(model, tokens, everything), torch.ones(2, 4)))
    True
    """
    if not model.config.n_layers:
        fix = "give one with n_layers of at least 1"
        raise ValueError(f"the model has no layers, so no heads to score: {fix}")
    if tokens.ndim != 2:
        given = f"tokens are {tokens.dtype} {tuple(tokens.shape)}"
        raise ValueError(f"{given}, expected integers of shape (batch, pos)")
    fits = (*tokens.shape, tokens.shape[-1])
    if targets.dtype != torch.bool or targets.shape != fits:
        given = f"targets are {targets.dtype} {tuple(targets.shape)}"
        what = "which keys count, per prompt and query"
        raise ValueError(f"{given}, expected torch.bool {fits}: {what}")
    device = model.W_E.device
    targets = targets.to(device)
    counted = torch.zeros(tokens.shape[-1], dtype=torch.bool, device=device)
    counted[queries] = True
    counted = targets.any(dim=-1) & counted  # b q
    if not counted.any():
        fix = "give prompts in which there is one"
        raise ValueError(f"no query has a key to look for in these tokens: {fix}")
    names = [("pattern", layer) for layer in range(model.config.n_layers)]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=[*names])
    patterns = widen(torch.stack([cache[name] for name in names]))  # l b n q k
    on_target = (patterns * targets.unsqueeze(1)).sum(dim=-1)  # l b n q
    return on_target.transpose(1, 2)[:, :, counted].mean(dim=-1)


def score_previous_token(model: Transformer, tokens: Tokens, queries: slice = ALL) -> HeadScores:
    """Score attention to the position just before (Elhage et al. 2021).

    It is averaged over all positions but the first.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, n_heads=2))
    >>> tuple(score_previous_token(model, torch.tensor([[0, 1, 2, 3]])).shape)
    (1, 2)
    """
    previous = mark_each_pair(tokens).tril(-1).triu(-1)
    return score_heads(model, tokens, previous.expand(*tokens.shape, -1), queries)


def score_induction(model: Transformer, tokens: Tokens, queries: slice = ALL) -> HeadScores:
    """Score attention to the positions after all earlier occurrences of the query's token.

    The "prefix matching score" of Olsson et al. 2022, averaged over the queries that have such a
    position. With a fixed period it cannot tell matching from looking a fixed distance back: vary
    the period. A first-layer head can score high only by such a shortcut.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> score_induction(case.model, case.task.draw(64).clean)[1, 0].item() > 0.99
    True
    """
    after = torch.zeros(*tokens.shape, tokens.shape[-1], dtype=torch.bool, device=tokens.device)
    after[..., 1:] = mark_earlier_occurrences(tokens)[..., :-1]
    return score_heads(model, tokens, after, queries)


def score_duplicate_token(model: Transformer, tokens: Tokens, queries: slice = ALL) -> HeadScores:
    """Score attention to the earlier occurrences of the query's token.

    It is averaged over the queries that have one (Wang et al. 2022, section 3).
    """
    return score_heads(model, tokens, mark_earlier_occurrences(tokens), queries)


def score_sink(model: Transformer, tokens: Tokens, queries: slice = ALL) -> HeadScores:
    """Score attention to the first position, averaged over all later ones.

    These are the "attention sinks" of Xiao et al. 2023. A head with nothing to do needs somewhere
    to look; a high score often means "does nothing here". A head that spreads evenly scores more
    than zero too: the mean of 1 / (position + 1).
    """
    first = mark_each_pair(tokens).tril(-1)
    first[:, 1:] = False
    return score_heads(model, tokens, first.expand(*tokens.shape, -1), queries)


def mark_each_pair(tokens: Tokens) -> Bool[Tensor, "query key"]:
    """Mark every query with every key."""
    return torch.ones(tokens.shape[-1], tokens.shape[-1], dtype=torch.bool, device=tokens.device)


def mark_earlier_occurrences(tokens: Tokens) -> Bool[Tensor, "batch query key"]:
    """Mark the keys that hold the query's token and come before it."""
    return (tokens.unsqueeze(-1) == tokens.unsqueeze(-2)).tril(-1)
