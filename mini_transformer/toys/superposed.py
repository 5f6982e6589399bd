"""More directions than dimensions, and a model that adds up those in its prompt.

These are the parts of `planted_features`.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

N, D = 64, 32
LEVELS = torch.tensor([0.8, 1.0, 1.2])  # how strongly a feature can be active
SLOTS = 4  # features in a prompt; then comes the ?
# The tokens . and ?, and the first token that stands for a feature at a level
NOTHING, ASK, FIRST = 0, 1, 2
STRENGTH = 20.0


def make_directions(n: int = N, d: int = D, seed: int = 0) -> Float[Tensor, "n d"]:
    """Make n unit vectors in d dimensions, from two orthonormal bases.

    They come in random order and randomly rotated. Raise ValueError unless d is a power of two and
    n at most 2 d, which is all that two bases hold.

    >>> directions = make_directions(n=8, d=4)
    >>> cosines = (directions @ directions.T).abs().flatten().tolist()
    >>> sorted({round(cosine, 4) for cosine in cosines})
    [0.0, 0.5, 1.0]
    """
    if d < 1 or d & (d - 1):
        raise ValueError(
            f"d is {d}, but must be a power of two; nearest: "
            f"{2 ** max(0, round(math.log2(max(d, 1))))}"
        )
    if not 0 < n <= 2 * d:
        raise ValueError(
            f"{n} features were asked for, but two orthonormal bases of {d} dimensions "
            f"hold 1 to {2 * d}"
        )
    generator = torch.Generator().manual_seed(seed)
    hadamard = torch.ones(1, 1)  # entries +-1, orthogonal rows (Sylvester's construction)
    while len(hadamard) < d:
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), hadamard)
    rotation = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[
        0
    ].float()
    bases = torch.cat([torch.eye(d), hadamard / math.sqrt(d)]) @ rotation
    return bases[torch.randperm(2 * d, generator=generator)[:n]]


def build_model(directions: Float[Tensor, "n d"]) -> Transformer:
    """Build one head that adds up what the prompt lists.

    The logit of feature i is the stream along direction i.

    >>> prompt = torch.tensor([[0, 0, 0, FIRST + 3 * 17, ASK]])
    >>> build_model(make_directions())(prompt)[0, -1].argmax().item()
    17
    """
    n, d = directions.shape
    config = Config(
        d_vocab=FIRST + n * len(LEVELS),
        n_ctx=SLOTS + 1,
        d_model=d,
        n_layers=1,
        d_head=d,
        positions="none",
        d_vocab_out=n,
    )
    model = by_hand.make_blank(config)
    # Feature 0 at each level, feature 1 at ...
    every_level = (directions[:, None] * LEVELS[:, None]).flatten(0, 1)
    # . and ? write nothing
    by_hand.write_embedding(model, torch.cat([torch.zeros(FIRST, d), every_level]))
    # a sum, since attention is a mean
    by_hand.copy_directions(model, 0, 0, torch.eye(d), torch.eye(d) * (SLOTS + 1))
    by_hand.read_out(model, directions, STRENGTH)
    return model


def read_codes(tokens: Int[Tensor, "batch pos"], n: int = N) -> Float[Tensor, "batch n"]:
    """Read how strongly each feature is active in each prompt.

    >>> read_codes(torch.tensor([[FIRST, FIRST + 5, 0, 0, ASK]]), n=3)
    tensor([[0.8000, 1.2000, 0.0000]])
    """
    codes = torch.zeros(len(tokens), n)
    token = (tokens - FIRST).clamp(min=0)
    return codes.scatter_add_(
        1, token // len(LEVELS), LEVELS[token % len(LEVELS)] * (tokens >= FIRST)
    )


def write_prompts(
    features: Int[Tensor, "batch slot"], levels: Int[Tensor, "batch slot"]
) -> Int[Tensor, "batch pos"]:
    """Write prompts that list these features at these levels; -1 stands for none."""
    tokens = torch.where(features < 0, NOTHING, FIRST + len(LEVELS) * features + levels)
    return F.pad(F.pad(tokens, (0, SLOTS - tokens.shape[1])), (0, 1), value=ASK)
