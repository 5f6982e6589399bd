"""Marks by hand: what a lecturer writes into OUT/overrides.toml, which no run overwrites.

["Jane Doe_123".01]        # a student as the tables or the roster call them, and a lesson
file = "ex01_final.py"     # grade this file
remark = "as agreed"       # for the student
excused = true             # does not count: no mark, also if nothing was handed in

["Jane Doe_123".01.points] # points by exercise, instead of those that were reached
find_deciders = 4
"""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.grading.grade import CheckResult, ExerciseResult, Report
from mini_transformer.course.lecturer.roster import Roster
from mini_transformer.course.material import CourseError, find_key
from mini_transformer.nearest import find_nearest

BY_HAND = "set by hand"
KINDS = {"points": dict, "remark": str, "file": str, "excused": bool}


@dataclass(frozen=True)
class Override:
    """Say what a lecturer decided about one student's lesson."""

    points: dict[str, int | float] = field(default_factory=dict)
    remark: str = ""
    file: str = ""
    excused: bool = False

    def change(self, report: Report | None, key: str, exercises: Sequence[Exercise]) -> Report:
        """Return the report with the points given by hand; without one, all others are 0."""
        results = report.exercises if report else []
        by_name = {result.name: result for result in results}
        changed = []
        for exercise in exercises:
            result = by_name.get(exercise.name)
            result = result or ExerciseResult(exercise.number, exercise.name, 0.0, exercise.points)
            if exercise.name in self.points:
                points = float(self.points[exercise.name])
                is_full = points == exercise.points
                check = CheckResult("Set by your teacher.", "passed" if is_full else "wrong")
                begun = () if is_full or result.unwritten else result.checks
                checks = (*begun, check)
                result = replace(result, points=points, checks=checks, remark=BY_HAND)
            changed.append(result)
        return Report(key, changed, output=report.output if report else [])


Overrides = dict[str, dict[str, Override]]  # by student, then by lesson


def read_overrides(path: Path, exercises: Mapping[str, Sequence[Exercise]]) -> Overrides:
    """Read the file; no file means no overrides.

    Raise CourseError, with the nearest name, for whatever in it has no meaning.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise CourseError(f"{path} cannot be read: {error}") from None
    overrides: Overrides = {}
    for student, lessons in found.items():
        if not isinstance(lessons, dict):
            raise CourseError(f"{path}: {student!r} needs a lesson, such as [{student!r}.01]")
        for lesson, given in lessons.items():
            key = find_key(str(lesson), list(exercises))
            where = f"{path}, {student}, {lesson}"
            overrides.setdefault(student, {})[key] = read_override(where, given, exercises[key])
    return overrides


def read_override(where: str, given: Any, exercises: Sequence[Exercise]) -> Override:
    if not isinstance(given, dict):
        raise CourseError(f"{where}: {given!r} says nothing, expected {', '.join(KINDS)}")
    for name, value in given.items():
        if name not in KINDS:
            raise CourseError(
                f"{where}: {name!r} is unknown; nearest: {find_nearest(name, KINDS)!r}"
            )
        if not isinstance(value, KINDS[name]):
            raise CourseError(f"{where}: {name} is {value!r}, expected {KINDS[name].__name__}")
    most = {exercise.name: exercise.points for exercise in exercises}
    for name, points in given.get("points", {}).items():
        if name not in most:
            raise CourseError(
                f"{where}: no exercise {name!r}; nearest: {find_nearest(name, most)!r}"
            )
        if not isinstance(points, (int, float)) or not 0 <= points <= most[name]:
            raise CourseError(f"{where}: {name} has {points!r} points, expected 0 to {most[name]}")
    return Override(**given)


def name_as_handed(overrides: Overrides, people: Roster, students: Collection[str]) -> Overrides:
    """Give what is decided about a student of the roster to their submission, if there is one.

    A name that more than one has names nobody.
    """
    whose = people.match(students).whose.items()
    handed = {one.name: student for student, one in whose if one.name in people.unique}
    named: Overrides = {}
    for student, own in overrides.items():
        named.setdefault(handed.get(student, student), {}).update(own)
    return named


def check_students(path: Path, overrides: Overrides, students: Collection[str]) -> None:
    """Raise CourseError if somebody is overridden who handed in nothing and is not in the class."""
    for student in overrides:
        if student not in students:
            nearest = find_nearest(student, students)
            raise CourseError(f"{path}: nobody is called {student!r}; nearest: {nearest!r}")
