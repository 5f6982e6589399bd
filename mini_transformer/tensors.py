"""Tensors of one's own: copies that nobody else can edit, and that gradients may pass."""

import dataclasses

from torch import Tensor


def copy_fields(record: object) -> None:
    """Replace a dataclass's tensors, also those in tuples, by copies.

    Nobody else can edit the copies.
    """
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        object.__setattr__(record, field.name, copy_tensors(getattr(record, field.name)))


def copy_tensors(value: object) -> object:
    """Copy a tensor, or the tensors in a tuple; leave anything else as it is."""
    if isinstance(value, tuple):
        return tuple(copy_tensors(part) for part in value)
    return value.clone() if isinstance(value, Tensor) else value


def make_ordinary(value: Tensor) -> Tensor:
    """Copy a tensor made under torch.inference_mode; return any other as it is.

    No gradient may pass an inference tensor.
    """
    return value.clone() if value.is_inference() else value
