"""Write graders: `check` marks a test, `expect` compares, `Wrong` names a mistake.

A grader is a module of check functions that see only a `student` (see
mini_transformer.course.grading.student): values go in, values come out. Its `MUTANTS` are the wrong
answers that it knows (see mini_transformer.course.grading.mutants), each with the sentence for
whoever gives it.

What a call leaves behind counts, too (see `effects`): a right value with a side effect earns half.
`ALLOWED[exercise]` names side effects that the task asks for, `RUNS[exercise]` how many forward
runs of a given model are enough. Where many answers mean the same (a list in any order, weights in
any basis), `VIEWS[exercise](answer, *args)` is what mutants are recognized by.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch  # noqa: F401  (in a doctest)
from torch import Tensor

from mini_transformer.course.grading.comparing import find_difference
from mini_transformer.course.grading.effects import Effect
from mini_transformer.course.grading.explain import Compared, explain, make_sentence
from mini_transformer.course.grading.mutants import find_sentence, recognize
from mini_transformer.course.grading.student import Call
from mini_transformer.nearest import find_nearest

Check = Callable[..., None]


class Wrong(Exception):
    """Report a wrong answer, by a mistake's name or by a sentence of its own.

    `Wrong("constant_output")` names a mistake. `earned` is the share of the check's points that a
    half-right answer still gets. If values were compared, `compared` holds them, and the sentence
    is the check's last resort: the relation between them is said first, if it is known.

    >>> Wrong(sentence="The pattern has 3 axes, expected 4.").sentence
    'The pattern has 3 axes, expected 4.'
    """

    def __init__(
        self,
        mistake: str | None = None,
        *,
        sentence: str = "",
        earned: float = 0.0,
        compared: Compared | None = None,
    ) -> None:
        super().__init__(mistake or sentence)
        self.mistake = mistake
        self.sentence = sentence
        self.earned = earned
        self.compared = compared


class LeftBehind(Wrong):
    """Report what calls with a right value left behind."""


def check(exercise: str, weight: int | float = 1) -> Callable[[Check], Check]:
    """Mark a test `(student) -> None` as a check of `exercise`.

    An exercise's points are shared among its checks by weight. The learner sees the summary of
    the test's docstring. A `Wrong` with a name gets that mutant's sentence; raise KeyError if
    there is none. Without a name it gets that of the mutant that alone answers as the learner does.
    """

    def mark(test: Check) -> Check:
        rules = test.__globals__

        def attempt(student: Any) -> None:
            student.begin(exercise, test.__name__)
            test(student)
            # Some graders ask once for several checks.
            calls = [call for call in student.calls if call.name == exercise]
            allowed = rules.get("ALLOWED", {}).get(exercise, ())
            check_effects(calls, allowed, rules.get("RUNS", {}).get(exercise))

        @functools.wraps(test)
        def judge(student: Any) -> None:
            try:
                attempt(student)
            except LeftBehind:
                raise
            except Wrong as wrong:
                known = rules.get("MUTANTS", [])
                close = wrong.compared.close if wrong.compared else {}
                view = rules.get("VIEWS", {}).get(exercise)
                wrong.mistake = wrong.mistake or recognize(
                    known, exercise, student.calls, view, **close
                )
                if wrong.mistake is not None:
                    wrong.sentence = find_sentence(known, exercise, wrong.mistake)
                    wrong.args = (f"{wrong.mistake}: {wrong.sentence}",)
                elif wrong.compared is not None and student.calls:
                    wrong.sentence = explain(wrong.compared, wrong.sentence, student)
                raise

        judge.exercise = exercise  # type: ignore[attr-defined]
        judge.weight = float(weight)  # type: ignore[attr-defined]
        judge.attempt = attempt  # type: ignore[attr-defined]
        return judge

    return mark


def passes(check: Check, student: Any) -> bool:
    """Tell whether an answer passes a check, in less time than it takes to say what is wrong."""
    try:
        check.attempt(student)  # type: ignore[attr-defined]
    except Exception:
        return False
    return True


def check_effects(calls: list[Call], allowed: Collection[str], runs: int | None) -> None:
    """Raise `LeftBehind` if one of these calls left something, or ran a model too often."""
    for call in calls:
        effects = [effect for effect in call.effects if effect.kind not in allowed]
        if runs is not None and len(call.runs) > runs:
            effects.append(Effect("runs_too_often", f"{len(call.runs)} times"))
        if effects:
            sentence = " ".join(effect.describe(call.name) for effect in effects[:3])
            raise LeftBehind(effects[0].kind, sentence=sentence, earned=0.5)


def expect(
    got: Any,
    want: Any,
    *,
    others: Mapping[str, Any] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    what: str = "the result",
) -> None:
    """Raise `Wrong` if `got` is not `want`.

    `others` maps words to values that it may be instead, such as "the run on `source`", or to
    functions without arguments that compute them (only when needed): that is said, and blamed on
    nothing. Values are compared as in `find_difference`: kind, shape, then numbers within `rtol`
    and `atol`.

    >>> expect([1, 2], [1, 2, 3])
    Traceback (most recent call last):
    mini_transformer.course.grading.checks.Wrong: The result has 2 entries, expected 3.
    """
    difference = find_difference(got, want, what, rtol, atol)
    if difference is None:
        return
    references = {
        words: value() if callable(value) else value for words, value in (others or {}).items()
    }
    compared = Compared(got, want, what, references, {"rtol": rtol, "atol": atol})
    raise Wrong(sentence=make_sentence(difference), compared=compared)


def as_list(value: Any) -> list | None:
    """Return what a list, tuple, set or tensor holds, with numbers for tensors of one number.

    Return None for anything else.

    >>> as_list((1, torch.tensor(2))), as_list({3}), as_list("ab")
    ([1, 2], [3], None)
    """
    if isinstance(value, Tensor):
        return value.tolist() if value.ndim else None
    if not isinstance(value, (list, tuple, set, frozenset)):
        return None
    return [item.item() if isinstance(item, Tensor) and not item.ndim else item for item in value]


def expect_found(
    got: Any,
    right: Collection[Collection[str]],
    possible: Collection[str],
    *,
    what: str = "heads",
) -> None:
    """Raise `Wrong` unless `got` names exactly one of the `right` sets.

    A half-right answer earns a share: the F1 score (the harmonic mean of precision and recall)
    against the nearest right set, or, if that is less, recall minus the share of the wrong names
    that were given. So naming all that is `possible` earns nothing.

    >>> try:
    ...     expect_found(["a0.h1"], [{"a0.h1", "a1.h0"}], ["a0.h0", "a0.h1", "a1.h0", "a1.h1"])
    ... except Wrong as wrong:
    ...     print(wrong)
    You name 1 of the 2 heads, and 0 that do not belong there.
    """
    got = as_list(got)
    if got is None or not all(isinstance(name, str) for name in got):
        raise Wrong(sentence=f"Return a list of names of {what}, such as {next(iter(possible))!r}.")
    unknown = [name for name in got if name not in possible]
    if unknown:
        near = find_nearest(unknown[0], possible)
        raise Wrong(
            sentence=f"{unknown[0]!r} is not a name of {what} of this model; nearest: {near!r}."
        )

    named = set(got)
    if named in map(set, right):
        return

    n_possible = len(set(possible))
    scores = {frozenset(answer): score_found(named, set(answer), n_possible) for answer in right}
    nearest, earned = max(scores.items(), key=lambda pair: pair[1])
    found = f"{len(named & nearest)} of the {len(nearest)} {what}"
    extra = f"{len(named - nearest)} that do not belong there"
    raise Wrong(sentence=f"You name {found}, and {extra}.", earned=earned)


def score_found(named: set[str], right: set[str], n_possible: int) -> float:
    """Return the lesser of F1 and informedness (recall minus false-positive rate).

    It is at least 0.

    >>> score_found({"a", "b"}, {"a", "b", "c", "d"}, 10), score_found({"a", "b"}, {"a"}, 3)
    (0.5, 0.5)
    """
    hits = len(named & right)
    extra = len(named - right)
    f1 = 2 * hits / max(1, len(named) + len(right))
    informedness = hits / max(1, len(right)) - extra / max(1, n_possible - len(right))
    return max(0.0, min(f1, informedness))


def find_checks(module: Mapping[str, Any]) -> dict[str, list[Check]]:
    """Find the checks in a grader's namespace by exercise, in the order they are written."""
    found: dict[str, list[Check]] = {}
    for value in module.values():
        if hasattr(value, "exercise") and hasattr(value, "weight"):
            found.setdefault(value.exercise, []).append(value)
    return found
