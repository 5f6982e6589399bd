"""Models set by hand for the traps: each does its task in a way that looks like another."""

import torch
from torch import Tensor

from mini_transformer import Config, Transformer, toys
from mini_transformer.toys import by_hand

__all__ = ["PERIOD", "build_cancelling", "build_shortcut", "draw_repeats", "load_sharp_induction"]

STRENGTH = 20.0
PERIOD = 8
N_TOKENS = 16
N_BLOCKS = 2


def load_sharp_induction(seed: int) -> toys.Case:
    """Load induction by hand, with the last layer's attention scores ten times as large.

    What e^-20 leaves of a gradient, e^-200 does not.
    """
    case = toys.load("induction_by_hand", seed)
    with torch.no_grad():
        case.model.blocks[-1].attn.W_Q.mul_(10)
    return case


def build_cancelling() -> Transformer:
    """Build a model in which the slopes of two paths cancel, and the paths do not.

    `x =` is followed by x. A head brings x; an MLP takes f(x) off again, which is half as much, but
    twice as steep at 0 and at 1. So the slopes of the way past the MLP and of the way through it
    cancel where they are measured, and only there.

    >>> build_cancelling()(torch.tensor([[0, 2], [1, 2]]))[:, -1].argmax(dim=1)
    tensor([0, 1])
    """
    stream = by_hand.Stream(token=3, position=2, bit=1, result=1)
    bit, result, one = stream["bit"], stream["result"][0], stream["token"][2]
    config = Config(
        d_vocab=3,
        n_ctx=2,
        d_model=stream.d_model,
        n_layers=1,
        n_heads=2,
        d_head=1,
        d_mlp=3,
        attn_scale=1.0,
    )
    model = by_hand.make_blank(config)
    first, last = (stream["position"][i, None] for i in range(2))
    by_hand.write_embedding(model, stream["token"], stream["position"])
    by_hand.attend_where_equal(model, 0, 0, last, first, STRENGTH)
    by_hand.copy_directions(model, 0, 0, stream["token"][1, None], bit)

    # f(x) is 2 x up to 1/4, then flat, then 2 x - 1 from 3/4 on; less the constant 2 of the first
    # neuron.
    for neuron, (start, slope) in enumerate(((-1.0, -2.0), (0.25, 2.0), (0.75, -2.0))):
        by_hand.look_up(
            model, 0, neuron, reads=bit[0] - start * one, bias=0.0, writes=slope * result
        )
    says_1 = 2 * bit[0] + result + 2 * one  # 2 x - f(x): 0 or 1
    by_hand.read_out(model, torch.stack([0.5 * one, says_1, 0 * one]), STRENGTH)
    return model


def build_shortcut() -> Transformer:
    """Build a model that says what came `PERIOD` - 1 positions ago.

    Beside it is a previous-token head, of which nobody hears anything.

    >>> tokens = draw_repeats(4, seed=0)
    >>> build_shortcut()(tokens[:, :-1])[:, -1].argmax(dim=1) == tokens[:, -1]
    tensor([True, True, True, True])
    """
    length = N_BLOCKS * PERIOD
    stream = by_hand.Stream(token=N_TOKENS, position=length, previous=N_TOKENS, next=N_TOKENS)
    position = stream["position"]
    back = PERIOD - 1
    config = Config(
        d_vocab=N_TOKENS,
        n_ctx=length,
        d_model=stream.d_model,
        n_layers=2,
        n_heads=2,
        d_head=length,
        attn_scale=1.0,
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, stream["token"], position)
    by_hand.attend_to_previous(model, 0, 0, position, STRENGTH)
    by_hand.copy_directions(model, 0, 0, stream["token"], stream["previous"])
    by_hand.attend_where_equal(model, 1, 0, position[back:], position[:-back], STRENGTH)
    by_hand.copy_directions(model, 1, 0, stream["token"], stream["next"])
    by_hand.read_out(model, stream["next"], STRENGTH)
    return model


def draw_repeats(n: int, seed: int) -> Tensor:
    """Draw a block of distinct tokens, written twice, and the token that comes next.

    The period is always the same.
    """
    generator = torch.Generator().manual_seed(seed)
    block = torch.rand(n, N_TOKENS, generator=generator).argsort(dim=1)[:, :PERIOD]
    return block.repeat(1, N_BLOCKS + 1)[:, : N_BLOCKS * PERIOD + 1]
