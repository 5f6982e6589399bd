"""Compare the tables of two runs: whose points changed, and what they are told now."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

from mini_transformer.course.lecturer.resume import name_file
from mini_transformer.course.material import CourseError


class Change(NamedTuple):
    """Hold a student's points in an exercise before and after; None where there were none."""

    student: str
    exercise: str
    old: float | None
    new: float | None
    why: str


def compare_runs(old: Path, new: Path) -> list[Change]:
    """List the changes from one OUT to another. Raise CourseError if one has no grades.csv."""
    before = read_points(old)
    after = read_points(new)
    return [
        Change(*one, before.get(one), after.get(one), find_reason(old, new, *one))
        for one in sorted(before.keys() | after.keys())
        if before.get(one) != after.get(one)
    ]


def read_points(out: Path) -> dict[tuple[str, str], float | None]:
    """Read the points by student and exercise; None where nothing could be graded."""
    path = out / "grades.csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            (row["student"], row["exercise"]): float(row["points"]) if row["points"] else None
            for row in rows
        }
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(
            f"{path} cannot be read as grades ({error}): give two OUT folders"
        ) from None


def find_reason(old: Path, new: Path, student: str, exercise: str) -> str:
    """Return the first line that the student is told now and was not told before."""
    before = read_lines(old, student, exercise)
    return next((line for line in read_lines(new, student, exercise) if line not in before), "")


def read_lines(out: Path, student: str, exercise: str) -> list[str]:
    try:
        path = out / "gradescope" / name_file(student) / "results.json"
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    told = [test["output"] for test in data["tests"] if test["name"] == exercise]
    return [line.strip() for text in [*told, data["output"]] for line in text.splitlines()]
