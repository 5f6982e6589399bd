"""Problems of the features family: activations that are sums of known directions, to be found from the activations alone.

A method sees 5,000 activations; its dictionary is judged on 1,000 others. The right answer has the true directions, and knows
the code of every activation by heart: what a superposed sum is made of cannot be read off by one layer.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.feature_metrics import explain_variance, score_features
from mini_transformer.board.problem import Metrics, Problem
from mini_transformer.methods import Dictionary
from mini_transformer.model import Transformer
from mini_transformer.toys import shipped
from mini_transformer.toys.planted_features import draw_activations

CASES = {
    "planted_features/plain": "64 sparse features in 32 dimensions, independent",
    "planted_hierarchical/families": "16 parents with three children each; a child is active only when its parent is",
    "planted_correlated/pairs": "in three of four rows that have one feature of a pair, the other is there, too",
    "superposition_40_in_10/learned": "40 features that a trained model packed into 10 dimensions",
}
NAMES, QUICK = tuple(CASES), ("planted_features/plain",)
N_SEEN, N_FRESH = 5000, 1000


def list_seeds(name: str) -> list[int]:
    """The seeds of this problem: those of the shipped model where it is a trained one."""
    return shipped.list_seeds(name.split("/")[0]) or list(range(10))


@dataclass(frozen=True)
class Lookup:
    """A dictionary that knows its codes: those of the nearest activation in a table."""

    W_dec: Float[Tensor, "latent d"]
    activations: Float[Tensor, "n d"]
    codes: Float[Tensor, "n latent"]

    def encode(self, activations: Float[Tensor, "m d"]) -> Float[Tensor, "m latent"]:
        return self.codes[torch.cdist(activations, self.activations).argmin(dim=1)]


def build(name: str, seed: int) -> Problem:
    """The problem of that name.

    >>> problem = build("superposition_40_in_10/learned", 0)
    >>> tuple(problem.arguments[0].shape), problem.arguments[1], problem.measure(problem.oracle())["f1"]
    ((5000, 10), 40, 1.0)
    """
    case = toys.load(name.split("/")[0], seed)
    blank = dataclasses.replace(case, model=Transformer(case.model.config, seed))
    seen, seen_codes = draw_activations(case, N_SEEN, 2 * seed)
    fresh, fresh_codes = draw_activations(case, N_FRESH, 2 * seed + 1)
    features: toys.Features = case.truth.features  # type: ignore[assignment]  # draw_activations would have raised
    directions, n = features.directions, len(features.directions)

    def measure(answer: Any) -> Metrics:
        found, latents = answer.encode(fresh).detach(), answer.W_dec.detach()
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
        random=lambda number: draw_dictionary(n, directions.shape[1], number),
        n_prompts=N_SEEN,
        note=f"{CASES[name]}; directions and codes known by {features.how}; judged on {N_FRESH} fresh activations",
    )


def draw_dictionary(n: int, d: int, seed: int) -> Dictionary:
    """Random unit directions, read along the same."""
    rows = torch.nn.functional.normalize(
        torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    zeros = torch.zeros(d)
    return Dictionary(rows.T.contiguous(), torch.zeros(n), rows, zeros, zeros, torch.zeros(n))
