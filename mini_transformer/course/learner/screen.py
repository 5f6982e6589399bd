"""Show the learner's loop in a terminal. Learners' text is never read as markup."""

from pathlib import Path
from typing import Any

from rich.syntax import Syntax
from rich.text import Text

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.learner.progress import Record
from mini_transformer.terminal import console, say


def show_next(exercise: Exercise, record: Record, where: str) -> None:
    """Show one exercise: its task, its size, where to write, and the commands to use."""
    hints = f"{record.hints} of {len(exercise.hints)} hints taken"
    say(f"Exercise {exercise.number} · {exercise.name}", "bold")
    say(exercise.task)
    say(exercise.size, "dim")
    say(f"write in   {where}")
    say(f"check it   minilab grade {exercise.number}")
    say(f"stuck?     minilab hint        ({hints}; they cost no points)")
    say(f"read       minilab lesson {exercise.key[:2]}")


def show_map(
    rows: list[dict[str, Any]], titles: dict[str, str], folder: Path, opened: set[str]
) -> None:
    """Show a line per lesson, and the exercises of some lessons.

    These are the lessons where the learner is at work, and those that are `opened`.
    """
    ahead = next((row["name"] for row in rows if not row["solved"]), None)
    for key, title in titles.items():
        lesson = [row for row in rows if row["lesson"] == key]
        begun = any(row["points"] or row["hints"] for row in lesson)
        at_work = begun and not all(row["solved"] for row in lesson)
        console.print(describe_lesson(key, title, lesson), soft_wrap=True)
        if at_work or key in opened or ahead in [row["name"] for row in lesson]:
            for row in lesson:
                console.print(describe_exercise(row, row["name"] == ahead), soft_wrap=True)

    solved = sum(bool(row["solved"]) for row in rows)
    points = sum(row["points"] for row in rows)
    of = sum(row["of"] for row in rows)
    left = tell_time(sum(row["minutes"] for row in rows if not row["solved"]))
    say(f"{solved} of {len(rows)} exercises, {points:g} of {of} points, {left}, in {folder}")


def describe_lesson(key: str, title: str, rows: list[dict[str, Any]]) -> Text:
    """Describe a lesson on one line.

    `01 The residual stream   ✓✓··   6/14 points   35 minutes to go`
    """
    marks = "".join("✓" if row["solved"] else "·" for row in rows)
    points = f"{sum(row['points'] for row in rows):g}/{sum(row['of'] for row in rows)} points"
    minutes = sum(row["minutes"] for row in rows if not row["solved"])
    left = tell_time(minutes) if minutes else "done"
    line = f"{key[:2]} {title:32}{marks:7}{points:>14}   {left}"
    return Text(line, style="bold" if minutes else "green")


def describe_exercise(row: dict[str, Any], ahead: bool) -> Text:
    """Describe an exercise on one line.

    `   → 1.3 split_head_by_source   0/3   15 minutes, 2 hints`
    """
    if row["solved"]:
        mark, style = "✓", "green"
    elif ahead:
        mark, style = "→", "cyan"
    else:
        mark, style = "·", ""

    notes = [row["solved"] or f"{row['minutes']} minutes"]
    if row["hints"]:
        notes.append(f"{row['hints']} hint{'s' * (row['hints'] != 1)}")
    if row["revealed"]:
        notes.append("solution revealed")

    points = f"{row['points']:g}/{row['of']}"
    line = f"   {mark} {row['exercise']:>5} {row['name']:32}{points:>8}   {', '.join(notes)}"
    return Text(line, style=style)


def tell_time(minutes: int) -> str:
    """Say how many minutes or hours are left.

    >>> tell_time(35), tell_time(150), tell_time(0)
    ('35 minutes to go', 'about 2.5 hours to go', 'nothing to go')
    """
    if minutes < 100:
        return f"{minutes} minutes to go" if minutes else "nothing to go"
    return f"about {round(minutes / 30) / 2:g} hours to go"


def show_answer(exercise: Exercise, answer: str) -> None:
    """Show one right way, and what to remember of it."""
    say(f"Exercise {exercise.number} · {exercise.name}: one right way", "bold")
    code = Syntax(answer, "python", background_color="default").highlight(answer.strip())
    console.print(code, soft_wrap=True)
    say(" ".join(exercise.explanation.split()), "cyan")
