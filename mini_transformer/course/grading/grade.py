"""Run a grader's checks on a learner's file, and turn their results into points."""

import functools
import unicodedata
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.grading.checks import Check, Wrong, find_checks
from mini_transformer.course.grading.explain import find_references
from mini_transformer.course.grading.loading import NotWrittenError, StudentError
from mini_transformer.course.grading.student import InProcessStudent, Student
from mini_transformer.course.grading.trivial import find_triviality
from mini_transformer.course.material import CourseError, Material, load_module
from mini_transformer.isolation.explaining import summarize

HARMLESS = "\n\t\u200c\u200d"  # the last two say whether letters join


@dataclass(frozen=True)
class CheckResult:
    """Hold what one check found.

    `mistake` is the name of a known mistake, `sentence` is what the learner reads.
    """

    name: str
    outcome: Literal["passed", "wrong", "error", "unwritten"]
    sentence: str = ""
    mistake: str | None = None
    weight: float = 1.0
    # Credit for a half-right answer, as a share of the weight; a passed check has all of it.
    earned: float = 0.0


@dataclass(frozen=True)
class ExerciseResult:
    """Hold the results of one exercise.

    Its `of` points are divided among its checks by their weights; `points` were reached.
    """

    number: str
    name: str
    points: float
    of: int
    checks: tuple[CheckResult, ...] = ()
    remark: str = ""

    @property
    def solved(self) -> bool:
        return bool(self.checks) and all(result.outcome == "passed" for result in self.checks)

    @property
    def unwritten(self) -> bool:
        return any(result.outcome == "unwritten" for result in self.checks)


@dataclass
class Report:
    """Hold the grade of one file.

    If the file could not be loaded, `problem` says why, and every exercise is worth nothing.
    """

    key: str
    exercises: list[ExerciseResult] = field(default_factory=list)
    problem: str = ""
    output: list[str] = field(default_factory=list)  # what the learner's code printed

    @property
    def solved(self) -> bool:
        return all(result.solved for result in self.exercises)

    def as_data(self) -> dict[str, Any]:
        return asdict(self) | {"solved": self.solved}


def grade_file(
    material: Material,
    key: str,
    path: Path,
    base_seed: int = 0,
    only: Collection[str] | None = None,
    seconds: float = 10.0,
) -> Report:
    """Judge a learner's answers to lesson `key` in this process.

    With `only`, judge the answers to the exercises of these names. What is wrong with
    the file stands in the report; it raises nothing.
    """

    def load(parameters: dict[str, str]) -> Student:
        return InProcessStudent(path, base_seed, parameters=parameters, seconds=seconds)

    return grade_student(material, key, load, only)


def find_failed_call(
    material: Material, exercise: Exercise, path: Path, base_seed: int = 0
) -> tuple[CheckResult, dict[str, Any]] | None:
    """Find the first check that fails, and the inputs on which it fails, by the stub's parameters.

    Return None if none fails, or if none came to call the function.
    """
    student = InProcessStudent(path, base_seed, parameters={exercise.name: exercise.parameters})
    grader = load_module(material.graders / f"test_ex{exercise.key}.py")
    for check in find_checks(vars(grader)).get(exercise.name, []):
        result = run_check(check, student)
        if result.outcome != "passed":
            return (result, student.name_arguments(student.asked)) if student.asked else None
    return None


def grade_student(
    material: Material,
    key: str,
    load: Callable[[dict[str, str]], Student],
    only: Collection[str] | None = None,
) -> Report:
    """Judge a student of any kind.

    `load` makes the student from the parameters that each function has in the stub.
    """
    exercises = [
        exercise
        for exercise in read_exercises(material, key)
        if only is None or exercise.name in only
    ]
    try:
        student = load({exercise.name: exercise.parameters for exercise in exercises})
    except StudentError as error:
        return lose_all(key, exercises, make_harmless(str(error)))

    path = material.graders / f"test_ex{key}.py"
    checks = find_checks(vars(load_grader(path, path.stat().st_mtime_ns)))
    results = [
        grade_exercise(exercise, checks.get(exercise.name, []), student) for exercise in exercises
    ]
    pointed = [point_to_cause(result, results, student) for result in results]
    return Report(key, pointed, output=[make_harmless(line) for line in student.output])


