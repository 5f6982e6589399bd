"""A stream that holds planted variables in Gaussian noise, and a model that reads some of them.

Each variable is a bit; each combination of bits has a mean, and the noise is the same everywhere,
so what activations say of a label is known: it is the posterior under Bayes' rule. No axis means
anything, variables are not orthogonal, and noise differs by a factor of 20 between directions. Rows
are embeddings of tokens, one each, so that a model of one position runs on them.
"""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

__all__ = [
    "HOOK",
    "LATE_HOOK",
    "Rows",
    "World",
    "build_reader",
    "draw_world",
    "name_outcomes",
]

HOOK, LATE_HOOK = "blocks.0.hook_resid_mid", "blocks.0.hook_resid_post"
D = 32
N_VARIABLES = 5
STRENGTH = 8.0  # how much higher the logit of an outcome is for each bit that it has right
LENGTH = 8.0  # of what the MLP writes for a bit, so that noise hardly hides it
QUIET, LOUD = 0.15, 3.0  # variance of the noise along its quietest direction and its loudest


@dataclass(frozen=True)
class Rows:
    """Activations, the combination of bits that each row has, and the bits."""

    x: Float[Tensor, "n d"]
    combos: Int[Tensor, "n"]
    bits: Int[Tensor, "n variable"]  # with "first two bits" as the last, if that is written


@dataclass(frozen=True)
class World:
    """All combinations of bits, the mean of each, and the noise; all in float64.

    Variable i is written along `written[i]`. The last direction may be that of "first two bits".
    """

    bits: Int[Tensor, "combo variable"]  # as in `Rows`
    written: Float[Tensor, "direction d"]
    means: Float[Tensor, "combo d"]
    covariance: Float[Tensor, "d d"]

    def make_chances(self, agreement: dict[int, float]) -> Float[Tensor, "combo"]:
        """Return the probability of each combination.

        Bits are even and independent, but bit i is equal to bit 0 with probability `agreement[i]`.
        """
        chances = torch.full((len(self.bits),), 0.5, dtype=torch.float64)
        for i in range(1, N_VARIABLES):
            agree = agreement.get(i, 0.5)
            chances *= torch.where(self.bits[:, i] == self.bits[:, 0], agree, 1 - agree)
        return chances

    def draw(self, n: int, chances: Float[Tensor, "combo"], seed: int) -> Rows:
        """Draw rows."""
        generator = torch.Generator().manual_seed(seed)
        combos = chances.multinomial(n, True, generator=generator)
        noise = torch.randn(n, D, generator=generator, dtype=torch.float64)
        x = self.means[combos] + noise @ torch.linalg.cholesky(self.covariance).T
        return Rows(x.float(), combos, self.bits[combos])

    def find_posterior(
        self, x: Float[Tensor, "n d"], chances: Float[Tensor, "combo"], labels: Int[Tensor, "combo"]
    ) -> Float[Tensor, "n class"]:
        """Compute the probability of each label given the activations (Bayes' rule)."""
        weights = torch.linalg.solve(self.covariance, self.means.T)
        logs = x.double() @ weights - (self.means.T * weights).sum(dim=0) / 2 + chances.log()
        onehot = torch.nn.functional.one_hot(labels).double()
        return logs.softmax(dim=1) @ onehot

    def find_readers(self) -> Float[Tensor, "direction d"]:
        """Find what to read along: noise is least, and no other variable is seen."""
        weights = torch.linalg.solve(self.covariance, self.written.T)
        return torch.linalg.solve(self.written @ weights, weights.T)


def draw_world(seed: int, both: bool = False, size: float = 2.5) -> World:
    """Draw directions, noise and means; a bit moves the stream by `size`.

    With `both` "first two bits" is written, too.

    >>> world = draw_world(0)
    >>> rows = world.draw(100, world.make_chances({1: 0.9}), seed=1)
    >>> tuple(rows.x.shape), tuple(rows.bits.shape)
    ((100, 32), (100, 5))
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    bits = torch.cartesian_prod(*[torch.arange(2)] * N_VARIABLES)
    if both:
        bits = torch.cat([bits, bits[:, :1] * bits[:, 1:2]], dim=1)
    written = size * normalize(draw(bits.shape[1], D))
    basis = torch.linalg.qr(draw(D, D)).Q
    share = torch.rand(D, generator=generator, dtype=torch.float64)
    covariance = (basis * (QUIET * (LOUD / QUIET) ** share)) @ basis.T
    means = draw(D) + bits.double() @ written
    return World(bits, written, means, (covariance + covariance.T) / 2)


def build_reader(
    world: World, rows: Rows, reads: tuple[int, ...], seed: int
) -> tuple[Transformer, Float[Tensor, "read d"]]:
    """Build a model whose token i has the embedding of row i, and which reads some variables.

    Two neurons cut off what is read at 0 and at 1. They write along directions of their own, which
    are returned; the unembedding reads these. An outcome is one value of each bit that is read, the
    first one's being the highest digit.

    >>> world = draw_world(0)
    >>> rows = world.draw(200, world.make_chances({}), seed=1)
    >>> model, _ = build_reader(world, rows, (0, 2), seed=0)
    >>> found = model(torch.arange(200)[:, None])[:, 0].argmax(dim=1)
    >>> bool((found == name_outcomes(rows, (0, 2))).double().mean() > 0.8)
    True
    """
    generator = torch.Generator().manual_seed(seed)
    outcomes = torch.cartesian_prod(*[torch.arange(2)] * len(reads)).view(-1, len(reads))
    config = Config(len(rows.x), 1, D, 1, d_mlp=2 * len(reads), positions="none", biases=True)
    config = dataclasses.replace(config, d_vocab_out=len(outcomes))
    model = by_hand.make_blank(config)
    along = world.find_readers()[list(reads)]
    start = along @ world.means[0]
    free = torch.linalg.svd(world.written, full_matrices=True).Vh[len(world.written) :]
    mix = torch.randn(len(free), len(reads), generator=generator, dtype=torch.float64)
    writes = LENGTH * torch.linalg.qr(mix).Q.T @ free
    order = torch.randperm(2 * len(reads), generator=generator)
    for place, neuron in enumerate(order.tolist()):
        i, above = divmod(place, 2)
        sign = 1 - 2 * above  # relu(z) - relu(z - 1), from -1/2 to 1/2 with the output's bias
        bias = -start[i] - above
        by_hand.look_up(model, 0, neuron, along[i].float(), float(bias), sign * writes[i].float())
    with torch.no_grad():
        model.W_E.copy_(rows.x)
        signs = outcomes - 0.5  # so that the weights prefer no outcome
        U = STRENGTH / LENGTH**2 * writes.T @ signs.T.double()
        model.W_U.copy_(U)
        assert model.b_U is not None
        model.b_U.copy_(-STRENGTH / 2 * signs.sum(dim=1) - world.means[0] @ U)
    return model, writes


def name_outcomes(rows: Rows, reads: tuple[int, ...]) -> Int[Tensor, "n"]:
    """Return what a perfect reader answers: the bits that are read, as one number."""
    digits = 2 ** torch.arange(len(reads)).flip(0)
    return rows.bits[:, list(reads)] @ digits
