"""Compare the tables of two runs: whose points changed, and what they are told now."""

import csv
import json
import re
from pathlib import Path
from typing import NamedTuple

from mini_transformer.course.lecturer.resume import name_file
from mini_transformer.course.material import CourseError

# How `show_result` begins, and what it says then unless an exercise is not written yet.
HEADLINE = re.compile(r"[✓✗·] \d+\.\d+ \w+: ")
POINTS = re.compile(r"\S+ of \d+ points")


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
        Change(*one, before.get(one), after.get(one), find_reason(old, new, *one) or why)
        for one in sorted(before.keys() | after.keys())
        for why in ["not there before" * (one not in before) or "gone" * (one not in after)]
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
    """Say what differs in what the student is told: of the exercise, or else of all."""
    before, remarks_before = read_lines(old, student, exercise)
    after, remarks = read_lines(new, student, exercise)
    same = before if before and after else after  # what is excused has no lines
    return find_difference(same, after) or find_difference(remarks_before, remarks)


def find_difference(before: list[str], after: list[str]) -> str:
    """Return a line that is new or gone: a sentence, rather than a check's mark or the points."""
    added = sorted((line for line in after if line not in before), key=rank_line)
    gone = sorted((line for line in before if line not in after), key=rank_line)
    if gone and (not added or rank_line(gone[0]) < rank_line(added[0])):
        return f"no longer: {gone[0]}"
    return added[0] if added else ""


def rank_line(line: str) -> int:
    """Return 0 for a sentence, 1 for a check's mark, 2 for the points."""
    return 2 if POINTS.fullmatch(line) else int(line.startswith(("✓", "✗")))


def read_lines(out: Path, student: str, exercise: str) -> tuple[list[str], list[str]]:
    """Read what a student was told of an exercise, and the remarks on all."""
    try:
        path = out / "gradescope" / name_file(student) / "results.json"
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [], []
    told = [test["output"] for test in data["tests"] if test["name"] == exercise]
    lines = [HEADLINE.sub("", line.strip()) for text in told for line in text.splitlines()]
    return lines, data["output"].splitlines()