@functools.lru_cache(maxsize=2)
def load_grader(path: Path, changed: int) -> ModuleType:
    """Load a grader. What it has planted for one file serves the next files of a class."""
    return load_module(path)


def lose_all(key: str, exercises: Iterable[Exercise], problem: str) -> Report:
    """Make a report in which every exercise is worth nothing, because of `problem`."""
    lost = (CheckResult("the file is loaded", "error", problem),)
    results = [ExerciseResult(e.number, e.name, 0.0, e.points, lost) for e in exercises]
    return Report(key, results, problem)


def make_harmless(text: str, longest: int = 1000) -> str:
    """Shorten untrusted text, and replace what moves a terminal's cursor or sets its colours.

    Spaces of all widths and what joins letters (in Persian, in emoji) stay.

    >>> make_harmless("right" + chr(27) + "[2J"), make_harmless(5000 * "a")[-3:]
    ('right?[2J', 'a..')
    """
    cut = text[: longest - 2] + ".." if len(text) > longest else text
    return "".join(letter if is_harmless(letter) else "?" for letter in cut)


def is_harmless(letter: str) -> bool:
    return letter.isprintable() or letter in HARMLESS or unicodedata.category(letter) == "Zs"


def point_to_cause(
    result: ExerciseResult, results: list[ExerciseResult], student: Student
) -> ExerciseResult:
    """Remark that a failing exercise calls another failing one, so that it is mended first."""
    failing = [other.name for other in results if not other.solved and other.name != result.name]
    called = [name for name in failing if name in student.find_called(result.name)]
    if result.solved or not called:
        return result
    cause = f"it calls {' and '.join(called)}, not right yet: mend that first"
    return replace(result, remark="; ".join(filter(None, (result.remark, cause))))


def grade_exercise(exercise: Exercise, checks: list[Check], student: Student) -> ExerciseResult:
    """Run every check, also after one failed, and add up the points.

    A check that passes earns its share, and one that nearly does a part of it. Answers that show
    nothing, such as a constant, earn nothing in any check.
    """
    student.calls.clear()
    results = tuple(run_check(check, student) for check in checks)
    if any(result.outcome != "passed" for result in results):
        results = withhold(results, student, exercise.name)
    total = sum(result.weight for result in results)
    earned = sum(
        result.weight * (1.0 if result.outcome == "passed" else result.earned) for result in results
    )
    points = round(exercise.points * earned / total, 2) if total else 0.0
    remark = make_harmless(student.remarks.get(exercise.name, ""))
    return ExerciseResult(exercise.number, exercise.name, points, exercise.points, results, remark)


def withhold(
    results: tuple[CheckResult, ...], student: Student, name: str
) -> tuple[CheckResult, ...]:
    """Take the points of checks that were passed, wholly or in part, by answers without work."""
    calls = [call for call in student.calls if call.name == name]
    reason = find_triviality(calls, [find_references(call, student) for call in calls])
    if reason is None:
        return results
    return tuple(
        replace(result, earned=0.0)
        if result.mistake or result.outcome in ("error", "unwritten")
        else replace(result, outcome="wrong", sentence=reason, earned=0.0)
        for result in results
    )


def run_check(check: Check, student: Student) -> CheckResult:
    """Run one check, and say how it ended. Raise CourseError if the sandbox does not start."""
    name = " ".join((check.__doc__ or check.__name__).split("\n\n")[0].split())
    weight = check.weight  # type: ignore[attr-defined]
    try:
        check(student)
    except NotWrittenError as error:
        return CheckResult(name, "unwritten", make_harmless(str(error)), weight=weight)
    except StudentError as error:
        return CheckResult(name, "error", make_harmless(str(error)), weight=weight)
    except CourseError:  # the sandbox does not start: that is not this learner's doing
        raise
    except Wrong as wrong:
        sentence = make_harmless(wrong.sentence)
        return CheckResult(name, "wrong", sentence, wrong.mistake, weight, wrong.earned)
    except Exception as error:  # most likely a value of a kind that the check did not think of
        why = (
            f"The value that came back could not be judged ({summarize(error)}): "
            "compare its kind and shape to the task."
        )
        return CheckResult(name, "error", make_harmless(why), weight=weight)
    return CheckResult(name, "passed", weight=weight)
