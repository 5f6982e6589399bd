"""The rules at the door: what every technique does with the dtype, the device and the mode of what it is given.

*Dtype and device.* What is given beside a model or beside activations (vectors, masks, dictionaries, rows) is converted to what it
meets: `follow`. Decompositions and sums of squares are computed in float32 at least, since neither LAPACK nor a sum over
many rows works in half precision: `widen`.

*Draws.* Random numbers are drawn in float32 on the CPU, whatever the model's dtype and torch's default dtype, and then converted:
so one seed gives one noise everywhere: `draw_normal`, `draw_uniform`.

*Mode.* Gradients are found under torch.no_grad, too. Under torch.inference_mode there are none, and the caller is told so in
one sentence: `check_gradients`. Tensors that were made there are copied: `make_ordinary`.

*Fitted objects.* An eraser, a probe, a dictionary, a lens keeps copies: `copy_fields`. It takes activations of any dtype, computes in the
wider of the two, float32 at least, and gives back the dtype that came in: `meet`.

*Labels.* Whole numbers of any dtype or bool, on any device: `read_labels`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from mini_transformer.tensors import make_ordinary

Labels = Integer[Tensor, "n"] | Bool[Tensor, "n"]
Positive = Float[Tensor, "positive d"]
Negative = Float[Tensor, "negative d"]


def follow(value: Tensor, like: Tensor) -> Tensor:
    """Convert `value` to the dtype and the device of `like`."""
    return value.to(device=like.device, dtype=like.dtype)


def widen(value: Tensor) -> Tensor:
    """Convert half precision to float32, so that LAPACK takes it; leave float32 and float64 as they are.

    >>> widen(torch.ones(2, dtype=torch.bfloat16)).dtype, widen(torch.ones(2, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return value.float() if torch.finfo(value.dtype).bits < 32 else value


def check_gradients(model: nn.Module | None = None) -> None:
    """Raise ValueError where no gradient can be found: under torch.inference_mode, or for a model that was made there."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "this needs gradients, which torch.inference_mode rules out: call it outside, or under torch.no_grad"
        )
    if model is not None and any(weight.is_inference() for weight in model.parameters()):
        raise ValueError(
            "this needs gradients, but the model was made under torch.inference_mode, which rules them out: make it outside"
        )


def draw_normal(*shape: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw from the standard normal distribution: the same numbers for every dtype and device of `like`.

    >>> like = torch.zeros(1, dtype=torch.float64)
    >>> drawn = draw_normal(3, generator=torch.Generator().manual_seed(0), like=like)
    >>> torch.equal(drawn.float(), torch.randn(3, generator=torch.Generator().manual_seed(0)))
    True
    """
    return follow(torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu"), like)


def draw_uniform(*shape: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw uniformly from 0 to 1: the same numbers for every dtype and device of `like`."""
    return follow(torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu"), like)


def find_scale(value: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Find the power of two to divide by so that the largest entry along `dim` is about 1.

    Squares then neither vanish nor overflow, and no ratio changes by a bit. It is 1 where all entries are zero.

    >>> find_scale(torch.tensor([[3e-30, 1e-30], [0.0, 0.0]]), dim=(1,)).flatten().tolist()
    [3.1554436208840472e-30, 1.0]
    """
    largest = value.abs().amax(dim=dim, keepdim=True)
    most = math.floor(math.log2(torch.finfo(value.dtype).max)) - 8
    exponent = torch.frexp(largest).exponent.clamp(-most, most)
    return torch.ldexp(torch.ones_like(largest), torch.where(largest > 0, exponent, 0))


@contextmanager
def without_autocast() -> Iterator[None]:
    """Compute in the dtypes that are there, inside torch.autocast, too: LAPACK takes no half precision."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def meet(*values: Tensor) -> tuple[Tensor, ...]:
    """Convert all to the widest of their dtypes, float32 at least, and to the device of the first.

    >>> [x.dtype for x in meet(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64))]
    [torch.float64, torch.float64]
    """
    dtype = torch.float32
    for value in values:
        dtype = torch.promote_types(dtype, value.dtype)
    return tuple(make_ordinary(value.to(device=values[0].device, dtype=dtype)) for value in values)


def find_epsilon(*values: Tensor) -> float:
    """Find the epsilon of the coarsest dtype among these: in torch.autocast one run has several.

    >>> find_epsilon(torch.ones(2), torch.ones(2, dtype=torch.bfloat16))
    0.0078125
    """
    return max(torch.finfo(value.dtype).eps for value in values)


def measure_rounding(values: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """Measure, in float64, the rounding of a number in each column: root mean square times the dtype's epsilon.

    What varies by less is rounding, however loud other columns are. It is 1 for a column of zeros, to divide by.

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
    """Find the singular values and axes of rows with each column in units of its rounding; what is no more than that is left out."""
    _, S, Vh = torch.linalg.svd(torch.linalg.qr(rows / rounding, mode="r").R, full_matrices=False)
    n, d = rows.shape
    # The largest singular value that errors of size 1 have, twice, as sums round several times; and what this computation adds.
    errors = (
        max(2 * (n**0.5 + d**0.5), max(n, d) * torch.finfo(rows.dtype).eps * S.amax().item())
        if len(S)
        else 0.0
    )
    found = errors < S
    return S[found], Vh[found].T


def read_labels(activations: Tensor, labels: Tensor) -> tuple[Integer[Tensor, "n"], int]:
    """Read labels as int64 beside the activations, and the number of classes; False and True are 0 and 1.

    ValueError unless every row has a label and each of 0, 1, ... is one.

    >>> read_labels(torch.zeros(3, 2), torch.tensor([True, False, True]))
    (tensor([1, 0, 1]), 2)
    """
    if labels.is_floating_point() or labels.is_complex() or labels.shape != activations.shape[:1]:
        given = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(
            f"labels are {given}, but must be one integer per row of the activations: ({len(activations)},)"
        )
    labels = make_ordinary(labels.detach().to(device=activations.device, dtype=torch.int64))
    classes = labels.unique()
    if len(classes) < 2:
        raise ValueError(f"all labels are {int(classes[0])}, but at least two classes are needed")
    if int(classes[0]) != 0 or int(classes[-1]) != len(classes) - 1:
        raise ValueError(
            f"the labels are {classes.tolist()[:6]}, but must count from 0: use labels.unique(return_inverse=True)"
        )
    return labels, len(classes)
