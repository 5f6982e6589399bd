"""Wrong answers that a grader must reject, and right ones that it must accept.

A wrong answer (`mutant`) stands beside the sentence that whoever hands it in is told. So a mistake
is written once: when an answer is wrong, the grader gives the same inputs to its mutants, and the
one that alone returns the same is what the learner did. An `alternative` is a right answer that is
written differently from the solution.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mini_transformer.course.grading.comparing import find_difference
from mini_transformer.course.grading.student import SEED, Call
from mini_transformer.course.grading.values import receive, send
from mini_transformer.course.material import load_module

# A mutant must return the same as the learner on so many calls, if there were as many.
CALLS = 12


class Mutant(NamedTuple):
    """A wrong or unusual answer.

    Who is found to give a wrong one is told its `sentence`. If it has none, then `says` stands in
    whatever sentence it is told. `clause` quotes words of the task that it does not heed.
    """

    exercise: str
    name: str
    answer: Callable
    sentence: str = ""
    says: str = ""
    clause: str = ""


def mutant(
    exercise: str, sentence: str = "", *, name: str = "", says: str = "", clause: str = ""
) -> Callable[[Callable], Callable]:
    """Mark a plausible wrong answer to `exercise`; its name is by default the function's.

    Without `sentence` and `says` it has the sentence of a mutant of the same name. `clause` quotes
    the words of the task, if there are such, that the solution without them would be this answer.
    """

    def mark(answer: Callable) -> Callable:
        known = answer.__globals__.setdefault("MUTANTS", [])
        known.append(Mutant(exercise, name or answer.__name__, answer, sentence, says, clause))
        return answer

    return mark


def vary(exercise: str, answer: Callable) -> Callable[..., None]:
    """Make `wrong(name, sentence, says=, clause=, **changes)`, which adds a mutant of a family.

    It answers as `answer(*inputs, **changes)` does. With no changes that is right.
    """

    def wrong(
        name: str, sentence: str = "", *, says: str = "", clause: str = "", **changes: Any
    ) -> None:
        changed = functools.partial(answer, **changes)
        known = answer.__globals__.setdefault("MUTANTS", [])
        known.append(Mutant(exercise, name, changed, sentence, says, clause))

    return wrong


def alternative(exercise: str, name: str = "") -> Callable[[Callable], Callable]:
    """Mark a right answer to `exercise` that is written differently from the solution."""

    def mark(answer: Callable) -> Callable:
        known = answer.__globals__.setdefault("ALTERNATIVES", [])
        known.append(Mutant(exercise, name or answer.__name__, answer))
        return answer

    return mark


def load_mutants(grader: str | Path) -> list[Mutant]:
    """Load the wrong answers that a grader knows.

    `MUTANTS = load_mutants(__file__)` in a grader makes them known to its checks.
    """
    return load_module(locate_mutants(Path(grader))).MUTANTS


def locate_mutants(grader: Path) -> Path:
    """Return `.../mutants/exNN.py` for the grader `.../exercises/test_exNN.py`."""
    return grader.parents[1] / "mutants" / grader.name.removeprefix("test_")


def find_sentence(mutants: Iterable[Mutant], exercise: str, name: str) -> str:
    """Find the sentence of a mistake. Raise KeyError if no mutant of this name has one."""
    sentences = {
        each.name: each.sentence for each in mutants if each.exercise == exercise and each.sentence
    }
    if name not in sentences:
        known = ", ".join(sentences) or "none"
        raise KeyError(f"no mutant of {exercise!r} has the name {name!r} and a sentence: {known}")
    return sentences[name]


def recognize(
    mutants: Iterable[Mutant],
    exercise: str,
    calls: list[Call],
    view: Callable | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> str | None:
    """Name the mistake that alone returns what the learner did, on all of the last calls.

    Several mutants may have one name: they are one mistake. Return None if there is none, or if
    there are several: nobody knows which was made. `view(answer, *args)` is what of an answer
    counts, by default all.
    """
    calls = [call for call in calls if call.name == exercise][-CALLS:]
    fitting = {
        each.name
        for each in mutants
        if each.exercise == exercise
        and not each.says
        and all(returns_same(each.answer, call, view, rtol, atol) for call in reversed(calls))
    }
    return fitting.pop() if calls and len(fitting) == 1 else None


def returns_same(
    answer: Callable, call: Call, view: Callable | None, rtol: float, atol: float
) -> bool:
    """Tell whether `answer` returns, on the inputs of a call, what the learner returned."""
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.default_generator.manual_seed(SEED)
            value: Any = receive(answer(*send(call.args), **send(call.kwargs)))
        got = view(call.value, *call.args) if view else call.value
        value = view(value, *call.args) if view else value
    except Exception:  # of the inputs that a mutant cannot take, or answers that nobody can view
        return False
    pair = collect_names(got), collect_names(value)
    return find_difference(*pair, rtol=rtol, atol=atol) is None


def collect_names(value: Any) -> Any:
    """Make sets of lists of names, and of lists of these: their order tells no mistake.

    A list that holds a name twice is one name for each of several things: its order is kept.

    >>> collect_names([["a1", "a0"]]) == collect_names([["a0", "a1"]])
    True
    >>> collect_names(["yes", "no", "no"])
    ['yes', 'no', 'no']
    """
    if not isinstance(value, (list, tuple, frozenset)):
        return value
    parts = [collect_names(part) for part in value]
    if all(isinstance(part, str) for part in parts):
        return frozenset(parts) if len(set(parts)) == len(parts) else value
    if isinstance(value, tuple):  # the places of a tuple mean something
        return tuple(parts)
    return frozenset(parts) if all(isinstance(part, frozenset) for part in parts) else value
