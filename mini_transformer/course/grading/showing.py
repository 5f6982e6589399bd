"""Show the report of one file in a terminal. Learners' text is never read as markup."""

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.grading.grade import ExerciseResult, Report
from mini_transformer.terminal import say


def show_report(report: Report, explained: list[Exercise]) -> None:
    """Show every exercise on a line, and under it what went wrong.

    Under a solved exercise that is `explained` stands what to remember.
    """
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


def show_result(result: ExerciseResult) -> None:
    """Show one exercise's points, and each of its checks unless it is solved or unwritten."""
    state = f"{result.points:g} of {result.of} points"
    if result.solved:
        mark, style = "✓", "green"
    elif result.unwritten:
        mark, style = "·", "dim"
        state = "not written yet"
    else:
        mark, style = "✗", "red"
    say(f"  {mark} {result.number} {result.name}: {state}", style)
    if result.remark:
        say(f"      {result.remark}", "yellow")
    if result.unwritten or result.solved:
        return

    # If a mistake has a name, a sentence on a check without one adds nothing.
    named = any(check.mistake for check in result.checks)
    said: set[str] = set()
    for check in result.checks:
        say(f"      {'✓' if check.outcome == 'passed' else '✗'} {check.name}")
        if check.sentence in said:
            say("          as above", "red")
        elif check.sentence and (check.mistake or not named):
            say(f"          {check.sentence}", "red")
            said.add(check.sentence)
