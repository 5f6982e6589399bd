"""Write a lecturer's files on a batch: grades, feedback, Gradescope's results, a summary."""

import csv
import inspect
import io
import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rich.text import Text

from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.grading.mutants import load_mutants, locate_mutants
from mini_transformer.course.grading.showing import show_report, show_result
from mini_transformer.course.lecturer.alike import (
    Form,
    describe_alike,
    find_alike,
    find_shipped,
    read_form,
)
from mini_transformer.course.lecturer.batch import Graded, Settings, grade_submissions
from mini_transformer.course.lecturer.resume import find_settings, make_folder, name_file
from mini_transformer.course.lecturer.roster import Roster, load_roster
from mini_transformer.course.lecturer.submissions import FUNCTION
from mini_transformer.course.lecturer.summary import describe_summary, sort_looks, summarize
from mini_transformer.course.material import CourseError, Material, write_file
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
    by_student: bool | None = None,
    unsafe: bool = False,
    jobs: int | None = None,
    dask: str | None = None,
    progress: bool = False,
    all_lessons: bool = False,
    roster: Path | None = None,
    bom: bool = False,
    column: str | None = None,
) -> dict[str, Any]:
    """Grade every submission in `folder`, write the gradebook into `out`, return the summary.

    Only the lessons `keys` are graded. Lessons that nobody handed in are left out, unless
    `all_lessons`. With a `roster`, tables say who handed in nothing and who is unknown, and
    upload.csv gives it back with points, in the column that begins as `column` if one is asked for.
    With `bom`, tables begin with a byte order mark, by which Excel knows UTF-8. Raise
    CourseError as `grade_submissions` does.
    """
    people = load_roster(roster) if roster else None
    sandbox = "none" if unsafe else "bubblewrap"
    settings = Settings(*find_settings(out, seed, by_student), sandbox=sandbox)
    if people:
        people.find_column("", column)  # a slip is said before a class is graded
    elif column is not None:
        raise CourseError("--column names one of the roster: give --roster CSV, too")
    graded, nobodys = grade_submissions(
        material, keys, folder, out, settings, jobs, dask, progress, people
    )

    unseen = [key for key in keys if all(key in one.missing + one.excused for one in graded)]
    left_out = [] if all_lessons or len(unseen) == len(keys) else unseen
    for one in graded:
        one.drop_lessons(left_out)

    chosen = [key for key in keys if key not in left_out]
    exercises = [exercise for key in chosen for exercise in read_exercises(material, key)]
    shipped = list_shipped(graded, material, chosen)
    summary = summarize(
        graded,
        exercises,
        nobodys,
        sandbox=sandbox,
        title=", ".join(key[:2] for key in chosen),
        variant_by_student=settings.by_student,
        left_out=left_out,
        alike=find_all_alike(graded, chosen, shipped),
        shipped=shipped,
    )
    if people:
        summary |= match_roster(people, graded, summary, column)
    write_gradebook(out, graded, exercises, summary, unsafe, people, bom, column)
    return summary


