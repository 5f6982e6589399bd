"""Worlds of planted features: activations are noisy sums of directions that come in trees.

A root is active with a probability that falls with its rank, as words do (Zipf). A feature has
children, of which at most one is active, and only where the feature is. Roots may come in pairs
that are mostly active together. On top there is what no feature explains: a bias, a few dense
directions that always vary, and noise on every axis. All of it is drawn from the seed.
Source: Chanin et al. 2026 (2602.14687), SynthSAEBench, here small.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["Kind", "World", "draw_world"]


@dataclass(frozen=True)
class Kind:
    """What sort of world is drawn.

    `branches` are the children of a root, of its children, and so on; each feature has an active
    child with probability `descent`. `most` is the probability of the most frequent root. `pairs`
    is how often a root copies its partner. `noise` is the standard deviation on each axis, `dense`
    that along each of `n_dense` directions.
    """

    roots: int
    d: int
    branches: tuple[int, ...] = ()
    descent: float = 0.7
    most: float = 0.4
    exponent: float = 0.5
    pairs: float = 0.0
    noise: float = 0.1
    dense: float = 0.4
    n_dense: int = 2


@dataclass(frozen=True)
class World:
    """Planted features: `parents` holds -1 for a root, `frequencies` those of roots alone."""

    kind: Kind
    directions: Float[Tensor, "feature d"]
    parents: Int[Tensor, "feature"]
    frequencies: Float[Tensor, "root"]
    bias: Float[Tensor, "d"]
    background: Float[Tensor, "dense d"]

    @property
    def entails(self) -> tuple[tuple[int, int], ...]:
        """List (child, parent)."""
        return tuple((i, p) for i, p in enumerate(self.parents.tolist()) if p >= 0)

    @property
    def correlated(self) -> tuple[tuple[int, int], ...]:
        """List the pairs of roots that are mostly active together."""
        roots = range(self.kind.roots if self.kind.pairs else 0)
        return tuple(zip(roots[::2], roots[1::2], strict=True))

    def draw(self, n: int, seed: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n feature"]]:
        """Draw activations, and the codes of the features in them."""
        generator = torch.Generator().manual_seed(seed)
        kind = self.kind
        chance = torch.rand(n, kind.roots, generator=generator)
        if kind.pairs:
            copied = torch.rand(n, kind.roots // 2, generator=generator) < kind.pairs
            chance[:, 1::2] = torch.where(copied, chance[:, ::2], chance[:, 1::2])
        layers = [chance < self.frequencies]
        for width in kind.branches:
            above = layers[-1]
            chosen = torch.rand(above.shape, generator=generator) / kind.descent * width
            chosen = torch.where(above, chosen, width).long()
            layers.append((chosen[..., None] == torch.arange(width)).flatten(1))
        active = torch.cat(layers, dim=1)
        size = (1 + 0.25 * torch.randn(active.shape, generator=generator)).clamp(min=0.3)
        codes = active * size
        rest = torch.randn(n, len(self.background), generator=generator) @ self.background
        noise = kind.noise * torch.randn(n, kind.d, generator=generator)
        return codes @ self.directions + self.bias + rest + noise, codes


def draw_world(kind: Kind, seed: int) -> World:
    """Draw a world of this kind.

    >>> world = draw_world(Kind(roots=4, d=16, branches=(3,)), seed=0)
    >>> activations, codes = world.draw(100, seed=1)
    >>> tuple(activations.shape), tuple(codes.shape), world.entails[:2]
    ((100, 16), (100, 16), ((4, 0), (5, 0)))
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    sizes = [kind.roots]
    parents = [torch.full((kind.roots,), -1)]
    for width in kind.branches:
        first = sum(sizes) - sizes[-1]
        parents.append(first + torch.arange(sizes[-1]).repeat_interleave(width))
        sizes.append(sizes[-1] * width)
    ranks = torch.randperm(kind.roots, generator=generator)
    if kind.pairs:  # partners are equally frequent
        ranks = torch.randperm(kind.roots // 2, generator=generator).repeat_interleave(2)
    return World(
        kind,
        directions=normalize(draw(sum(sizes), kind.d)),
        parents=torch.cat(parents),
        frequencies=kind.most * (1.0 + ranks) ** -kind.exponent,
        bias=draw(kind.d) / kind.d**0.5,
        background=kind.dense * normalize(draw(kind.n_dense, kind.d)),
    )
