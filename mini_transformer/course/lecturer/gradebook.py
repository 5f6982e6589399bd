"""Write a lecturer's files on a batch: grades, feedback, Gradescope's results, a summary."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.grading.showing import show_report, show_result
from mini_transformer.course.lecturer.batch import Graded, Settings, grade_submissions
from mini_transformer.course.lecturer.resume import find_seed, make_folder, name_file
from mini_transformer.course.lecturer.summary import describe_summary, summarize
from mini_transformer.course.material import Material, write_file
from mini_transformer.terminal import console, say

# What a spreadsheet's formula begins with; the second four are full-width forms of the first.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
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
    """Grade every submission in `folder`, write the gradebook into `out`, return the summary.

    Only the lessons `keys` are graded. Lessons that nobody handed in are left out, unless
    `all_lessons`. Raise CourseError as `grade_submissions` does.
    """
    settings = Settings(find_seed(out, seed), by_student, unsafe=unsafe)
    graded, nobodys = grade_submissions(material, keys, folder, out, settings, jobs, dask, progress)

    unseen = [key for key in keys if all(key in one.missing for one in graded)]
    left_out = [] if all_lessons or len(unseen) == len(keys) else unseen
    for one in graded:
        one.drop_lessons(left_out)

    chosen = [key for key in keys if key not in left_out]
    exercises = [exercise for key in chosen for exercise in read_exercises(material, key)]
    summary = summarize(
        graded,
        exercises,
        nobodys,
        sandbox="none" if unsafe else "bubblewrap",
        seed=settings.seed,
        variant_by_student=by_student,
        left_out=left_out,
    )
    write_gradebook(out, graded, exercises, summary, unsafe)
    return summary


def write_gradebook(
    out: Path,
    graded: list[Graded],
    exercises: list[Exercise],
    summary: dict[str, Any],
    unsafe: bool = False,
) -> None:
    """Write all files of the gradebook into `out`. Raise CourseError if one cannot be written."""
    warning = UNSAFE if unsafe else ""
    make_folder(out / "feedback")
    grades = write_csv(("student", "exercise", "points", "of"), list_grades(graded))
    write_file(out / "grades.csv", grades)
    totals = write_csv(("student", "points", "of", "remarks"), list_totals(graded))
    write_file(out / "totals.csv", totals)

    for one in graded:
        name = name_file(one.student)
        write_file(out / "feedback" / f"{name}.txt", write_feedback(one, exercises, warning))
        make_folder(out / "gradescope" / name)
        results = json.dumps(make_gradescope(one, warning), indent=2, ensure_ascii=False)
        write_file(out / "gradescope" / name / "results.json", results + "\n")

    write_file(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_file(out / "summary.txt", describe_summary(summary))


def list_grades(graded: Iterable[Graded]) -> list[tuple]:
    """List a row for each student and exercise."""
    return [
        (one.student, result.name, result.points, result.of)
        for one in graded
        for result in one.results
    ]


def list_totals(graded: Iterable[Graded]) -> list[tuple]:
    """List a row for each student, with all remarks on what they handed in."""
    return [
        (one.student, one.points, one.of, "; ".join([*one.remarks, *one.list_problems()]))
        for one in graded
    ]


def write_csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Write a table as CSV.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front.

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
    """Put a cell's text on one line, and keep it from being a formula. Numbers stay."""
    text = " ".join(cell.split()) if isinstance(cell, str) else ""
    return f"'{text}" if text.startswith(FORMULA) else text or cell


def write_feedback(one: Graded, exercises: Iterable[Exercise], warning: str = "") -> str:
    """Write what `minilab grade` would show this student.

    Above it stand the student's name, their points, and all remarks on what they handed in.
    """
    explained = list(exercises)
    with console.capture() as shown:
        say(f"{one.student}: {one.points:g} of {one.of} points")
        for remark in (*filter(None, (warning,)), *one.remarks):
            say(f"  {remark}")
        for report in one.reports.values():
            say("")
            show_report(report, explained)
    return Text.from_ansi(shown.get()).plain.rstrip() + "\n"


def make_gradescope(one: Graded, warning: str = "") -> dict[str, Any]:
    """Make the results in Gradescope's autograder format, with one test for each exercise."""
    tests = []
    for report in one.reports.values():
        for result in report.exercises:
            with console.capture() as shown:
                show_result(result)
            output = Text.from_ansi(report.problem or shown.get()).plain.rstrip()
            test = {
                "number": result.number,
                "name": result.name,
                "score": result.points,
                "max_score": result.of,
                "status": "passed" if result.solved else "failed",
                "output": output,
            }
            tests.append(test)

    remarks = "\n".join(filter(None, (warning, *one.remarks)))
    return {"score": one.points, "output": remarks, "tests": tests}
