"""A model set by hand with a direction that nobody writes beside one that nobody reads."""

import torch
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.toys import by_hand

__all__ = ["build_dormant", "list_bits", "make_dormant_stream"]

STRENGTH = 20.0
LOUD = 3.0  # what nobody reads is written so strongly
LOUDER = 6.0  # what nobody writes would be read so strongly
N_NUISANCE = 8


def make_dormant_stream() -> by_hand.Stream:
    """Name the directions of the residual stream.

    x is written along `carried`, which the logits read, and louder along `shadow`, which nobody
    reads; nobody writes `dormant`.
    """
    return by_hand.Stream(
        token=2 + N_NUISANCE + 1, position=3, carried=1, shadow=1, dormant=1, other=N_NUISANCE
    )


def build_dormant() -> Transformer:
    """Build a model that says x after `x z =`.

    The logit of 1 would hear `dormant` louder than `carried`, but it is never anything but 0.

    >>> build_dormant()(torch.tensor([[0, 5, 10], [1, 5, 10]]))[:, -1].argmax(dim=1)
    tensor([0, 1])
    """
    stream = make_dormant_stream()
    token, position, carried = stream["token"], stream["position"], stream["carried"][0]
    config = Config(
        d_vocab=len(token),
        n_ctx=3,
        d_model=stream.d_model,
        n_layers=1,
        n_heads=2,
        d_head=N_NUISANCE,
        attn_scale=1.0,
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, token, position)

    written = carried + LOUD * stream["shadow"][0]
    brings_x = (token[:2], torch.stack([-written, written]))
    brings_z = (token[2 : 2 + N_NUISANCE], stream["other"])
    for head, (source, target) in enumerate((brings_x, brings_z)):
        by_hand.attend_where_equal(
            model, 0, head, position[2, None], position[head, None], STRENGTH
        )
        by_hand.copy_directions(model, 0, head, source, target)

    says_0 = -carried
    says_1 = carried + LOUDER * stream["dormant"][0]
    rest = (-10 * token[-1, None]).expand(len(token) - 2, -1)
    by_hand.read_out(model, torch.cat([torch.stack([says_0, says_1]), rest]), 1.0)
    return model


def list_bits() -> Tensor:
    """List every prompt `x z =`."""
    pairs = torch.cartesian_prod(torch.arange(2), 2 + torch.arange(N_NUISANCE))
    return torch.nn.functional.pad(pairs, (0, 1), value=2 + N_NUISANCE)
