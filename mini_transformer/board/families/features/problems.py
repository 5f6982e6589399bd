"""Features problems: activations that are noisy sums of known directions, which are to be found.

A method sees 6,000 activations of a world of `worlds.py`, and how many latents it may have: fewer
than there are features, as many, or more. Its dictionary is judged on 2,000 others. The right
answer has the true directions, and knows the code of every activation by heart: what a superposed
sum is made of cannot be read off by one layer.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer.board.answers import get, read_tensor
from mini_transformer.board.families.features.worlds import Kind, World, draw_world
from mini_transformer.board.metrics.features import explain_variance, score_features
from mini_transformer.board.problem import Build, Metrics, Problem, Trap
from mini_transformer.methods import Dictionary

__all__ = ["PROBLEMS", "TRAPS", "Lookup", "build", "draw_dictionary", "read_answer"]

N_SEEN = 6000
N_FRESH = 2000
KINDS = {
    "trees": Kind(roots=8, d=48, branches=(3, 3)),
    "pairs": Kind(roots=96, d=48, most=0.15, pairs=0.75),
    "plain": Kind(roots=96, d=48, most=0.15),
}
WHAT = {
    "trees": "8 roots with 3 children each, these with 3 again; at most one child is active, and "
    "only with its parent",
    "pairs": "96 features in pairs that are mostly active together",
    "plain": "96 independent features, the most frequent in 15 % of the rows",
}
SHARES = {"narrow": 0.25, "equal": 1.0, "wide": 1.5}  # latents per feature
TRAP = {
    "trees/equal": Trap(
        "A parent is active whenever its child is: sparser codes come from a latent for both, "
        "with the parent's own silent.",
        "the parent is not there, although it is",
        lambda metrics: metrics["absorption"] > 0.1,
    ),
    "pairs/narrow": Trap(
        "Of two features that come together mostly, one latent in between explains more than "
        "either alone (hedging).",
        "the mixture of two features is a feature",
        lambda metrics: metrics["hedging"] > 0.2,
    ),
    "trees/wide": Trap(
        "Many directions explain much of the variance, whichever they are.",
        "a dictionary that explains the variance has found the features",
        lambda metrics: metrics["explained_variance"] > 2 / 3 and metrics["classification"] < 0.5,
    ),
}


@dataclass(frozen=True)
class Lookup:
    """A dictionary that knows its codes: those of the nearest activation in a table."""

    W_dec: Float[Tensor, "latent d"]
    activations: Float[Tensor, "n d"]
    codes: Float[Tensor, "n latent"]

    def encode(self, activations: Float[Tensor, "m d"]) -> Float[Tensor, "m latent"]:
        """Return the code of the nearest activation."""
        return self.codes[torch.cdist(activations, self.activations).argmin(dim=1)]


@functools.lru_cache(maxsize=4)
def draw_rows(kind: str, seed: int) -> tuple[World, Tensor, Tensor, Tensor, Tensor]:
    """Draw a world of this kind, and rows with their codes, seen and fresh."""
    world = draw_world(KINDS[kind], seed)
    return world, *world.draw(N_SEEN, 16 * seed + 1), *world.draw(N_FRESH, 16 * seed + 2)


def build(name: str, seed: int) -> Problem:
    """Build the problem of a kind of world and a width of the dictionary, `kind/width`.

    >>> problem = build("trees/narrow", 0)
    >>> tuple(problem.arguments[0].shape), problem.arguments[1]
    ((6000, 48), 26)
    >>> problem.measure(problem.oracle())["classification"]
    1.0
    """
    kind, _, width = name.partition("/")
    world, seen, seen_codes, fresh, fresh_codes = draw_rows(kind, seed)
    n, d = world.directions.shape
    n_latents = int(SHARES[width] * n)
    most = fresh_codes.gt(0).sum(dim=0).argsort(descending=True)[:n_latents]  # the most frequent
    generator = torch.Generator().manual_seed(seed)
    blank = torch.randn(N_SEEN, d, generator=generator) * seen.std() + seen.mean(dim=0)

    def measure(answer: Any) -> Metrics:
        found = answer.encode(fresh).detach()
        latents = answer.W_dec.detach()
        rebuilt = answer.decode(found) if hasattr(answer, "decode") else found @ latents
        explained = explain_variance(fresh, rebuilt.detach())
        scores = score_features(
            world.directions, fresh_codes, latents, found, world.entails, world.correlated
        )
        size = (fresh - fresh.mean(dim=0)).square().sum(dim=1).mean().sqrt()
        l1 = (found * latents.norm(dim=1)).sum(dim=1).mean() / size
        loss = 1 - explained + LOSS_PENALTY * l1.item()
        return {**scores, "explained_variance": explained, "loss": loss}

    return Problem(
        "features",
        name,
        seed,
        arguments=(seen, n_latents),
        untrained=(blank, n_latents),
        measure=measure,
        oracle=lambda: Lookup(
            world.directions[most],
            torch.cat([seen, fresh]),
            torch.cat([seen_codes, fresh_codes])[:, most],
        ),
        random=lambda draw: draw_dictionary(n_latents, d, draw),
        n_prompts=N_SEEN,
        note=(
            f"{WHAT[kind]}; {n} features in {d} dimensions, {n_latents} latents; noise, a dense "
            f"background and a bias; judged on {N_FRESH} fresh activations"
        ),
        trap=TRAP.get(name),
    )


LOSS_PENALTY = 0.1  # of the sum of codes, in units of the activations' size
NAMES = (
    "trees/narrow",
    "trees/equal",
    "trees/wide",
    "pairs/narrow",
    "plain/equal",
)
PROBLEMS: dict[str, Build] = dict.fromkeys(NAMES, build)
TRAPS: dict[str, Build] = dict.fromkeys(TRAP, build)


def draw_dictionary(n: int, d: int, seed: int) -> Dictionary:
    """Draw random unit directions, read along the same."""
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    rows = normalize(noise, dim=1)
    zeros = torch.zeros(d)
    return Dictionary(rows.T.contiguous(), torch.zeros(n), rows, zeros, zeros, torch.zeros(n))


def read_answer(answer: Any, activations: Tensor, n_features: int) -> Any:
    """Return the dictionary: `W_dec` with a row per latent, and `encode(activations)`."""
    n, d = activations.shape
    W_dec = read_tensor(get(answer, "W_dec", "encode"), "W_dec with one row per latent", None, d)
    codes = answer.encode(activations)
    read_tensor(codes, "encode(activations) with one code per latent", n, len(W_dec))
    return answer
