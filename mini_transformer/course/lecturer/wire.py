"""Turn values into bytes and back, to talk to a process that runs untrusted code.

A frame is the length of a JSON text (8 bytes, big end first), the text, and the tensors in
safetensors' format. Neither format can carry code, and nothing is unpickled. What JSON has no word
for is an object with one of the tags below. A frame from outside may be anything: it becomes a
value, or a WireError.

A random model crosses as its seed and configuration. A model whose truth is asked for crosses as
configuration and weights. So the code that reads the frame learns neither its name nor its seed,
with which it could ask for the truth.
"""

import dataclasses
import json
import struct
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mini_transformer.course.grading.values import NamedModel, build_model, read_tensors
from mini_transformer.isolation.explaining import describe_kind
from mini_transformer.model import Config, Transformer

LENGTH = struct.Struct(">Q")
LONGEST_TEXT = 8 * 2**20  # bytes of JSON in one frame; read back, they take twenty times as much
DEEPEST = 40
PLAIN_INT = 2**53  # larger integers are written in hexadecimal; Python refuses long decimals


class WireError(Exception):
    """The frame holds no value, or the value fits in no frame; the message says why."""


def encode(value: Any) -> bytes:
    """Write a value as one frame.

    Raise WireError if it is not made of numbers, strings, tensors, models, lists, tuples and dicts.

    >>> decode(encode({"layer": 1, (0, 2): [torch.tensor([True]), float("inf"), None]}))
    {'layer': 1, (0, 2): [tensor([True]), inf, None]}
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(value, tensors, 0)).encode("ascii")
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


def decode(frame: bytes, models: bool = False) -> Any:
    """Read the value in a frame. Raise WireError if there is none.

    Models are built only with `models`, because a stranger's model could be huge.
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
        return _unpack(json.loads(frame[LENGTH.size : end]), tensors, models, 0)
    except WireError:
        raise
    except Exception as error:  # a hostile frame may do anything to JSON, safetensors or torch
        raise WireError(f"the frame cannot be read ({type(error).__name__})") from None


def _pack(value: Any, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > DEEPEST:
        raise WireError(f"it is nested more than {DEEPEST} deep")
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, str, float):
        return value
    if type(value) is int:
        return value if abs(value) < PLAIN_INT else {"int": hex(value)}
    if type(value) is complex:
        return {"complex": [value.real, value.imag]}
    if isinstance(value, Tensor):
        return {"tensor": _keep(value, tensors), "requires_grad": value.requires_grad}
    if isinstance(value, list):
        return [_pack(item, tensors, depth + 1) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, tensors, depth + 1) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"set": [_pack(item, tensors, depth + 1) for item in value]}
    if isinstance(value, dict):
        pairs = [[_pack(part, tensors, depth + 1) for part in pair] for pair in value.items()]
        return {"dict": pairs}
    if isinstance(value, NamedModel):
        return {"random": _pack(dict(value.config), tensors, depth + 1), "seed": value.seed}
    if isinstance(value, Transformer):
        weights = {name: weight.detach() for name, weight in read_tensors(value).items()}
        parts = (dataclasses.asdict(value.config), weights)
        return {"model": [_pack(part, tensors, depth + 1) for part in parts]}
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


def _unpack(text: Any, tensors: dict[str, Tensor], models: bool, depth: int) -> Any:
    if depth > DEEPEST:
        raise WireError(f"the frame is nested more than {DEEPEST} deep")

    def unpack(part: Any) -> Any:
        return _unpack(part, tensors, models, depth + 1)

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
            found = torch.view_as_complex(tensors[name]) if name.endswith("c") else tensors[name]
            return found.clone().requires_grad_(required)
        case {"tuple": items}:
            return tuple(map(unpack, items))
        case {"set": items}:
            return frozenset(map(unpack, items))
        case {"dict": pairs}:
            return {unpack(key): unpack(item) for key, item in pairs}
        case {"random": config, "seed": seed} if models:
            return NamedModel("random", seed=seed, **unpack(config))
        case {"model": [config, weights]} if models:
            return build_model(Config(**unpack(config)), unpack(weights))
    raise WireError("the frame holds an object of an unknown kind")
