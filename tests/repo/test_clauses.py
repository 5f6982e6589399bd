"""Every clause of every task decides something: without it, or misread, the answer is a mutant.

A sentence of a task holds the words that some mutant quotes as its `clause`, or it is one of those
in `GIVEN` (beside the mutants), which say what is given and ask for nothing.
"""

import ast
import re

import pytest
from test_every_exercise import COURSE, MATERIAL, MUTANTS

each_exercise = pytest.mark.parametrize(
    "exercise", COURSE, ids=lambda exercise: f"ex{exercise.key}-{exercise.name}"
)


def read_task(exercise) -> str:
    """Return a task's text up to its examples, on one line."""
    tree = ast.parse((MATERIAL.solutions / f"ex{exercise.key}.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == exercise.name)
    asked = re.split(r">>>|\bUseful:|\bExamples?\b", ast.get_docstring(function))[0]
    return " ".join(asked.split())


def divide(text: str) -> list[str]:
    """Divide a text into sentences."""
    return re.split(r"(?<=[.?!)])\s+(?=[A-Z\"`(])", text.strip())


def list_clauses(exercise) -> list[str]:
    mutants = MUTANTS[exercise.key].MUTANTS
    return [each.clause for each in mutants if each.exercise == exercise.name and each.clause]


@each_exercise
def test_what_mutants_quote_stands_in_the_task(exercise):
    task = read_task(exercise)
    assert [clause for clause in list_clauses(exercise) if clause not in task] == []


@each_exercise
def test_every_sentence_of_a_task_decides_something(exercise):
    given = getattr(MUTANTS[exercise.key], "GIVEN", {}).get(exercise.name, [])
    _, *sentences = divide(read_task(exercise))  # the first sums the task up
    assert [start for start in given if not any(s.startswith(start) for s in sentences)] == []
    silent = [
        sentence
        for sentence in sentences
        if not sentence.startswith(tuple(given))
        and not any(clause in sentence for clause in list_clauses(exercise))
    ]
    assert silent == []
