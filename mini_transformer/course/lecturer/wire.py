"""Talk to a process that runs untrusted code, in frames of `isolation.wire`.

A model crosses as configuration and weights. So the code that reads the frame learns neither its
name nor a seed, with which it could ask for the truth.
"""

from typing import Any

from mini_transformer.checkpoints import MODEL
from mini_transformer.course.grading.values import NamedModel
from mini_transformer.isolation import wire
from mini_transformer.isolation.wire import WireError

__all__ = ["WireError", "decode", "encode"]

KINDS = (
    MODEL._replace(
        fits=lambda value: isinstance(value, NamedModel) or MODEL.fits(value),
        pack=lambda value: MODEL.pack(value.build() if isinstance(value, NamedModel) else value),
    ),
)


def encode(value: Any) -> bytes:
    """Write a value, of which models may be a part, as one frame. Raise WireError if it is none.

    >>> decode(encode({"layer": 1, (0, 2): [0.5, None]}))
    {'layer': 1, (0, 2): [0.5, None]}
    """
    return wire.encode(value, KINDS)


def decode(frame: bytes, models: bool = False) -> Any:
    """Read the value in a frame. Raise WireError if there is none.

    Models are built only with `models`, because a stranger's model could be huge.
    """
    return wire.decode(frame, KINDS if models else ())
