"""Grading: run the checks of a grader on a learner's file, and keep what came out as plain data."""

import importlib.util
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.grading import Check, Wrong, find_checks
from mini_transformer.course.loading import NotWrittenError, StudentError, summarize
from mini_transformer.course.material import Material
from mini_transformer.course.student import InProcessStudent


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
    """Judge a learner's answers to lesson `key`, or `only` those to the exercises of these names.

    What is wrong with the file is in the report; nothing is raised.
    """
    exercises = [exercise for exercise in read_exercises(material, key) if only is None or exercise.name in only]
    parameters = {exercise.name: exercise.parameters for exercise in exercises}
    try:
        student = InProcessStudent(path, base_seed, parameters=parameters, seconds=seconds)
    except StudentError as error:
        lost = (CheckResult("the file is loaded", "error", str(error)),)
        return Report(key, [ExerciseResult(e.number, e.name, 0.0, e.points, lost) for e in exercises], str(error))
    checks = find_checks(vars(load_module(material.graders / f"test_ex{key}.py")))
    results = [grade_exercise(exercise, checks.get(exercise.name, []), student) for exercise in exercises]
    return Report(
        key, [point_to_cause(result, results, student) for result in results], output=student.file.output.show()
    )


def point_to_cause(result: ExerciseResult, results: list[ExerciseResult], student: InProcessStudent) -> ExerciseResult:
    """A remark on an exercise that fails and calls the answer to another that fails: mend that one first."""
    failing = [other.name for other in results if not other.solved and other.name != result.name]
    code = getattr(student.file.names.get(result.name), "__code__", None)
    if result.solved or code is None or not (called := [name for name in failing if name in code.co_names]):
        return result
    cause = f"it calls {' and '.join(called)}, not right yet: mend that first"
    return replace(result, remark="; ".join(filter(None, (result.remark, cause))))


def grade_exercise(exercise: Exercise, checks: list[Check], student: InProcessStudent) -> ExerciseResult:
    """Run every check, also after one failed: each that passes earns its share, and one that nearly does a part of it."""
    results = tuple(run_check(check, student) for check in checks)
    total = sum(result.weight for result in results)
    earned = sum(result.weight * (result.earned if result.outcome != "passed" else 1.0) for result in results)
    points = round(exercise.points * earned / total, 2) if total else 0.0
    remark = student.file.remarks.get(exercise.name, "")
    return ExerciseResult(exercise.number, exercise.name, points, exercise.points, results, remark)


def run_check(check: Check, student: Any) -> CheckResult:
    name, weight = (check.__doc__ or check.__name__).strip().splitlines()[0], check.weight  # type: ignore[attr-defined]
    try:
        check(student)
    except NotWrittenError as error:
        return CheckResult(name, "unwritten", str(error), weight=weight)
    except StudentError as error:
        return CheckResult(name, "error", str(error), weight=weight)
    except Wrong as wrong:
        return CheckResult(name, "wrong", wrong.sentence, wrong.mistake, weight, wrong.earned)
    except Exception as error:  # most likely a value of a kind that the check did not think of
        why = f"The value that came back could not be judged ({summarize(error)}): compare its kind and shape to the task."
        return CheckResult(name, "error", why, weight=weight)
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
