"""The values that cross between a grader and a learner's function, copied on the way in and on the way out.

Tensors, numbers, strings, booleans, None, and lists, tuples or dicts of these. A random model is named; one whose truth is
asked for is sent as its configuration and weights, so that nothing on the learner's side says which one it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mini_transformer.checkpoints import fill
from mini_transformer.course.comparing import describe_kind
from mini_transformer.model import Config, Transformer
from mini_transformer.weights import check_told


@dataclass(frozen=True, init=False)
class NamedModel:
    """An untrained model described by values: `NamedModel("random", seed=3, d_vocab=11, ...)`, with the fields of Config.

    The learner's function receives the Transformer that it describes, built afresh; `build()` is the grader's copy.

    >>> NamedModel("random", seed=1, d_vocab=5, n_ctx=4, d_model=8, n_layers=1).build().W_E.shape
    torch.Size([5, 8])
    """

    kind: str
    seed: int
    config: tuple[tuple[str, Any], ...]

    def __init__(self, kind: str, *, seed: int = 0, **config: Any) -> None:
        if kind != "random":
            raise ValueError(
                f"NamedModel({kind!r}): expected 'random' and Config fields; send any other model as it is"
            )
        for field, value in {"kind": kind, "seed": seed, "config": tuple(config.items())}.items():
            object.__setattr__(self, field, value)

    def build(self) -> Transformer:
        return Transformer(Config(**dict(self.config)), seed=self.seed)


class NotAValueError(Exception):
    """Something that is not a value came back; the message says what."""


def send(value: Any) -> Any:
    """A copy for the learner: tensors cloned, models copied (weights only, no hooks), named models built.

    >>> send([1, "a", {"b": (2.0, None)}])
    [1, 'a', {'b': (2.0, None)}]
    """
    if isinstance(value, NamedModel):
        return value.build()
    if isinstance(value, Transformer):
        return build_model(value.config, read_tensors(value))
    if isinstance(value, Tensor):
        # laid out anew, as a process of its own gets it: what may be viewed is the same in both
        copy = value.detach().clone(memory_format=torch.contiguous_format)
        return copy.requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(send(item) for item in value)
    return {key: send(item) for key, item in value.items()} if isinstance(value, dict) else value


def read_tensors(model: Transformer) -> dict[str, Tensor]:
    """The weights of a model; ValueError for one that computes something else than its configuration and weights say."""
    check_told(model)
    return model.state_dict()


def build_model(config: Config, tensors: dict[str, Tensor]) -> Transformer:
    """A model of copies of these weights, in their dtypes; ValueError unless they are those of the configuration."""
    model = Transformer(config)
    fill(model, tensors)
    return model


def receive(value: Any, depth: int = 0) -> Any:
    """A detached, plain copy of what a learner returned. NotAValueError if it is made of anything but values.

    >>> receive((nn.Parameter(Tensor([1.0])), {"head": 3}))
    (tensor([1.]), {'head': 3})
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, int, float, complex, str):
        return value
    if isinstance(value, Tensor):
        if type(value) not in (Tensor, nn.Parameter):
            raise NotAValueError(f"a {type(value).__name__}, a subclass of Tensor: return a plain tensor")
        if value.layout != torch.strided or value.device.type != "cpu":
            raise NotAValueError(f"a tensor of layout {value.layout} on {value.device}: return a dense one on the cpu")
        if value.is_quantized:
            raise NotAValueError("a quantized tensor: return its dequantize()")
        return value.detach().clone()
    if depth > 20:
        raise NotAValueError("lists within lists, more than 20 deep: return a flat one")
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(receive(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return {receive(key, depth + 1): receive(item, depth + 1) for key, item in value.items()}
    raise NotAValueError(f"{describe_kind(value)}: return a tensor, number or string, or a list or dict of these")


def describe(value: Any) -> str:
    """An argument in a few words: a tensor by its shape, short values as they are, the rest by its kind.

    >>> describe(Tensor([1.0, 2.0])), describe("a0.h1"), describe([1, 2])
    ('tensor(2,)', "'a0.h1'", 'list')
    """
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)}".replace(" ", "")
    if isinstance(value, (bool, int, float, str)):
        return repr(value)[:40]
    return "Transformer" if isinstance(value, (NamedModel, Transformer)) else type(value).__name__