def find_all_alike(
    graded: Iterable[Graded], keys: Iterable[str], shipped: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """List groups of submissions that are alike, by lesson.

    Functions that the course ships are left out: they are alike by themselves.
    """
    known = {(row["student"], row["lesson"]): row["functions"] for row in shipped}
    every = list(graded)
    found = []
    for key in keys:
        forms = {
            one.student: tuple(
                chain.from_iterable(
                    form
                    for name, form in one.forms[key].items()
                    if name not in known.get((one.student, key), ())
                )
            )
            for one in every
            if key in one.forms
        }
        found += describe_alike(find_alike(key, forms))
    return found


def list_shipped(
    graded: Iterable[Graded], material: Material, keys: Iterable[str]
) -> list[dict[str, Any]]:
    """List the functions that are what the course ships, solutions and known wrong answers."""
    rows = []
    for key in keys:
        known = read_shipped(material, key)
        for one in graded:
            if same := find_shipped(one.forms.get(key, {}), known):
                rows.append({"student": one.student, "lesson": key, "functions": same})
    return rows


def read_shipped(material: Material, key: str) -> dict[str, set[Form]]:
    """Read the solutions and wrong answers to a lesson's exercises as tokens."""
    solution = dict(FUNCTION.findall((material.solutions / f"ex{key}.py").read_text()))
    known = {e.name: {read_form(solution[e.name])} for e in read_exercises(material, key)}
    grader = material.graders / f"test_ex{key}.py"
    mutants = load_mutants(grader) if locate_mutants(grader).exists() else []
    for wrong in mutants:
        if inspect.isfunction(wrong.answer) and wrong.exercise in known:
            found = FUNCTION.search(inspect.getsource(wrong.answer))
            known[wrong.exercise] |= {read_form(found[2])} if found else set()
    return known


def match_roster(
    people: Roster, graded: Iterable[Graded], summary: dict[str, Any], column: str | None = None
) -> dict[str, Any]:
    """Return what a roster adds to the summary.

    These are who handed in nothing, who is not in it, whose name is not unique, whom several
    submissions may be of (to be looked at), and the column of upload.csv.
    """
    points = {one.student: one.points for one in graded}
    matched = people.match(points)
    doubts = [
        {
            "points_at_stake": max(points[student] for student in students),
            "student": name,
            "lesson": "",
            "why": why,
        }
        for name, why, students in matched.shared
    ]
    place, name = people.find_column(f"mini-transformer {summary['title']}", column)
    return {
        "handed_in_nothing": [one.name for one in matched.nothing],
        "unknown": matched.unknown,
        "several": matched.several,
        "looks": sort_looks([*summary["looks"], *doubts]),
        "upload": {"column": name, "is_new": place == len(people.header)},
    }


def write_gradebook(
    out: Path,
    graded: list[Graded],
    exercises: list[Exercise],
    summary: dict[str, Any],
    unsafe: bool = False,
    people: Roster | None = None,
    bom: bool = False,
    column: str | None = None,
) -> None:
    """Write all files of the gradebook into `out`. Raise CourseError if one cannot be written."""
    warning = UNSAFE if unsafe else ""
    make_folder(out / "feedback")
    grades = write_csv(("student", "exercise", "points", "of"), list_grades(graded, exercises))
    mark = "\ufeff" if bom else ""
    write_file(out / "grades.csv", mark + grades)
    totals = write_csv(TOTALS, list_totals(graded, people))
    write_file(out / "totals.csv", mark + totals)
    if people:
        matched = people.match(one.student for one in graded)
        points = dict.fromkeys(matched.claimed)
        points |= {
            matched.whose[one.student].line: one.mark
            for one in graded
            if one.student in matched.whose
        }
        upload = people.fill_in(points, f"mini-transformer {summary['title']}", column)
        write_file(out / "upload.csv", mark + upload)

    names = {name_file(one.student): one for one in graded}
    for name, one in names.items():
        write_file(out / "feedback" / f"{name}.txt", write_feedback(one, exercises, warning))
        make_folder(out / "gradescope" / name)
        results = json.dumps(make_gradescope(one, warning), indent=2, ensure_ascii=False)
        write_file(out / "gradescope" / name / "results.json", results + "\n")
    for stale in (*out.glob("feedback/*.txt"), *out.glob("gradescope/*/results.json")):
        if stale.stem not in names and stale.parent.name not in names:  # of who is gone
            stale.unlink(missing_ok=True)

    write_file(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_file(out / "summary.txt", describe_summary(summary, most=None))


def list_grades(graded: Iterable[Graded], exercises: Iterable[Exercise]) -> list[tuple]:
    """List a row for each student and exercise; points are empty where nothing could be graded."""
    every = list(exercises)
    rows = []
    for one in graded:
        points = {result.name: result.points for result in one.results}
        rows += [(one.student, e.name, points.get(e.name, ""), e.points) for e in every]
    return rows


TOTALS = ("student", "points", "of", "late", "name", "email", "section", "remarks")


def list_totals(graded: Iterable[Graded], people: Roster | None = None) -> list[tuple]:
    """List a row for each student, with all remarks on what they handed in.

    Points are empty where something could not be graded or all is excused. Name, e-mail and section
    are the roster's, whose students without a submission stand at the end.
    """
    every = list(graded)
    matched = people.match(one.student for one in every) if people else None
    rows: list[tuple] = []
    for one in every:
        enrolled = matched.whose.get(one.student) if matched else None
        known = (enrolled.name, enrolled.email, enrolled.section) if enrolled else ("", "", "")
        points = "" if one.mark is None else one.mark
        of = one.of or ""
        remarks = "; ".join([*one.list_failures(), *one.remarks, *one.list_problems()])
        rows.append((one.student, points, of, "late" * one.late, *known, remarks))
    for absent in matched.nothing if matched else ():
        known = (absent.name, absent.email, absent.section)
        rows.append((absent.name, "", "", "", *known, "nothing handed in"))
    return rows


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
    """Put a cell's text on one line, and keep it from being a formula. Numbers stay.

    Where a spreadsheet reads `;` as the end of a cell, no formula begins after it either.
    """
    text = " ".join(cell.split()) if isinstance(cell, str) else ""
    text = re.sub(rf"(;\s*)(?=[{''.join(map(re.escape, FORMULA))}])", r"\1'", text)
    return f"'{text}" if text.startswith(FORMULA) else text or cell


def write_feedback(one: Graded, exercises: Iterable[Exercise], warning: str = "") -> str:
    """Write what `minilab grade` would show this student.

    Above it stand the student's name, their points, and all remarks on what they handed in.
    """
    explained = list(exercises)
    with console.capture() as shown:
        is_excused = one.mark is None and not one.failed
        reached = "excused" if is_excused else f"{one.points:g} of {one.of} points"
        say(f"{one.student}: {reached}")
        for remark in (*filter(None, (warning,)), *one.list_failures(), *one.remarks):
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

    remarks = "\n".join(filter(None, (warning, *one.list_failures(), *one.remarks)))
    # without a score, Gradescope shows a failure
    score = {} if one.mark is None else {"score": one.mark}
    return {**score, "output": remarks, "tests": tests}
