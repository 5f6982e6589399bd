"""Nothing for nothing: answers that never looked at their question earn no points."""

import pytest
import torch
from test_every_exercise import COURSE, GRADERS, MATERIAL

from mini_transformer import Transformer
from mini_transformer.course.grading import checks
from mini_transformer.course.grading.checks import find_checks
from mini_transformer.course.grading.grade import grade_exercise
from mini_transformer.course.grading.student import InProcessStudent
from mini_transformer.course.material import load_module

SOLUTIONS = {key: load_module(MATERIAL.solutions / f"ex{key}.py") for key in GRADERS}

SLOW = (
    "integrate_heads",
    "train_translator",
    "find_carriers",
    "judge_circuit",
    "find_circuit",
    "excite_neurons",
    "tell_what_sites_hold",
)


def replace_tensors(value, change):
    """The same value with other tensors; None if there are none."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        changed = {key: replace_tensors(item, change) for key, item in value.items()}
        return None if None in map(type_or_none, changed.values()) else changed
    if isinstance(value, (list, tuple)) and value:
        parts = [replace_tensors(item, change) for item in value]
        return None if None in map(type_or_none, parts) else type(value)(parts)
    return None


def type_or_none(value):
    return None if value is None else type(value)


def empty(value):
    if isinstance(value, tuple):
        return tuple(empty(part) for part in value)
    return {} if isinstance(value, dict) else [] if isinstance(value, list) else 0


def list_answers(official):
    """Answers that do no work, by name; some need not fit every exercise."""
    kept = []

    def always_the_first(*args):
        kept.extend([official(*args)] * (not kept))
        return kept[0]

    def run(*args):
        tokens = [arg for arg in args if isinstance(arg, torch.Tensor) and arg.ndim == 2]
        (model,) = [arg for arg in args if isinstance(arg, Transformer)]
        return model(tokens[0])

    answers = {
        "the first right answer, always": always_the_first,
        "zeros": lambda *args: replace_tensors(official(*args), torch.zeros_like),
        "ones": lambda *args: replace_tensors(official(*args), torch.ones_like),
        "random": lambda *args: replace_tensors(official(*args), lambda x: torch.rand(x.shape)),
        "nothing": lambda *args: empty(official(*args)),
        "the plain run": run,
    }
    return answers | {f"argument {i}": lambda *args, i=i: args[i] for i in range(6)}


def list_exercises():
    """All, every second one and those that take 3 to 12 seconds here among the slow tests."""
    for i, one in enumerate(COURSE):
        marks = [pytest.mark.slow] * (one.name in SLOW or i % 2 == 1)
        yield pytest.param(one, marks=marks, id=f"ex{one.key}-{one.name}")


@pytest.mark.parametrize("exercise", list(list_exercises()))
def test_an_answer_without_work_earns_nothing_in_any_check(exercise, monkeypatch):
    monkeypatch.setattr(checks, "recognize", lambda *args, **options: None)  # a name earns nothing
    official = getattr(SOLUTIONS[exercise.key], exercise.name)
    judges = find_checks(vars(GRADERS[exercise.key]))[exercise.name]
    for words, answer in list_answers(official).items():
        student = InProcessStudent(
            MATERIAL.solutions / f"ex{exercise.key}.py",
            overrides={exercise.name: answer},
            parameters={exercise.name: exercise.parameters},
        )
        result = grade_exercise(exercise, judges, student)
        earned = [check.name for check in result.checks if check.outcome == "passed"]
        assert (result.points, earned) == (0.0, []), words
