"""Summarise a batch: how the class did, common mistakes, and what a lecturer must look at."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.grading.grade import ExerciseResult
from mini_transformer.course.lecturer.batch import Graded
from mini_transformer.course.lecturer.names import say_harmless

BINS = 10
BAR = 40  # the longest one
# Lists of names in a summary, and what stands above each.
NAMES = {
    "late": "Handed in late",
    "excused": "Excused",
    "handed_in_nothing": "In the roster, handed in nothing",
    "unknown": "Not in the roster",
    "several": "Fits more than one in the roster",
    "nobodys": "Belongs to nobody",
}
NEW_COLUMN = (
    "No column of the roster begins with {0!r}, so upload.csv has a new one; "
    "--column NAME fills one that is there."
)


def summarize(
    graded: Sequence[Graded],
    exercises: Sequence[Exercise],
    nobodys: Sequence[str] = (),
    **facts: Any,
) -> dict[str, Any]:
    """Make the summary as plain data.

    `facts` (seed, sandbox, ...) go into it as they are.
    """
    whole = [one for one in graded if one.mark is not None]
    shares = np.array([one.points / one.of if one.of else 0.0 for one in whole])
    tenths = np.minimum((shares * BINS + 1e-9).astype(int), BINS - 1)
    quartiles = np.percentile(shares, (25, 50, 75)).round(3).tolist() if len(shares) else []
    rows = [summarize_exercise(exercise, graded) for exercise in exercises]
    return {
        **facts,
        "students": len(graded),
        "of": sum(exercise.points for exercise in exercises),
        "quartiles": quartiles,
        "distribution": np.bincount(tenths, minlength=BINS).tolist(),
        "exercises": rows,
        "solved_by_nobody": [row["name"] for row in rows if not row["solved"]],
        "mistakes": count_mistakes(graded),
        "looks": list_looks(graded),
        "late": [one.student for one in graded if one.late],
        "excused": [one.student for one in graded if one.excused],
        "failed": {one.student: one.failed for one in graded if one.failed},
        "nobodys": list(nobodys),
    }


def list_looks(graded: Iterable[Graded]) -> list[dict[str, Any]]:
    """List what a lecturer must look at, where most points are at stake first.

    At stake are those that the student did not reach in the lesson.
    """
    rows = []
    for one in graded:
        whys = {key: list(why) for key, why in one.looks.items()}
        for key, report in one.reports.items():
            if report.problem and key not in one.missing:
                whys.setdefault(key, []).append(say_harmless(report.problem))
        rows += [
            {
                "points_at_stake": one.find_stake(key),
                "student": one.student,
                "lesson": key,
                "why": "; ".join(dict.fromkeys(why)),
            }
            for key, why in whys.items()
        ]
    return sort_looks(rows)


def sort_looks(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row["points_at_stake"], row["student"]))


def find_results(name: str, graded: Iterable[Graded]) -> list[ExerciseResult]:
    return [result for one in graded for result in one.results if result.name == name]


def summarize_exercise(exercise: Exercise, graded: Sequence[Graded]) -> dict[str, Any]:
    """Count who solved an exercise, did not begin it or did not hand it in; give mean points."""
    results = find_results(exercise.name, graded)
    points = [result.points for result in results]
    return {
        "exercise": exercise.number,
        "name": exercise.name,
        "solved": sum(result.solved for result in results),
        "unwritten": sum(result.unwritten for result in results),
        "missing": sum(exercise.key in one.missing for one in graded),
        "mean": round(float(np.mean(points)), 2) if points else 0.0,
        "of": exercise.points,
    }


def count_mistakes(graded: Iterable[Graded]) -> list[dict[str, Any]]:
    """Count the students who made each named mistake, the most common mistake first."""
    students: Counter[tuple[str, str]] = Counter()
    sentences: dict[tuple[str, str], str] = {}
    for one in graded:
        made = {
            (result.name, check.mistake): check.sentence
            for result in one.results
            for check in result.checks
            if check.mistake
        }
        students.update(made.keys())
        sentences |= made

    order = sorted(students, key=lambda mistake: (-students[mistake], mistake))
    return [
        {
            "exercise": name,
            "mistake": mistake,
            "students": students[name, mistake],
            "sentence": sentences[name, mistake],
        }
        for name, mistake in order
    ]


def describe_summary(summary: dict[str, Any], most: int | None = 12) -> str:
    """Write the summary as text: what needs a look first, then how the class did.

    Of a long list only the first `most` entries are shown; None shows all.
    """
    students = f"{summary['students']} student{'s' * (summary['students'] != 1)}"
    lines = [
        f"{students}, {summary['of']} points can be had. Sandbox: {summary.get('sandbox', '?')}."
    ]
    failed = [
        f"  {student}: {', '.join(f'ex{key}.py' for key in why)} ({next(iter(why.values()))})"
        for student, why in summary["failed"].items()
    ]
    lines += list_some("NOT GRADED, give the same command again", failed, most)
    looks = [
        f"  {row['points_at_stake']:>5g}  {row['student']}{place}: {row['why']}"
        for row in summary["looks"]
        for place in [f", ex{row['lesson'][:2]}" if row["lesson"] else ""]
    ]
    lines += list_some("To look at (points at stake)", looks, most)
    alike = [
        f"  ex{row['lesson'][:2]}, {row['share']:.0%}: {', '.join(row['students'])}"
        for row in summary.get("alike", ())
    ]
    lines += list_some("Alike, which proves nothing", alike, most)
    same: dict[str, list[str]] = {}
    for row in summary.get("shipped", ()):
        number = f"{int(row['lesson'][:2])}."
        names = [
            each["name"] for each in summary["exercises"] if each["exercise"].startswith(number)
        ]
        is_all = row["functions"] == names
        what = "all of it" if is_all else ", ".join(row["functions"])
        same.setdefault(f"  ex{row['lesson'][:2]}, {what}", []).append(row["student"])
    shipped = [f"{what}: {', '.join(students)}" for what, students in same.items()]
    lines += list_some("Word by word what the course ships", shipped, most)
    for key, title in NAMES.items():
        lines += list_some(title, [f"  {name}" for name in summary.get(key, ())], most)
    upload = summary.get("upload")
    if upload and upload["is_new"]:
        lines += ["", NEW_COLUMN.format(upload["column"])]
    lines.append("")
    if summary["quartiles"]:
        low, middle, high = (f"{share:.0%}" for share in summary["quartiles"])
        half = f"Half of them have between {low} and {high} of the points"
        lines += [f"{half}; the median is {middle}.", ""]
    lines += [*describe_distribution(summary["distribution"]), ""]

    lines.append(f"{'exercise':40}{'solved':>8}{'mean':>8}{'of':>5}{'not begun':>11}{'missing':>9}")
    for row in summary["exercises"]:
        name = f"{row['exercise']} {row['name']}"
        points = f"{row['solved']:>8}{row['mean']:>8g}{row['of']:>5}"
        lines.append(f"{name:40}{points}{row['unwritten']:>11}{row['missing']:>9}")

    if summary.get("left_out"):
        lines += ["", f"Left out, since nobody handed them in: {', '.join(summary['left_out'])}."]
    if summary["solved_by_nobody"]:
        lines += ["", f"Solved by nobody: {', '.join(summary['solved_by_nobody'])}."]

    most_made = max((row["students"] for row in summary["mistakes"]), default=0)
    mistakes = [
        f"{row['students']:>5}  {row['exercise']}: {row['mistake']}"
        for row in summary["mistakes"]
        if row["students"] >= min(2, most_made)
    ]
    lines += list_some("Most common mistakes (students)", mistakes, most)
    return "\n".join(lines) + "\n"


def list_some(title: str, lines: Sequence[str], most: int | None) -> list[str]:
    if not lines:
        return []
    shown = lines[:most]
    hidden = len(lines) - len(shown)
    return ["", f"{title}:", *shown, *[f"  and {hidden} more, in summary.txt"] * bool(hidden)]


def describe_distribution(counts: Sequence[int]) -> list[str]:
    """Draw a bar for each tenth of the points.

    >>> describe_distribution([0, 2])
    ['    0 to  50 %     0', '   50 to 100 %     2  ########################################']
    """
    edges = [round(100 * i / len(counts)) for i in range(len(counts) + 1)]
    bars = ["#" * round(BAR * count / max(1, *counts)) for count in counts]
    return [
        f"  {low:>3} to {high:>3} % {count:>5}  {bar}".rstrip()
        for low, high, count, bar in zip(edges, edges[1:], counts, bars, strict=False)
    ]
