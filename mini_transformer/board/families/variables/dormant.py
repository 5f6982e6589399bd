"""A model set by hand with a direction that nobody writes beside one that nobody reads."""

import random
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.board.forged import salt
from mini_transformer.forge import disguise
from mini_transformer.toys import by_hand

__all__ = ["Dormant", "build_dormant"]

STRENGTH = 20.0


@dataclass(frozen=True)
class Dormant:
    """A hidden model that says x after `x z =`, every prompt, and two directions (1, d_model).

    x is written along `carried`, which the logits read, and louder along one that nobody reads; the
    logit of 1 would hear `dormant` louder than `carried`, but it is never anything but 0.
    """

    model: Transformer
    prompts: Int[Tensor, "prompt pos"]
    carried: Float[Tensor, "1 d_model"]
    dormant: Float[Tensor, "1 d_model"]


def build_dormant(seed: int) -> Dormant:
    """Build such a model; how loud its directions are is drawn.

    >>> made = build_dormant(0)
    >>> said = made.model(made.prompts)[:, -1].argmax(dim=1)
    >>> torch.equal(said, made.prompts[:, 0])
    True
    """
    rng = random.Random(salt("dormant", seed))
    n_nuisance = rng.randint(10, 12)
    loud, louder = rng.uniform(2, 4), rng.uniform(4, 8)
    stream = by_hand.Stream(
        token=2 + n_nuisance + 1, position=3, carried=1, shadow=1, dormant=1, other=n_nuisance
    )
    token, position, carried = stream["token"], stream["position"], stream["carried"][0]
    config = Config(
        d_vocab=len(token),
        n_ctx=3,
        d_model=stream.d_model,
        n_layers=1,
        n_heads=2,
        d_head=n_nuisance,
        attn_scale=1.0,
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, token, position)

    written = carried + loud * stream["shadow"][0]
    brings_x = (token[:2], torch.stack([-written, written]))
    brings_z = (token[2 : 2 + n_nuisance], stream["other"])
    for head, (source, target) in enumerate((brings_x, brings_z)):
        by_hand.attend_where_equal(
            model, 0, head, position[2, None], position[head, None], STRENGTH
        )
        by_hand.copy_directions(model, 0, head, source, target)

    says_0 = -carried
    says_1 = carried + louder * stream["dormant"][0]
    rest = (-10 * token[-1, None]).expand(len(token) - 2, -1)
    by_hand.read_out(model, torch.cat([torch.stack([says_0, says_1]), rest]), 1.0)

    found = disguise(model, torch.Generator().manual_seed(salt("turn", seed)))
    pairs = torch.cartesian_prod(torch.arange(2), 2 + torch.arange(n_nuisance))
    prompts = torch.nn.functional.pad(pairs, (0, 1), value=2 + n_nuisance)
    turned = (stream[name] @ found.turn for name in ("carried", "dormant"))
    return Dormant(found.model, prompts, *turned)
