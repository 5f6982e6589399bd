"""Features problems: activations that are sums of known directions, which are to be found.

A method sees 5,000 activations; its dictionary is judged on 1,000 others. The right answer has the
true directions, and knows the code of every activation by heart: what a superposed sum is made of
cannot be read off by one layer.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.metrics.features import explain_variance, score_features
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.methods import Dictionary
from mini_transformer.model import Transformer
from mini_transformer.toys.hand_set.planted_features import draw_activations

__all__ = ["PROBLEMS", "Lookup", "build", "draw_dictionary"]

CASES = {
    "planted_features/plain": "64 sparse features in 32 dimensions, independent",
    "planted_hierarchical/families": (
        "16 parents with three children each; a child is active only when its parent is"
    ),
    "planted_correlated/pairs": (
        "in three of four rows that have one feature of a pair, the other is there, too"
    ),
    "superposition_40_in_10/learned": (
        "40 features that a trained model packed into 10 dimensions"
    ),
}
N_SEEN = 5000
N_FRESH = 1000


@dataclass(frozen=True)
class Lookup:
    """A dictionary that knows its codes: those of the nearest activation in a table."""

    W_dec: Float[Tensor, "latent d"]
    activations: Float[Tensor, "n d"]
    codes: Float[Tensor, "n latent"]

    def encode(self, activations: Float[Tensor, "m d"]) -> Float[Tensor, "m latent"]:
        """Return the code of the nearest activation."""
        return self.codes[torch.cdist(activations, self.activations).argmin(dim=1)]


def build(name: str, seed: int) -> Problem:
    """Build the problem of a toy with planted features, `toy/variant`.

    >>> problem = build("superposition_40_in_10/learned", 0)
    >>> tuple(problem.arguments[0].shape), problem.arguments[1]
    ((5000, 10), 40)
    >>> problem.measure(problem.oracle())["f1"]
    1.0
    """
    case = toys.load(name.split("/")[0], seed)
    blank = dataclasses.replace(case, model=Transformer(case.model.config, seed))
    seen, seen_codes = draw_activations(case, N_SEEN, 2 * seed)
    fresh, fresh_codes = draw_activations(case, N_FRESH, 2 * seed + 1)
    # Without features `draw_activations` would have raised.
    features: toys.Features = case.truth.features  # type: ignore[assignment]
    directions = features.directions
    n, d = directions.shape

    def measure(answer: Any) -> Metrics:
        found = answer.encode(fresh).detach()
        latents = answer.W_dec.detach()
        rebuilt = answer.decode(found) if hasattr(answer, "decode") else found @ latents
        metrics = score_features(directions, fresh_codes, latents, found, features.entails)
        return {**metrics, "explained_variance": explain_variance(fresh, rebuilt.detach())}

    return Problem(
        "features",
        name,
        seed,
        arguments=(seen, n),
        untrained=(draw_activations(blank, N_SEEN, 2 * seed)[0], n),
        measure=measure,
        oracle=lambda: Lookup(
            directions, torch.cat([seen, fresh]), torch.cat([seen_codes, fresh_codes])
        ),
        random=lambda draw: draw_dictionary(n, d, draw),
        n_prompts=N_SEEN,
        note=(
            f"{CASES[name]}; directions and codes known by {features.how}; "
            f"judged on {N_FRESH} fresh activations"
        ),
    )


PROBLEMS: dict[str, Build] = dict.fromkeys(CASES, build)


def draw_dictionary(n: int, d: int, seed: int) -> Dictionary:
    """Draw random unit directions, read along the same."""
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    rows = torch.nn.functional.normalize(noise, dim=1)
    zeros = torch.zeros(d)
    return Dictionary(rows.T.contiguous(), torch.zeros(n), rows, zeros, zeros, torch.zeros(n))
