"""How the learner's loop looks in a terminal. Learners' text is never read as markup."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.progress import Record

if TYPE_CHECKING:
    from mini_transformer.course.report import ExerciseResult, Report

console = Console(highlight=False)


def say(text: str, style: str = "") -> None:
    """One line, broken only where the terminal ends, so that paths and commands can be copied."""
    console.print(Text(text, style=style), soft_wrap=True)


def show_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)


def show_next(exercise: Exercise, record: Record, where: str) -> None:
    number = exercise.key[:2]
    say(f"Exercise {exercise.number} · {exercise.name}", "bold")
    say(exercise.task)
    say(exercise.size, "dim")
    say(f"write in   {where}")
    say(f"check it   minilab grade {exercise.number}")
    say(f"stuck?     minilab hint        ({record.hints} of {len(exercise.hints)} hints taken; they cost no points)")
    say(f"read       minilab lesson {number}")


def show_report(report: "Report", explained: list[Exercise]) -> None:
    """Every exercise on a line; under it what went wrong, or, if it is to be `explained`, what to remember."""
    say(f"ex{report.key}.py", "bold")
    if report.problem:
        say(f"  {report.problem}", "red")
        return
    if all(result.unwritten for result in report.exercises):
        say(f"  · not written yet: {', '.join(result.name for result in report.exercises)}", "dim")
        return
    explanations = {exercise.name: exercise.explanation for exercise in explained}
    for result in report.exercises:
        show_result(result)
        if result.solved and result.name in explanations:
            say(f"      {' '.join(explanations[result.name].split())}", "cyan")
    if report.output:
        say("  Your code printed:", "dim")
        for line in report.output:
            say(f"    {line}", "dim")


def show_result(result: "ExerciseResult") -> None:
    mark, style = ("✓", "green") if result.solved else ("·", "dim") if result.unwritten else ("✗", "red")
    state = "not written yet" if result.unwritten else f"{result.points:g} of {result.of} points"
    say(f"  {mark} {result.number} {result.name}: {state}", style)
    if result.remark:
        say(f"      {result.remark}", "yellow")
    if result.unwritten or result.solved:
        return
    named = any(check.mistake for check in result.checks)  # then what could not be named adds nothing
    said: set[str] = set()
    for check in result.checks:
        say(f"      {'✓' if check.outcome == 'passed' else '✗'} {check.name}")
        if check.sentence and check.sentence not in said and (check.mistake or not named):
            say(f"          {check.sentence}", "red")
            said.add(check.sentence)


def show_status(rows: list[dict[str, Any]], folder: Path) -> None:
    show_table(
        ("", "exercise", "points", "hints", "solved"),
        [(r["exercise"], r["name"], f"{r['points']:g}/{r['of']}", r["hints"] or "", r["solved"]) for r in rows],
    )
    solved, points, of = (
        sum(bool(r["solved"]) for r in rows),
        sum(r["points"] for r in rows),
        sum(r["of"] for r in rows),
    )
    say(f"{solved} of {len(rows)} exercises, {points:g} of {of} points, in {folder}")
