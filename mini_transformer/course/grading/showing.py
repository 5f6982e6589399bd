"""Show the report of one file in a terminal, and the inputs on which a check failed.

Learners' text is never read as markup.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.grading.grade import ExerciseResult, Report
from mini_transformer.course.grading.values import NamedModel, build_model, describe, read_weights
from mini_transformer.model import Config, Transformer
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

    failed, printed = split_output(report)
    for title, lines in (("When the file was run", failed), ("Your code printed", printed)):
        if lines:
            say(f"  {title}:", "dim")
        for line in lines:
            say(f"    {line}", "dim")


def split_output(report: Report) -> tuple[list[str], list[str]]:
    """Split a report's output into statements that failed, which come first, and what was printed.

    >>> split_output(Report("01_topic", output=["ex01_topic.py line 1 fails", "debug"]))
    (['ex01_topic.py line 1 fails'], ['debug'])
    """
    begin = f"ex{report.key}."
    lines = report.output
    n = next((i for i, line in enumerate(lines) if not line.startswith(begin)), len(lines))
    n += bool(n) and bool(lines[n:]) and lines[n].endswith("more statements fail")
    return lines[:n], lines[n:]


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

    # If a mistake has a name, the numbers of a check without one add nothing.
    named = any(check.mistake for check in result.checks)
    said: set[str] = set()
    for check in result.checks:
        partly = f" ({check.earned:.0%} of its points)" if check.earned else ""
        say(f"      {'✓' if check.outcome == 'passed' else '✗'} {check.name}{partly}")
        if check.sentence in said:
            say("          as above", "red")
        elif check.sentence and named and not check.mistake:
            say("          mend what is named first: it may be the reason", "red")
        elif check.sentence:
            say(f"          {check.sentence}", "red")
            said.add(check.sentence)


CELL = """# {number} {name}: the inputs on which this check fails: {check}
import sys

sys.path.insert(0, {folder!r})
from {module} import {name}
from mini_transformer.course.grading.showing import load_inputs

inputs = load_inputs({file!r})
{parameters} = inputs.values()
{name}(**inputs)
"""


def write_cell(exercise: Exercise, check: str, inputs: dict[str, Any], folder: Path) -> str:
    """Save inputs in a file of this folder, and return a notebook cell that loads them again."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{exercise.number}.pt"
    torch.save({name: pack(value) for name, value in inputs.items()}, file)
    return CELL.format(
        number=exercise.number,
        name=exercise.name,
        check=check,
        folder=str(folder.parent / "exercises"),
        module=f"ex{exercise.key}",
        file=str(file),
        parameters=", ".join(inputs) + "," * (len(inputs) == 1),
    )


def load_inputs(file: str | Path) -> dict[str, Any]:
    """Load inputs that `minilab grade 1.3 --show` saved, by the names of the parameters."""
    return {name: unpack(value) for name, value in torch.load(file, weights_only=True).items()}


def pack(value: Any) -> Any:
    """Replace models by their configuration and weights, which a file can hold."""
    model = value.build() if isinstance(value, NamedModel) else value
    if isinstance(model, Transformer):
        return {"config": dataclasses.asdict(model.config), "weights": read_weights(model)}
    return value


def unpack(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"config", "weights"}:
        return build_model(Config(**value["config"]), value["weights"])
    return value


def show_inputs(inputs: dict[str, Any]) -> None:
    """Show each input on a line, tensors below their shape."""
    for name, value in inputs.items():
        say(f"      {name} = {describe(value)}", "bold")
        shown = str(value) if isinstance(value, (Tensor, list, tuple)) else ""
        lines = shown.splitlines()
        for line in lines[:8]:
            say(f"          {line}", "dim")
        if len(lines) > 8:
            say(f"          ... and {len(lines) - 8} more lines", "dim")
