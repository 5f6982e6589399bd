"""Turn values into bytes and back, to talk to a process that runs untrusted code.

A frame is the length of a JSON text (8 bytes, big end first), the text, and the tensors in
safetensors' format. Neither format can carry code, and nothing is unpickled. What JSON has no word
for is an object with one of the tags below. A frame from outside may be anything: it becomes a
value, or a WireError.

Values of further kinds cross if both sides know how, see `Kind`.
"""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mini_transformer.isolation.explaining import describe_kind

LENGTH = struct.Struct(">Q")
LONGEST_TEXT = 8 * 2**20  # bytes of JSON in one frame; read back, they take twenty times as much
DEEPEST = 40
MOST_KEYS = 10_000  # of a dict or set; keys that collide take quadratic time
PLAIN_INT = 2**53  # larger integers are written in hexadecimal; Python refuses long decimals


class WireError(Exception):
    """The frame holds no value, or the value fits in no frame; the message says why."""


class Kind(NamedTuple):
    """A kind of value that crosses as other values.

    In the text it is an object with the one key `tag`. `pack` returns the parts of a value for
    which `fits` is true, `unpack` makes a value of parts.
    """

    tag: str
    fits: Callable[[Any], bool]
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def encode(value: Any, kinds: Sequence[Kind] = ()) -> bytes:
    """Write a value as one frame.

    Raise WireError if it is not made of numbers, strings, tensors, lists, tuples, dicts and the
    further kinds.

    >>> decode(encode({"layer": 1, (0, 2): [torch.tensor([True]), float("inf"), None]}))
    {'layer': 1, (0, 2): [tensor([True]), inf, None]}
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(value, tensors, kinds, 0)).encode("ascii")
    if len(text) > LONGEST_TEXT:
        raise WireError(
            f"it takes {len(text)} bytes without its tensors, at most {LONGEST_TEXT} are allowed"
        )
    try:
        return LENGTH.pack(len(text)) + text + safetensors.torch.save(tensors)
    except Exception as error:  # a dtype that the format does not know
        raise WireError(
            f"its tensors cannot be sent ({type(error).__name__}): give them an ordinary dtype"
        ) from None


def decode(frame: bytes, kinds: Sequence[Kind] = ()) -> Any:
    """Read the value in a frame. Raise WireError if there is none.

    A stranger may send anything of these kinds: leave those out that could be huge.
    """
    try:
        (length,) = LENGTH.unpack(frame[: LENGTH.size])
        if length > LONGEST_TEXT:
            raise WireError(
                f"the frame says that its text has {length} bytes, "
                f"at most {LONGEST_TEXT} are allowed"
            )
        end = LENGTH.size + length
        tensors = safetensors.torch.load(bytes(frame[end:]))
        return _unpack(json.loads(frame[LENGTH.size : end]), tensors, kinds, 0)
    except WireError:
        raise
    except Exception as error:  # a hostile frame may do anything to JSON, safetensors or torch
        raise WireError(f"the frame cannot be read ({type(error).__name__})") from None


def _pack(value: Any, tensors: dict[str, Tensor], kinds: Sequence[Kind], depth: int) -> Any:
    if depth > DEEPEST:
        raise WireError(f"it is nested more than {DEEPEST} deep")

    def pack(part: Any) -> Any:
        return _pack(part, tensors, kinds, depth + 1)

    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, str, float):
        return value
    if type(value) is int:
        return value if abs(value) < PLAIN_INT else {"int": hex(value)}
    if type(value) is complex:
        return {"complex": [value.real, value.imag]}
    if isinstance(value, Tensor):
        return {"tensor": _keep(value, tensors), "requires_grad": value.requires_grad}
    for kind in kinds:
        if kind.fits(value):
            return {kind.tag: pack(kind.pack(value))}
    if isinstance(value, list):
        return list(map(pack, value))
    if isinstance(value, tuple):
        return {"tuple": list(map(pack, value))}
    if isinstance(value, (set, frozenset)):
        return {"set": list(map(pack, value))}
    if isinstance(value, dict):
        return {"dict": [list(map(pack, pair)) for pair in value.items()]}
    raise WireError(
        f"{describe_kind(value)} cannot be sent: "
        "only numbers, strings, tensors, models, lists and dicts can"
    )


def _keep(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    """Store a copy of a tensor, and return its name in the text: `3`, or `3c` if complex.

    Complex numbers are stored as pairs.
    """
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise WireError(
            f"a tensor of layout {tensor.layout} on {tensor.device} cannot be sent: "
            "only dense ones can"
        )
    name = str(len(tensors))
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.is_complex():
        name += "c"
        plain = torch.view_as_real(plain)
    tensors[name] = plain.clone().contiguous()
    return name


def _unpack(text: Any, tensors: dict[str, Tensor], kinds: Sequence[Kind], depth: int) -> Any:
    if depth > DEEPEST:
        raise WireError(f"the frame is nested more than {DEEPEST} deep")

    def unpack(part: Any) -> Any:
        return _unpack(part, tensors, kinds, depth + 1)

    if isinstance(text, list):
        return [unpack(item) for item in text]
    if not isinstance(text, dict):
        return text
    match text:
        case {"int": digits}:
            return int(digits, 16)
        case {"complex": [real, imaginary]}:
            return complex(real, imaginary)
        case {"tensor": name, "requires_grad": required}:
            found = tensors.pop(name)  # once: copies would take many times its room
            found = torch.view_as_complex(found) if name.endswith("c") else found
            return found.clone().requires_grad_(required)
        case {"tuple": items}:
            return tuple(map(unpack, items))
        case {"set": keys} | {"dict": keys} if len(keys) > MOST_KEYS:
            raise WireError(f"a dict or set has {len(keys)} keys, at most {MOST_KEYS} are allowed")
        case {"set": items}:
            return frozenset(map(unpack, items))
        case {"dict": pairs}:
            return {unpack(key): unpack(item) for key, item in pairs}
    for kind in kinds:
        if text.keys() == {kind.tag}:
            return kind.unpack(unpack(text[kind.tag]))
    raise WireError("the frame holds an object of an unknown kind")
