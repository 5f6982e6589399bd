"""How techniques compute: dtypes, devices, random draws, rounding, gradients.

*Dtype and device.* What is given beside a model or beside activations (vectors, masks,
dictionaries, rows) is converted to what it meets: `follow`. Decompositions and sums of squares are
computed in float32 at least, since neither LAPACK nor a sum over many rows works in half
precision: `widen`.

*Draws.* Random numbers are drawn in float32 on the CPU, whatever the model's dtype and torch's
default dtype, and then converted. So one seed gives one noise everywhere: `draw_normal`,
`draw_uniform`.

*Mode.* Gradients are found under torch.no_grad, too. Under torch.inference_mode there are none,
and one sentence says so: `check_gradients`. Tensors that were made there are copied:
`tensors.make_ordinary`.

*Fitted objects.* An eraser, a probe, a dictionary, a lens keeps copies: `tensors.copy_fields`. It
takes activations of any dtype, computes in the wider of the two, float32 at least, and gives back
the dtype that came in: `meet`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mini_transformer.tensors import make_ordinary

__all__ = [
    "check_gradients",
    "draw_normal",
    "draw_uniform",
    "find_axes",
    "find_epsilon",
    "find_scale",
    "follow",
    "measure_rounding",
    "meet",
    "widen",
    "without_autocast",
]


def follow(value: Tensor, like: Tensor) -> Tensor:
    """Convert `value` to the dtype and the device of `like`."""
    return value.to(device=like.device, dtype=like.dtype)


def widen(value: Tensor) -> Tensor:
    """Convert half precision to float32; leave float32 and float64 as they are.

    >>> widen(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    >>> widen(torch.ones(2, dtype=torch.float64)).dtype
    torch.float64
    """
    return value.float() if torch.finfo(value.dtype).bits < 32 else value


def check_gradients(model: nn.Module | None = None) -> None:
    """Raise ValueError where no gradient can be found.

    That is under torch.inference_mode, or for a model that was made there.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "this needs gradients, which torch.inference_mode rules out: "
            "call it outside, or under torch.no_grad"
        )
    if model is not None and any(weight.is_inference() for weight in model.parameters()):
        raise ValueError(
            "this needs gradients, but the model was made under torch.inference_mode, "
            "which rules them out: make it outside"
        )


def draw_normal(*shape: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw from the standard normal distribution.

    The numbers are the same for every dtype and device of `like`.

    >>> like = torch.zeros(1, dtype=torch.float64)
    >>> drawn = draw_normal(3, generator=torch.Generator().manual_seed(0), like=like)
    >>> torch.equal(drawn.float(), torch.randn(3, generator=torch.Generator().manual_seed(0)))
    True
    """
    return follow(torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu"), like)


def draw_uniform(*shape: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw uniformly from 0 to 1, the same for every dtype and device of `like`."""
    return follow(torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu"), like)


def find_scale(value: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Find the power of two that scales the largest entry along `dim` to about 1.

    Divide by it: squares then neither vanish nor overflow, and no ratio changes by a bit. It is 1
    where all entries are zero.

    >>> find_scale(torch.tensor([[3e-30, 1e-30], [0.0, 0.0]]), dim=(1,)).flatten().tolist()
    [3.1554436208840472e-30, 1.0]
    """
    largest = value.abs().amax(dim=dim, keepdim=True)
    most = math.floor(math.log2(torch.finfo(value.dtype).max)) - 8
    exponent = torch.frexp(largest).exponent.clamp(-most, most)
    return torch.ldexp(torch.ones_like(largest), torch.where(largest > 0, exponent, 0))


@contextmanager
def without_autocast() -> Iterator[None]:
    """Compute in the dtypes that are there, inside torch.autocast, too.

    LAPACK takes no half precision.
    """
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def meet(*values: Tensor) -> tuple[Tensor, ...]:
    """Convert all to the widest of their dtypes and to the device of the first.

    The dtype is float32 at least.

    >>> half, double = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64)
    >>> [x.dtype for x in meet(half, double)]
    [torch.float64, torch.float64]
    """
    dtype = torch.float32
    for value in values:
        dtype = torch.promote_types(dtype, value.dtype)
    return tuple(make_ordinary(value.to(device=values[0].device, dtype=dtype)) for value in values)


def find_epsilon(*values: Tensor) -> float:
    """Find the epsilon of the coarsest dtype among these.

    Within torch.autocast one run has several dtypes.

    >>> find_epsilon(torch.ones(2), torch.ones(2, dtype=torch.bfloat16))
    0.0078125
    """
    return max(torch.finfo(value.dtype).eps for value in values)


def measure_rounding(values: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """Measure, in float64, the rounding of a number in each column.

    It is the column's root mean square times the dtype's epsilon. What varies by less is rounding,
    however loud other columns are. It is 1 for a column of zeros, so that one can divide by it.

    >>> measure_rounding(torch.tensor([[1e6, 1.0, 0.0]])).tolist()
    [0.11920928955078125, 1.1920928955078125e-07, 1.0]
    """
    wide = values.detach().double()
    size = wide.abs().amax(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    rounding = (wide / size).square().mean(dim=0).sqrt() * size * torch.finfo(values.dtype).eps
    return torch.where(wide.any(dim=0), rounding, 1.0)


def find_axes(
    rows: Float[Tensor, "n d"], rounding: Float[Tensor, "d"]
) -> tuple[Float[Tensor, "rank"], Float[Tensor, "d rank"]]:
    """Find the singular values and axes of rows, with each column in units of its rounding.

    Axes on which the rows vary by no more than rounding are left out.
    """
    triangle = torch.linalg.qr(rows / rounding, mode="r").R
    _, S, Vh = torch.linalg.svd(triangle, full_matrices=False)
    n, d = rows.shape
    errors = 0.0
    if len(S):
        # The largest singular value that errors of size 1 have, twice, as sums round several
        # times; and what this computation adds.
        given = 2 * (n**0.5 + d**0.5)
        added = max(n, d) * torch.finfo(rows.dtype).eps * S.amax().item()
        errors = max(given, added)
    found = errors < S
    return S[found], Vh[found].T
