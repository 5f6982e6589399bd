"""Grading: run the checks of a grader on a learner's file, and keep what came out as plain data."""

import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, runtime_checkable

from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.grading import Check, Wrong, find_checks
from mini_transformer.course.loading import NotWrittenError, StudentError, summarize
from mini_transformer.course.material import CourseError, Material
from mini_transformer.course.student import InProcessStudent


@runtime_checkable
class Student(Protocol):
    """A learner's file, here or in a sandbox: values go in, values come out. What is wrong with it is a StudentError."""

    @property
    def remarks(self) -> Mapping[str, str]: ...

    @property
    def output(self) -> list[str]: ...

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any: ...

    def seeds(self, n: int) -> list[int]: ...

    def find_called(self, name: str) -> list[str]: ...


@dataclass(frozen=True)
class CheckResult:
    """What one check found. `mistake` is the name of a known mistake, `sentence` what the learner reads."""

    name: str
    outcome: Literal["passed", "wrong", "error", "unwritten"]
    sentence: str = ""
    mistake: str | None = None
    weight: float = 1.0
    earned: float = 0.0  # the share of the weight that a half-right answer is worth


@dataclass(frozen=True)
class ExerciseResult:
    """All checks of one exercise; the points are shared among them by weight."""

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
    """The grade of one file. `problem` is set, and every exercise worth nothing, if the file could not be loaded."""

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
    """Judge a learner's answers to lesson `key`, or `only` those to the exercises of these names, in this process.

    What is wrong with the file is in the report; nothing is raised.
    """

    def load(parameters: dict[str, str]) -> Student:
        return InProcessStudent(path, base_seed, parameters=parameters, seconds=seconds)

    return grade_student(material, key, load, only)


def grade_student(
    material: Material, key: str, load: Callable[[dict[str, str]], Student], only: Collection[str] | None = None
) -> Report:
    """Judge a student of any kind. `load` makes it from the parameters that each function has in the stub."""
    exercises = [exercise for exercise in read_exercises(material, key) if only is None or exercise.name in only]
    try:
        student = load({exercise.name: exercise.parameters for exercise in exercises})
    except StudentError as error:
        problem = make_harmless(str(error))
        lost = (CheckResult("the file is loaded", "error", problem),)
        return Report(key, [ExerciseResult(e.number, e.name, 0.0, e.points, lost) for e in exercises], problem)
    checks = find_checks(vars(load_module(material.graders / f"test_ex{key}.py")))
    results = [grade_exercise(exercise, checks.get(exercise.name, []), student) for exercise in exercises]
    pointed = [point_to_cause(result, results, student) for result in results]
    return Report(key, pointed, output=[make_harmless(line) for line in student.output])


def make_harmless(text: str, longest: int = 1000) -> str:
    """Text that a learner's code may have made up: cut, and without what moves a terminal's cursor or changes its colours.

    >>> make_harmless("right" + chr(27) + "[2J"), make_harmless(5000 * "a")[-3:]
    ('right?[2J', 'a..')
    """
    cut = text[: longest - 2] + ".." if len(text) > longest else text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in cut)


def point_to_cause(result: ExerciseResult, results: list[ExerciseResult], student: Student) -> ExerciseResult:
    """A remark on an exercise that fails and calls the answer to another that fails: mend that one first."""
    failing = [other.name for other in results if not other.solved and other.name != result.name]
    called = [name for name in failing if name in student.find_called(result.name)]
    if result.solved or not called:
        return result
    cause = f"it calls {' and '.join(called)}, not right yet: mend that first"
    return replace(result, remark="; ".join(filter(None, (result.remark, cause))))


def grade_exercise(exercise: Exercise, checks: list[Check], student: Student) -> ExerciseResult:
    """Run every check, also after one failed: each that passes earns its share, and one that nearly does a part of it."""
    results = tuple(run_check(check, student) for check in checks)
    total = sum(result.weight for result in results)
    earned = sum(result.weight * (result.earned if result.outcome != "passed" else 1.0) for result in results)
    points = round(exercise.points * earned / total, 2) if total else 0.0
    remark = make_harmless(student.remarks.get(exercise.name, ""))
    return ExerciseResult(exercise.number, exercise.name, points, exercise.points, results, remark)


def run_check(check: Check, student: Student) -> CheckResult:
    name, weight = (check.__doc__ or check.__name__).strip().splitlines()[0], check.weight  # type: ignore[attr-defined]
    try:
        check(student)
    except NotWrittenError as error:
        return CheckResult(name, "unwritten", make_harmless(str(error)), weight=weight)
    except StudentError as error:
        return CheckResult(name, "error", make_harmless(str(error)), weight=weight)
    except CourseError:  # the sandbox does not start: that is not this learner's doing
        raise
    except Wrong as wrong:
        return CheckResult(name, "wrong", make_harmless(wrong.sentence), wrong.mistake, weight, wrong.earned)
    except Exception as error:  # most likely a value of a kind that the check did not think of
        why = f"The value that came back could not be judged ({summarize(error)}): compare its kind and shape to the task."
        return CheckResult(name, "error", make_harmless(why), weight=weight)
    return CheckResult(name, "passed", weight=weight)


def load_module(path: Path) -> ModuleType:
    """Run a grader (or a file of mutants) by its path, outside sys.modules."""
    spec = importlib.util.spec_from_file_location(f"minilab_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find_registered(module: ModuleType, where: Literal["mutants", "alternatives"]) -> list[tuple[str, str, Callable]]:
    """What a file of mutants registered: (exercise, name, function)."""
    return list(getattr(module, f"_{where.upper()}", []))
