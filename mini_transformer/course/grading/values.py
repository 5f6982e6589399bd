"""Copy values that cross between a grader and a learner's function, in both directions.

Values are tensors, numbers, strings, booleans, None, and lists, tuples, sets or dicts of these;
NumPy's arrays, ranges and other containers become such values when they come back. A random
model is named. A model whose truth is asked for is sent as its configuration and weights, so that
nothing on the learner's side says which one it is.
"""

from collections import deque
from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mini_transformer.checkpoints import build_model, read_weights
from mini_transformer.isolation.explaining import describe_kind
from mini_transformer.model import Config, Transformer


@dataclass(frozen=True, init=False)
class NamedModel:
    """Describe an untrained model: `NamedModel("random", seed=3, d_vocab=11, ...)`.

    The further arguments are fields of Config. The learner's function receives the Transformer that
    this describes, built afresh; `build()` makes the grader's copy.

    >>> NamedModel("random", seed=1, d_vocab=5, n_ctx=4, d_model=8, n_layers=1).build().W_E.shape
    torch.Size([5, 8])
    """

    kind: str
    seed: int
    config: tuple[tuple[str, Any], ...]

    def __init__(self, kind: str, *, seed: int = 0, **config: Any) -> None:
        if kind != "random":
            raise ValueError(
                f"NamedModel({kind!r}): expected 'random' and Config fields; "
                "send any other model as it is"
            )
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "config", tuple(config.items()))

    def build(self) -> Transformer:
        return Transformer(Config(**dict(self.config)), seed=self.seed)


class NotAValueError(Exception):
    """Something that is not a value came back; the message says what."""


def send(value: Any) -> Any:
    """Copy a value for the learner: clone tensors, copy models, build named models.

    Models are copied by their weights, without hooks.

    >>> send([1, "a", {"b": (2.0, None)}])
    [1, 'a', {'b': (2.0, None)}]
    """
    if isinstance(value, NamedModel):
        return value.build()
    if isinstance(value, Transformer):
        return build_model(value.config, read_weights(value))
    if isinstance(value, Tensor):
        # Contiguous, as a sandboxed process gets it, so that `view` works in both or in neither.
        copy = value.detach().clone(memory_format=torch.contiguous_format)
        return copy.requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(send(item) for item in value)
    if isinstance(value, dict):
        return {key: send(item) for key, item in value.items()}
    return value


def receive(value: Any, depth: int = 0) -> Any:
    """Make a detached, plain copy of what a learner returned.

    Raise NotAValueError if it is made of anything but values.

    >>> receive((nn.Parameter(Tensor([1.0])), {"head": 3}))
    (tensor([1.]), {'head': 3})
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, int, float, complex, str):
        return value
    if isinstance(value, Tensor):
        if type(value) not in (Tensor, nn.Parameter):
            raise NotAValueError(
                f"a {type(value).__name__}, a subclass of Tensor: return a plain tensor"
            )
        if value.layout != torch.strided or value.device.type != "cpu":
            raise NotAValueError(
                f"a tensor of layout {value.layout} on {value.device}: "
                "return a dense one on the cpu"
            )
        if value.is_quantized:
            raise NotAValueError("a quantized tensor: return its dequantize()")
        return value.detach().clone()
    if depth > 20:
        raise NotAValueError("lists within lists, more than 20 deep: return a flat one")
    if isinstance(value, np.ndarray):
        return receive(value.tolist() if value.dtype.kind in "OUS" else torch.tensor(value))
    if isinstance(value, Mapping):
        pairs = zip(take_keys(value, depth), value.values(), strict=True)
        return {key: receive(item, depth + 1) for key, item in pairs}
    if isinstance(value, (set, frozenset)):
        return frozenset(take_keys(value, depth))
    if isinstance(value, (list, tuple, range, deque, ItemsView, KeysView, ValuesView)):
        items = [receive(item, depth + 1) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    raise NotAValueError(
        f"{describe_kind(value)}: return a tensor, number or string, or a list or dict of these"
    )


def take_keys(values: Iterable[Any], depth: int) -> list[Any]:
    """Receive what stands in a set or as a key of a dict: a tensor as a number."""
    received = [receive(value, depth + 1) for value in values]
    return [
        value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        for value in received
    ]


def describe(value: Any) -> str:
    """Describe an argument in a few words: a tensor by its shape, a short value as it is.

    All other values are described by their kind.

    >>> describe(Tensor([1.0, 2.0])), describe("a0.h1"), describe([1, 2])
    ('tensor(2,)', "'a0.h1'", 'list')
    """
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)}".replace(" ", "")
    if isinstance(value, (bool, int, float, str)):
        return repr(value)[:40]
    return "Transformer" if isinstance(value, (NamedModel, Transformer)) else type(value).__name__
