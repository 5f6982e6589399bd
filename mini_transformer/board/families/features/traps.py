"""Features problems with a trap.

Two are problems that are there anyway. The third is made for its trap: features that come in pairs,
and room for only half of them.
"""

import dataclasses
from typing import Any

import torch
from torch.nn.functional import normalize

from mini_transformer import toys
from mini_transformer.board.families.features.problems import Lookup, build, draw_dictionary
from mini_transformer.board.metrics.features import CARRIES
from mini_transformer.board.problem import Build, Metrics, Problem, Trap

__all__ = ["TRAPS", "explain_without_finding", "merge_pairs", "skip_parents"]

N_LATENTS = 32  # for 64 features


def explain_without_finding(name: str, seed: int) -> Problem:
    """Ask for features where any direction explains variance."""
    trap = Trap(
        "Many directions explain much of the variance, whichever they are.",
        "a dictionary that explains the variance has found the features",
        lambda metrics: metrics["explained_variance"] > 0.6 and metrics["f1"] < 0.2,
    )
    return dataclasses.replace(build(name, seed), trap=trap)


def skip_parents(name: str, seed: int) -> Problem:
    """Ask for features of which a parent is active whenever its child is."""
    trap = Trap(
        "A parent is active whenever its child is: sparser codes come from a latent for both, "
        "with the parent's own silent.",
        "the parent is not there, although it is",
        lambda metrics: metrics["absorption"] > 0.1,
    )
    return dataclasses.replace(build(name, seed), trap=trap)


def merge_pairs(name: str, seed: int) -> Problem:
    """Ask for features that come in pairs, with room for only half of them.

    `f1` is relative to that of the best that so few latents can do: one feature each.

    >>> problem = merge_pairs("planted_correlated/narrow", 0)
    >>> found = problem.measure(problem.oracle())
    >>> found["f1"], found["hedging"]
    (1.0, 0.0)
    """
    whole = build("planted_correlated/pairs", seed)
    seen = whole.arguments[0]
    case = toys.load("planted_correlated", seed)
    features: toys.Features = case.truth.features  # type: ignore[assignment]
    n, d = features.directions.shape
    first, second = torch.tensor(features.correlated).T
    right: Lookup = whole.oracle()

    def measure(answer: Any) -> Metrics:
        found = whole.measure(answer)
        latents = answer.W_dec.detach()
        codes = answer.encode(seen).detach()
        near = normalize(features.directions) @ normalize(latents).T > CARRIES
        mixed = (near[first] & near[second]).any(dim=0) & (codes > 0).any(dim=0)
        most = 2 * N_LATENTS / (n + N_LATENTS)
        return {**found, "f1": min(1.0, found["f1"] / most), "hedging": mixed.float().mean().item()}

    return dataclasses.replace(
        whole,
        name=name,
        arguments=(seen, N_LATENTS),
        untrained=(whole.untrained[0], N_LATENTS),
        measure=measure,
        oracle=lambda: Lookup(right.W_dec[first], right.activations, right.codes[:, first]),
        random=lambda draw: draw_dictionary(N_LATENTS, d, draw),
        note=(
            f"{whole.note}; {N_LATENTS} latents for {n} features, "
            "so f1 is a share of the most that is possible"
        ),
        trap=Trap(
            "Of two features that come together mostly, one latent in between explains more than "
            "either alone (hedging).",
            "the mixture of two features is a feature",
            lambda metrics: metrics["hedging"] > 0.5,
        ),
    )


TRAPS: dict[str, Build] = {
    "planted_features/plain": explain_without_finding,
    "planted_hierarchical/families": skip_parents,
    "planted_correlated/narrow": merge_pairs,
}
