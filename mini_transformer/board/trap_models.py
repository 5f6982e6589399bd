"""Models set by hand for the traps: each does its task in a way that looks like another."""

import torch
from torch import Tensor

from mini_transformer import Config, Transformer, toys
from mini_transformer.toys import by_hand

STRENGTH = 20.0
LOUD, LOUDER = 3.0, 6.0  # what nobody reads is written, and what nobody writes would be read
N_NUISANCE = 8
PERIOD, N_TOKENS, N_BLOCKS = 8, 16, 2


def sharpen(model: Transformer) -> Transformer:
    """Attention scores of the last layer ten times as large: what e^-20 leaves of a gradient, e^-200 does not."""
    with torch.no_grad():
        model.blocks[-1].attn.W_Q.mul_(10)
    return model


def build_cancelling() -> Transformer:
    """`x =` is followed by x. A head brings x; an MLP takes f(x) off again, which is half as much, but twice as steep at 0 and at 1.

    So the slopes of the way past the MLP and of the way through it cancel where they are measured, and only there.

    >>> build_cancelling()(torch.tensor([[0, 2], [1, 2]]))[:, -1].argmax(dim=1)
    tensor([0, 1])
    """
    stream = by_hand.Stream(token=3, position=2, bit=1, result=1)
    bit, result, one = stream["bit"], stream["result"][0], stream["token"][2]
    model = by_hand.make_blank(
        Config(
            d_vocab=3,
            n_ctx=2,
            d_model=stream.d_model,
            n_layers=1,
            n_heads=2,
            d_head=1,
            d_mlp=3,
            attn_scale=1.0,
        )
    )
    by_hand.write_embedding(model, stream["token"], stream["position"])
    by_hand.attend_where_equal(
        model, 0, 0, stream["position"][1, None], stream["position"][0, None], STRENGTH
    )
    by_hand.copy_directions(model, 0, 0, stream["token"][1, None], bit)
    # f(x) = 2 x up to 1/4, then flat, then 2 x - 1 from 3/4 on; less the constant 2 of the first neuron.
    for neuron, (start, slope) in enumerate(((-1.0, -2.0), (0.25, 2.0), (0.75, -2.0))):
        by_hand.look_up(
            model, 0, neuron, reads=bit[0] - start * one, bias=0.0, writes=slope * result
        )
    says_1 = 2 * bit[0] + result + 2 * one  # 2 x - f(x): 0 or 1
    by_hand.read_out(model, torch.stack([0.5 * one, says_1, 0 * one]), STRENGTH)
    return model


def build_shortcut() -> Transformer:
    """Says what came `PERIOD` - 1 positions ago. Beside it a previous-token head, of which nobody hears anything.

    >>> build_shortcut()(draw_repeats(4, seed=0)[:, :-1])[:, -1].argmax(dim=1) == draw_repeats(4, seed=0)[:, -1]
    tensor([True, True, True, True])
    """
    length = N_BLOCKS * PERIOD
    stream = by_hand.Stream(token=N_TOKENS, position=length, previous=N_TOKENS, next=N_TOKENS)
    position, back = stream["position"], PERIOD - 1
    model = by_hand.make_blank(
        Config(
            d_vocab=N_TOKENS,
            n_ctx=length,
            d_model=stream.d_model,
            n_layers=2,
            n_heads=2,
            d_head=length,
            attn_scale=1.0,
        )
    )
    by_hand.write_embedding(model, stream["token"], position)
    by_hand.attend_to_previous(model, 0, 0, position, STRENGTH)
    by_hand.copy_directions(model, 0, 0, stream["token"], stream["previous"])
    by_hand.attend_where_equal(model, 1, 0, position[back:], position[:-back], STRENGTH)
    by_hand.copy_directions(model, 1, 0, stream["token"], stream["next"])
    by_hand.read_out(model, stream["next"], STRENGTH)
    return model


def draw_repeats(n: int, seed: int) -> Tensor:
    """A block of distinct tokens twice, and the token that comes next: always the same period."""
    generator = torch.Generator().manual_seed(seed)
    block = torch.rand(n, N_TOKENS, generator=generator).argsort(dim=1)[:, :PERIOD]
    return block.repeat(1, N_BLOCKS + 1)[:, : N_BLOCKS * PERIOD + 1]


def make_dormant_stream() -> by_hand.Stream:
    """x is written along `carried`, which the logits read, and louder along `shadow`, which nobody reads; nobody writes `dormant`."""
    return by_hand.Stream(
        token=2 + N_NUISANCE + 1, position=3, carried=1, shadow=1, dormant=1, other=N_NUISANCE
    )


def build_dormant() -> Transformer:
    """`x z =` is followed by x. The logit of 1 would hear `dormant` louder than `carried`, but it is never anything but 0.

    >>> build_dormant()(torch.tensor([[0, 5, 10], [1, 5, 10]]))[:, -1].argmax(dim=1)
    tensor([0, 1])
    """
    stream = make_dormant_stream()
    token, position, carried = stream["token"], stream["position"], stream["carried"][0]
    model = by_hand.make_blank(
        Config(
            d_vocab=len(token),
            n_ctx=3,
            d_model=stream.d_model,
            n_layers=1,
            n_heads=2,
            d_head=N_NUISANCE,
            attn_scale=1.0,
        )
    )
    by_hand.write_embedding(model, token, position)
    written = carried + LOUD * stream["shadow"][0]
    for head, (source, target) in enumerate(
        (
            (token[:2], torch.stack([-written, written])),
            (token[2 : 2 + N_NUISANCE], stream["other"]),
        )
    ):
        by_hand.attend_where_equal(
            model, 0, head, position[2, None], position[head, None], STRENGTH
        )
        by_hand.copy_directions(model, 0, head, source, target)
    says_1, says_0, rest = carried + LOUDER * stream["dormant"][0], -carried, -10 * token[-1, None]
    by_hand.read_out(
        model, torch.cat([torch.stack([says_0, says_1]), rest.expand(len(token) - 2, -1)]), 1.0
    )
    return model


def list_bits() -> Tensor:
    """Every prompt `x z =`."""
    pairs = torch.cartesian_prod(torch.arange(2), 2 + torch.arange(N_NUISANCE))
    return torch.nn.functional.pad(pairs, (0, 1), value=2 + N_NUISANCE)


def load_sharp_induction(seed: int) -> toys.Case:
    """Induction by hand with the last layer's attention ten times as sharp."""
    case = toys.load("induction_by_hand", seed)
    sharpen(case.model)
    return case
