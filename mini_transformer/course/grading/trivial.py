"""Recognise answers that show nothing: constants, what went in, the model's plain run.

A check of a property (each row sums to 1; nobody is named who does not belong) may be passed by an
answer that never looked at its question. Such an answer earns nothing in any check.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from mini_transformer.course.grading.comparing import find_difference, make_tensor
from mini_transformer.course.grading.effects import find_change
from mini_transformer.course.grading.explain import make_sentence
from mini_transformer.course.grading.student import Call


def find_triviality(calls: Sequence[Call], references: Sequence[dict[str, Any]]) -> str | None:
    """Say why these answers to one exercise show nothing; None if they may show something.

    `references[i]` holds what call i had without any work, by its words. An answer is trivial only
    if all answers are.
    """
    if not calls:
        return None
    if all(is_empty(call.value) for call in calls):
        return "You name nothing."
    parts = [part for call in calls for part in list_parts(call.value)]
    is_large = any(part.numel() > 2 for part in parts)
    if is_large and all(part.numel() and part.min() == part.max() for part in parts):
        return "Your answers hold one number only, everywhere."
    for words in set.intersection(*(set(each) for each in references)):
        pairs = zip(calls, references, strict=True)
        if all(find_difference(call.value, each[words]) is None for call, each in pairs):
            return make_sentence(f"you return {words}")
    if all_equal([call.value for call in calls]) and inputs_differ(calls):
        return "You answer the same, whatever is given."
    return None


def all_equal(values: list[Any]) -> bool:
    return all(find_difference(value, values[0]) is None for value in values[1:])


def inputs_differ(calls: Sequence[Call]) -> bool:
    """Say whether two calls differ in two inputs that are no settings, or in the only one."""
    first, *others = [
        [arg for arg in call.args if not isinstance(arg, (str, int, float))] or call.args
        for call in calls
    ]
    return any(
        sum(is_other(*pair) for pair in zip(first, args, strict=False)) >= min(2, len(first))
        for args in others
    )


def is_other(one: Any, another: Any) -> bool:
    return one is not another and (
        isinstance(one, nn.Module) or find_change(one, another) is not None
    )


def is_empty(value: Any) -> bool:
    """Say whether a value holds nothing at all, such as `([], [])`."""
    if isinstance(value, (list, tuple, frozenset)):
        return all(is_empty(part) for part in value)
    return isinstance(value, dict) and not value


def list_parts(value: Any) -> Iterator[Tensor]:
    """List the tensors of numbers in a value."""
    found = make_tensor(value)
    if found is not None:
        yield found
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from list_parts(part)
