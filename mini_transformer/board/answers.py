"""Read what a method returned. A failure is one sentence: what was given and expected."""

from typing import Any

import torch
from torch import Tensor

from mini_transformer.isolation.explaining import describe_kind

__all__ = ["check_finite", "get", "read_tensor"]


def get(answer: Any, *names: str) -> Any:
    """Return the first attribute. Raise ValueError unless the answer has all of them."""
    for name in names:
        if not hasattr(answer, name):
            raise ValueError(
                f"the answer is {describe_kind(answer)} without {name}, "
                f"expected {' and '.join(names)}"
            )
    return getattr(answer, names[0])


def read_tensor(value: Any, what: str, *shape: int | None) -> Tensor:
    """Return `value` as a tensor without gradient.

    Raise ValueError unless it holds finite numbers in this shape; None stands for any length.

    >>> read_tensor([[1.0, 2.0]], "rows", None, 2)
    tensor([[1., 2.]])
    """
    wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
    try:
        tensor = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"the answer has {describe_kind(value)} where {what} is expected: {wanted} numbers"
        ) from None
    fits = tensor.ndim == len(shape) and all(
        size in (None, own) for size, own in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"the answer's shape is {tuple(tensor.shape)}, expected {what}: {wanted}")
    check_finite(tensor, what)
    return tensor


def check_finite(values: Tensor, what: str) -> None:
    """Raise ValueError if some of the values are NaN or infinite."""
    if bad := int((~values.isfinite()).sum()) if values.is_floating_point() else 0:
        raise ValueError(f"{bad} of {values.numel()} numbers are NaN or infinite in {what}")
