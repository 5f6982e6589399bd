"""Numbers mod p as angles, and ReLU neurons that add two angles exactly.

These are the parts of `clock_by_hand`.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.model import Transformer
from mini_transformer.toys import by_hand


def make_angles(p: int, frequencies: Sequence[int]) -> Float[Tensor, "p frequency"]:
    """Turn each number into its angle at each frequency, in radians: 2 pi k a / p.

    Raise ValueError unless p is a prime from 3 and the frequencies are different whole numbers from
    1 to (p - 1) / 2.
    """
    if p < 3 or any(p % divisor == 0 for divisor in range(2, math.isqrt(p) + 1)):
        above = range(max(p, 3), 2 * max(p, 3))
        prime = next(q for q in above if all(q % d for d in range(2, math.isqrt(q) + 1)))
        raise ValueError(
            f"p is {p}, but must be a prime from 3, so that every frequency tells all "
            f"numbers apart; try {prime}"
        )
    repeated = len(set(frequencies)) < len(frequencies)
    if not frequencies or repeated or not all(0 < k <= p // 2 for k in frequencies):
        raise ValueError(
            f"frequencies are {list(frequencies)}, but must be different numbers from 1 "
            f"to (p - 1) / 2 = {p // 2}"
        )
    return 2 * math.pi / p * (torch.arange(p)[:, None] * torch.tensor(list(frequencies)) % p)


def write_waves(angles: Float[Tensor, "*batch frequency"]) -> Float[Tensor, "*batch wave"]:
    """Write cos and sin of each angle, side by side."""
    return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(-2)


@torch.no_grad()
def add_angles(
    model: Transformer,
    neurons: range,
    shifts: Float[Tensor, "p"],
    first: by_hand.Directions,
    second: by_hand.Directions,
    total: by_hand.Directions,
) -> None:
    """Set neurons that add two angles.

    Neuron (i, j) = relu(cos(first + shift i) + cos(second + shift j)) votes for the angle -(shift i
    + shift j).
    """
    i, j = torch.cartesian_prod(shifts, shifts).T
    turn = torch.tensor([1.0, -1.0])  # cos(x + i) = cos(x) cos(i) - sin(x) sin(i)
    reads = write_waves(i[:, None]) * turn @ first + write_waves(j[:, None]) * turn @ second
    votes = write_waves(-(i + j)[:, None])
    # The neurons for a = b = 0, whose votes must add up to cos 0 = 1
    at_zero = torch.relu(i.cos() + j.cos())
    writes = votes / (at_zero @ votes[:, 0]) @ total
    for neuron, read, write in zip(neurons, reads, writes, strict=True):
        by_hand.look_up(model, 0, neuron, reads=read, bias=0.0, writes=write)
