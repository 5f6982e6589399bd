"""The files that a lecturer gets of a batch: grades as CSV, feedback for each student, Gradescope's results, the summary."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from mini_transformer.course import screen
from mini_transformer.course.batch import Graded, Settings, grade_submissions
from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.kept import find_seed, make_folder, name_file
from mini_transformer.course.material import Material
from mini_transformer.course.progress import write_atomically
from mini_transformer.course.report import ExerciseResult
from mini_transformer.course.summary import describe_summary, summarize

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are their full-width forms
UNSAFE = "Graded without a sandbox (--unsafe-no-sandbox)."


def grade_folder(
    material: Material,
    keys: Sequence[str],
    folder: Path,
    out: Path,
    *,
    seed: int | None = None,
    by_student: bool = False,
    unsafe: bool = False,
    jobs: int | None = None,
    dask: str | None = None,
    progress: bool = False,
    all_lessons: bool = False,
) -> dict[str, Any]:
    """Grade every submission in `folder` on the lessons `keys`, write the gradebook into `out`, and return the summary.

    Lessons that nobody handed in are left out, unless `all_lessons`. CourseError as in `grade_submissions`.
    """
    settings = Settings(find_seed(out, seed), by_student, unsafe=unsafe)
    graded, nobodys = grade_submissions(material, keys, folder, out, settings, jobs, dask, progress)
    unseen = [key for key in keys if all(key in one.missing for one in graded)]
    left_out = [] if all_lessons or len(unseen) == len(keys) else unseen
    for one in graded:
        one.drop_lessons(left_out)
    exercises = [exercise for key in keys if key not in left_out for exercise in read_exercises(material, key)]
    facts = {"sandbox": "none" if unsafe else "bubblewrap", "seed": settings.seed, "variant_by_student": by_student}
    summary = summarize(graded, exercises, nobodys, **facts, left_out=left_out)
    write_gradebook(out, graded, exercises, summary, unsafe)
    return summary


def write_gradebook(
    out: Path, graded: list[Graded], exercises: list[Exercise], summary: dict[str, Any], unsafe: bool = False
) -> None:
    """Write everything into `out`. CourseError if something cannot be written."""
    warning = UNSAFE if unsafe else ""
    make_folder(out / "feedback")
    write_atomically(out / "grades.csv", write_csv(("student", "exercise", "points", "of"), list_grades(graded)))
    write_atomically(out / "totals.csv", write_csv(("student", "points", "of", "remarks"), list_totals(graded)))
    for one in graded:
        name = name_file(one.student)
        write_atomically(out / "feedback" / f"{name}.txt", write_feedback(one, exercises, warning))
        make_folder(out / "gradescope" / name)
        results = json.dumps(make_gradescope(one, warning), indent=2, ensure_ascii=False)
        write_atomically(out / "gradescope" / name / "results.json", results + "\n")
    write_atomically(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_atomically(out / "summary.txt", describe_summary(summary))


def list_results(one: Graded) -> list[ExerciseResult]:
    return [result for report in one.reports.values() for result in report.exercises]


def list_grades(graded: Iterable[Graded]) -> list[tuple]:
    """A row for each student and exercise."""
    return [(one.student, result.name, result.points, result.of) for one in graded for result in list_results(one)]


def list_totals(graded: Iterable[Graded]) -> list[tuple]:
    """A row for each student, with all that was remarked on what they handed in."""
    return [(one.student, one.points, one.of, "; ".join([*one.remarks, *one.list_problems()])) for one in graded]


def write_csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """The table as CSV. A cell that a spreadsheet would take for a formula gets an apostrophe in front.

    >>> print(write_csv(("student", "points"), [("=cmd()", 1.5), ("Doe, Jo", 2)]), end="")
    student,points
    '=cmd(),1.5
    "Doe, Jo",2
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(map(disarm, row))
    return file.getvalue()


def disarm(cell: Any) -> Any:
    """A cell on one line, and no formula; numbers stay as they are."""
    text = " ".join(cell.split()) if isinstance(cell, str) else ""
    return f"'{text}" if text.startswith(FORMULA) else text or cell


def write_feedback(one: Graded, exercises: Iterable[Exercise], warning: str = "") -> str:
    """What `minilab grade` would have shown this student, under their name, points and what was remarked."""
    explained = list(exercises)
    with screen.console.capture() as shown:
        screen.say(f"{one.student}: {one.points:g} of {one.of} points")
        for remark in (*filter(None, (warning,)), *one.remarks):
            screen.say(f"  {remark}")
        for report in one.reports.values():
            screen.say("")
            screen.show_report(report, explained)
    return Text.from_ansi(shown.get()).plain.rstrip() + "\n"


def make_gradescope(one: Graded, warning: str = "") -> dict[str, Any]:
    """The results as Gradescope's autograder format has them: a test for each exercise, and its number."""
    tests = []
    for report in one.reports.values():
        for result in report.exercises:
            with screen.console.capture() as shown:
                screen.show_result(result)
            lines = Text.from_ansi(report.problem or shown.get()).plain.rstrip()
            test = {"number": result.number, "name": result.name, "score": result.points, "max_score": result.of}
            tests.append({**test, "status": "passed" if result.solved else "failed", "output": lines})
    return {"score": one.points, "output": "\n".join(filter(None, (warning, *one.remarks))), "tests": tests}
