"""Pack what crosses between the judge, who knows the truth, and whoever answers, who must not.

Arguments and answers cross as frames of `isolation.wire`, so that nothing is unpickled. An answer
that is no data crosses as an object of which the judge has what its family declares: fields, and
calls that run where the answer was given.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mini_transformer.board.families import load_families
from mini_transformer.board.problem import Family
from mini_transformer.checkpoints import MODEL
from mini_transformer.edges import EdgeScores
from mini_transformer.isolation import wire
from mini_transformer.isolation.wire import Kind
from mini_transformer.toys import Batch

__all__ = ["open_answer", "pack", "pack_answer", "simplify", "unpack"]

Call = Callable[..., Any]
PLAIN = (type(None), bool, int, float, str, tuple)


def pack(value: Any) -> bytes:
    """Write a value as one frame. Raise WireError if it cannot cross."""
    return wire.encode(value, _list_kinds())


def unpack(frame: bytes) -> Any:
    """Read a frame. Raise WireError if it holds no value."""
    return wire.decode(frame, _list_kinds())


@functools.cache
def _list_kinds() -> tuple[Kind, ...]:
    """List models, metrics, and the dataclasses that families declare."""
    declared = {kind for family in load_families().values() for kind in family.data}
    return (MODEL, METRIC, *map(_make_kind, sorted(declared, key=lambda kind: kind.__name__)))


def _make_kind(kind: type) -> Kind:
    return Kind(
        kind.__name__,
        lambda value: type(value) is kind,
        lambda value: {part.name: getattr(value, part.name) for part in dataclasses.fields(value)},
        lambda parts: kind(**parts),
    )


_BATCH = _make_kind(Batch)
METRIC = Kind(
    "metric",
    lambda value: getattr(value, "__func__", None) is Batch.logit_difference,
    lambda metric: _BATCH.pack(metric.__self__),
    lambda parts: _BATCH.unpack(parts).logit_difference,
)


def pack_answer(family: Family, answer: Any) -> dict[str, Any]:
    """Write what a method returned as data, or as an object with its fields and calls."""
    data = (*PLAIN, list, Tensor, np.ndarray, np.generic, Mapping, EdgeScores, *family.data)
    if isinstance(answer, data):
        return {"value": simplify(answer)}
    fields = {name: getattr(answer, name) for name in family.fields if hasattr(answer, name)}
    return {
        "object": type(answer).__name__,
        "fields": {name: simplify(value) for name, value in fields.items()},
        "calls": [name for name in family.calls if callable(getattr(answer, name, None))],
    }


def simplify(value: Any) -> Any:
    """Make values of NumPy, scores of edges and other mappings what the wire knows."""
    if isinstance(value, EdgeScores):
        value = value.values
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.dtype.kind in "OUS" else torch.tensor(value)
    if isinstance(value, Tensor):
        return value.detach().cpu().as_subclass(Tensor)
    if isinstance(value, Mapping):
        return {
            key if type(key) in PLAIN else str(key): simplify(item) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = map(simplify, value)
        return list(items) if isinstance(value, list) else tuple(items)
    return value


def open_answer(parcel: Mapping[str, Any], call: Call) -> Any:
    """Make of a parcel the answer as the judge sees it; `call(name, *arguments)` asks for a call.

    >>> answer = open_answer({"object": "Probe", "fields": {"bias": 1}, "calls": ["predict"]}, max)
    >>> type(answer).__name__, answer.bias, answer.predict("z")
    ('Probe', 1, 'z')
    """
    if "value" in parcel:
        return parcel["value"]

    def bind(name: str) -> Call:
        return lambda self, *arguments: call(name, *arguments)

    members = {**parcel["fields"], **{name: bind(name) for name in parcel["calls"]}}
    return type(str(parcel["object"]), (), members)()
