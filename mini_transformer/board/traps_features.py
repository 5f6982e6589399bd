"""A features problem that is there for its trap: features that come in pairs, and room for only half of them."""

import dataclasses
from typing import Any

import torch
from torch.nn.functional import normalize

from mini_transformer import toys
from mini_transformer.board import problems_features
from mini_transformer.board.feature_metrics import CARRIES
from mini_transformer.board.problem import Metrics, Problem, Trap
from mini_transformer.board.problems_features import Lookup, draw_dictionary

NAMES, QUICK = ("planted_correlated/narrow",), ()
N_LATENTS = 32  # for 64 features


def build(name: str, seed: int = 0) -> Problem:
    """`f1` is relative to that of the best that so few latents can do: one feature each.

    >>> problem = build("planted_correlated/narrow")
    >>> found = problem.measure(problem.oracle())
    >>> found["f1"], found["hedging"]
    (1.0, 0.0)
    """
    whole = problems_features.build("planted_correlated/pairs", seed)
    features: toys.Features = toys.load("planted_correlated", seed).truth.features  # type: ignore[assignment]
    n, d = features.directions.shape
    first, second = torch.tensor(features.correlated).T
    right: Lookup = whole.oracle()

    def measure(answer: Any) -> Metrics:
        found = whole.measure(answer)
        latents, codes = answer.W_dec.detach(), answer.encode(whole.arguments[0]).detach()
        near = normalize(features.directions) @ normalize(latents).T > CARRIES
        mixed = (near[first] & near[second]).any(dim=0) & (codes > 0).any(dim=0)
        most = 2 * N_LATENTS / (n + N_LATENTS)
        return {**found, "f1": min(1.0, found["f1"] / most), "hedging": mixed.float().mean().item()}

    return dataclasses.replace(
        whole,
        name=name,
        arguments=(whole.arguments[0], N_LATENTS),
        untrained=(whole.untrained[0], N_LATENTS),
        measure=measure,
        oracle=lambda: Lookup(right.W_dec[first], right.activations, right.codes[:, first]),
        random=lambda number: draw_dictionary(N_LATENTS, d, number),
        note=f"{whole.note}; {N_LATENTS} latents for {n} features, so f1 is a share of the most that is possible",
        trap=Trap(
            "Of two features that come together mostly, one latent in between explains more than either alone (hedging).",
            "the mixture of two features is a feature",
            lambda metrics: metrics["hedging"] > 0.5,
        ),
    )
