"""Explain a wrong answer by the calls that gave it: what it may be, and what it does not use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.comparing import find_difference
from mini_transformer.course.grading.diagnose import diagnose
from mini_transformer.course.grading.effects import find_change
from mini_transformer.course.grading.student import Call, Student
from mini_transformer.course.grading.values import NamedModel
from mini_transformer.model import Transformer


@dataclass(frozen=True)
class Compared:
    """What came back and what was expected, in whose words, and what else it may have been."""

    got: Any
    want: Any
    what: str
    references: Mapping[str, Any]
    close: Mapping[str, float]  # rtol and atol


def make_sentence(words: str) -> str:
    """Make a sentence of words: a capital, and a full stop unless they end with a mark."""
    return words[0].upper() + words[1:] + ("" if words[-1] in ".?!" else ".")


def explain(compared: Compared, sentence: str, student: Student) -> str:
    """Say how the two values that were compared relate.

    If that is not known, return the sentence, and what is seen in the last call.
    """
    # A check may have asked several times before it compares.
    calls = [call for call in student.calls if call.value is compared.got]
    call = calls[-1] if calls else student.calls[-1]
    relation = diagnose(
        compared.got,
        compared.want,
        references={**compared.references, **find_references(call, student)},
        sizes=find_sizes(call, student),
        **compared.close,
    )
    if relation:
        return make_sentence(f"{compared.what} {relation}")
    return " ".join([sentence, *describe_ignored(student)])


def find_references(call: Call, student: Student) -> dict[str, Any]:
    """What an answer may be that does nothing: an argument, or a model's run on one."""
    named = student.name_arguments(call)
    references = {f"your input `{name}`, unchanged": value for name, value in named.items()
                  if isinstance(value, Tensor)}  # fmt: skip
    advice = "if a hook was to change it, does it return its result, or assign in place?"
    for name, given in named.items():
        if not isinstance(given, (NamedModel, Transformer)):
            continue
        model = given.build() if isinstance(given, NamedModel) else given
        for other, tokens in named.items():
            if is_tokens(tokens, model):
                words = f"what `{name}` says on `{other}` by itself: {advice}"
                with torch.no_grad():
                    references[words] = model(tokens)
    return references


def is_tokens(value: Any, model: Transformer) -> bool:
    return (
        isinstance(value, Tensor)
        and value.ndim == 2
        and value.dtype == torch.int64
        and value.numel() > 0
        and value.shape[1] <= model.config.n_ctx
        and 0 <= int(value.min()) <= int(value.max()) < model.config.d_vocab
    )


def find_sizes(call: Call, student: Student) -> dict[str, int]:
    """Name the sizes that an axis or a factor may have."""
    named = student.name_arguments(call)
    sizes = {}
    for name, value in named.items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 1:
            sizes[name] = value
        elif isinstance(value, (NamedModel, Transformer)):
            config = value.build().config if isinstance(value, NamedModel) else value.config
            sizes |= {"heads": config.n_heads, "layers": config.n_layers,
                      "d_head": config.d_head, "d_model": config.d_model,
                      "tokens of the vocabulary": config.d_vocab_out}  # fmt: skip
        elif isinstance(value, Tensor) and value.ndim == 2 and value.dtype == torch.int64:
            sizes |= {"prompts": value.shape[0], "positions": value.shape[1]}
    return sizes


def describe_ignored(student: Student) -> list[str]:
    """Say which argument changed between two calls while the answer stayed, or is never read."""
    call = student.calls[-1]
    named = student.name_arguments(call)
    unused = [name for name in student.find_unused(call.name) if name in named]
    if unused:
        return [f"Your function never uses `{unused[0]}`."]
    for other in student.calls[:-1]:
        before = student.name_arguments(other)
        if other.name != call.name or list(before) != list(named):
            continue
        changed = [name for name in named if find_change(before[name], named[name]) is not None]
        if len(changed) == 1 and find_difference(call.value, other.value) is None:
            return [f"Your answer is the same for another `{changed[0]}`."]
    return []
