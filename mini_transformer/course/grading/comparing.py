"""Say in one sentence how a returned value differs from the expected one."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mini_transformer.isolation.explaining import describe_kind


def find_difference(
    got: Any, want: Any, what: str = "the result", rtol: float = 1e-4, atol: float = 1e-5
) -> str | None:
    """Describe the first difference in kind, shape or values. Return None if there is none.

    Values are tensors, numbers, strings, booleans, None, and lists or dicts of these. A tensor with
    one element counts as a number, a tensor as a list of numbers and the other way round, integers
    as floats. Booleans count only as booleans, and a set only as a set.

    >>> find_difference(torch.ones(2, 3), torch.ones(3, 2))
    'the result has shape (2, 3), expected (3, 2): the axes are in another order'
    >>> find_difference([1.0, 2.0], [1.0, 4.0], what="the scores")
    'entry 1 of the scores is 2, expected 4'
    """
    if isinstance(want, Tensor):
        return tensor_difference(got, want, what, rtol, atol)
    if isinstance(got, Tensor) and got.numel() == 1 and isinstance(want, (bool, int, float)):
        got = got.item()
    if isinstance(got, Tensor) and isinstance(want, (list, tuple)):
        got = got.tolist()
    if isinstance(want, (set, frozenset)) and isinstance(got, (list, tuple)):
        got = {item if not isinstance(item, list) else tuple(item) for item in got}
    if isinstance(want, Mapping):
        return mapping_difference(got, want, what, rtol, atol)
    if isinstance(want, (list, tuple)):
        return sequence_difference(got, want, what, rtol, atol)
    if isinstance(want, (int, float)) and not isinstance(want, bool):
        return number_difference(got, want, what, rtol, atol)
    if type(got) is not type(want):
        return f"{what} is {describe(got)}, expected {describe_kind(want)}"
    return None if got == want else f"{what} is {got!r}, which is not right"


def number_difference(
    got: Any, want: float | int, what: str, rtol: float, atol: float
) -> str | None:
    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return f"{what} is {describe(got)}, expected a number"

    both_nan = got != got and want != want
    if got == want or both_nan or math.isclose(got, want, rel_tol=rtol, abs_tol=atol):
        return None

    # An integer is an answer (which layer?), and is not given away. A float is a measurement.
    advice = f"expected {want:.4g}" if isinstance(want, float) else "which is not right"
    return f"{what} is {got:.4g}, {advice}"


def mapping_difference(got: Any, want: Mapping, what: str, rtol: float, atol: float) -> str | None:
    if not isinstance(got, Mapping):
        return f"{what} is {describe(got)}, expected a dict"
    missing = [key for key in want if key not in got]
    if missing:
        return f"{what} has no key {missing[0]!r}; it has {', '.join(map(repr, got)) or 'no keys'}"
    extra = [key for key in got if key not in want]
    if extra:
        return f"{what} has a key {extra[0]!r} that does not belong there"
    found = (find_difference(got[key], want[key], f"{key!r} in {what}", rtol, atol) for key in want)
    return next((sentence for sentence in found if sentence), None)


def sequence_difference(
    got: Any, want: list | tuple, what: str, rtol: float, atol: float
) -> str | None:
    if not isinstance(got, (list, tuple)):
        why = ", which has no order" if isinstance(got, (set, frozenset)) else ""
        return f"{what} is {describe(got)}{why}, expected a list of {len(want)}"
    if len(got) != len(want):
        entries = "entry" if len(got) == 1 else "entries"
        return f"{what} has {len(got)} {entries}, expected {len(want)}"
    found = (
        find_difference(g, w, f"entry {i} of {what}", rtol, atol)
        for i, (g, w) in enumerate(zip(got, want, strict=True))
    )
    return next((sentence for sentence in found if sentence), None)


def tensor_difference(got: Any, want: Tensor, what: str, rtol: float, atol: float) -> str | None:
    given = make_tensor(got)
    if given is None or (want.ndim and isinstance(got, (int, float))):
        return f"{what} is {describe(got)}, expected a tensor of shape {tuple(want.shape)}"
    got = given
    if got.shape != want.shape:
        is_swapped = sorted(got.shape) == sorted(want.shape)
        cause = ": the axes are in another order" if is_swapped else ""
        return f"{what} has shape {tuple(got.shape)}, expected {tuple(want.shape)}{cause}"
    if (got.dtype == torch.bool) != (want.dtype == torch.bool):
        return f"{what} has dtype {got.dtype}, expected {want.dtype}"

    wide = torch.complex128 if got.is_complex() or want.is_complex() else torch.float64
    given = got.detach().to(wide)
    expected = want.detach().to(wide)
    wrong = ~torch.isclose(given, expected, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return None
    return describe_wrong_values(given, expected, wrong, what)


def describe_wrong_values(given: Tensor, expected: Tensor, wrong: Tensor, what: str) -> str:
    """Name a nan or a constant factor if there is one, otherwise the largest difference."""
    lost = given.isnan() & ~expected.isnan()
    if lost.any():
        return f"{what} is nan at {lost.nonzero()[0].tolist()}"

    factor = find_factor(given, expected)
    if factor:
        return f"{what} is {factor:.4g} times what it should be, everywhere"

    gap = torch.where(wrong, (given - expected).abs().nan_to_num(posinf=1e300), -1.0)
    worst = [int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)]
    shown = [x[tuple(worst)].item() for x in (given, expected)]
    # What is left by rounding is shown as 0.
    least = 1e-9 * max((abs(x) for x in shown if math.isfinite(abs(x))), default=0.0)
    pair = " instead of ".join(f"{x if abs(x) > least else 0:.4g}" for x in shown)
    count = f"in {int(wrong.sum())} of {wrong.numel()} places"
    return f"{what} differs {count}, most at {worst}: {pair}" if worst else f"{what} is {pair}"


def find_factor(given: Tensor, expected: Tensor) -> Any:
    """Find the number that `expected` is multiplied by, everywhere, to give `given`.

    Return None if there is none, or if it is that of a single number.
    """
    ratio = given[expected != 0] / expected[expected != 0]
    if ratio.numel() < 2 or not ((ratio - ratio[0]).abs() <= 1e-3 * ratio[0].abs()).all():
        return None
    return ratio[0].item() if (given[expected == 0] == 0).all() else None


def make_tensor(value: Any) -> Tensor | None:
    """Make a tensor of a number, or of a list of numbers or tensors of one shape.

    Return None if it is something else.

    >>> make_tensor([torch.tensor(1.0), 2])
    tensor([1., 2.])
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (bool, int, float, complex)):
        return torch.tensor(value)
    if not isinstance(value, (list, tuple)):
        return None
    parts = [make_tensor(item) for item in value]
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts) or len({part.shape for part in found}) > 1:
        return None
    kind = functools.reduce(torch.promote_types, [part.dtype for part in found])
    return torch.stack([part.to(kind) for part in found])


def describe(value: Any) -> str:
    """Describe a value in a few words: `a tensor of shape (2, 3)`, `'a0.h1' (a str)`."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (str, int, float)):
        return f"{value!r} ({describe_kind(value)})"
    return describe_kind(value)
