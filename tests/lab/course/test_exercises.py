import pytest
from sample_course import FACTS, SOLUTION, write_course

from mini_transformer.course.exercises import (
    count_answer_lines,
    make_stub,
    read_course,
    read_exercises,
    read_stub,
    write_stubs,
)
from mini_transformer.course.material import CourseError

STUB = '''"""Exercises of lesson 01."""

import torch


# Exercise 1.1 · about 1 line · difficulty 1/5 · importance 5/5 · 2 minutes · 3 points
def double(x):
    """Return twice x.

    The rest of the task.
    """
    raise NotImplementedError("double: not written yet")


# Exercise 1.2 · about 2 lines · difficulty 2/5 · importance 3/5 · 5 minutes · 2 points
def add_halves(x, y):
    """Return half of x plus half of y."""
    raise NotImplementedError("add_halves: not written yet")
'''


def test_an_exercise_is_what_the_toml_and_the_solution_say(tmp_path):
    first, second = read_exercises(write_course(tmp_path), "01_samples")
    assert (first.number, first.name, first.task, first.parameters) == (
        "1.1",
        "double",
        "Return twice x.",
        "x",
    )
    assert (second.parameters, second.points, second.hints[1]) == ("x, y", 2, "Halve the sum.")


def test_a_stub_is_the_solution_without_its_answers(tmp_path):
    assert read_stub(write_course(tmp_path), "01_samples") == STUB


def test_a_promise_stands_above_decorators(tmp_path):
    source = "import functools\n\n\n@functools.cache\n" + SOLUTION[SOLUTION.index("def double") :]
    (double, _) = read_exercises(write_course(tmp_path), "01_samples")
    stub = make_stub(source, [double])
    assert stub.splitlines()[3].startswith("# Exercise 1.1")
    assert stub.splitlines()[4] == "@functools.cache"


def test_only_code_counts_as_answer_lines():
    assert [count_answer_lines(SOLUTION, name) for name in ("double", "add_halves")] == [1, 2]


def test_writing_stubs_twice_changes_nothing(tmp_path):
    material = write_course(tmp_path)
    (path,) = write_stubs(material)
    first = path.read_text()
    write_stubs(material)
    assert path.read_text() == first == STUB


def test_points_of_the_course_are_those_in_the_toml(tmp_path):
    assert [exercise.points for exercise in read_course(write_course(tmp_path))] == [3, 2]


def with_answer(body: str) -> str:
    return f'def double(x):\n    """Task."""\n{body}\n'


ONE = FACTS.split('[[exercise]]\nname = "add')[0]
SWAPPED = FACTS.replace('"double"', '"x"').replace('"add_halves"', '"double"')
UNMARKED = with_answer("    return 1")
OPEN = with_answer("    # ANSWER\n    return 1")
PARTLY = with_answer("    y = x\n    # ANSWER\n    return y\n    # END ANSWER")
TRIPLE = SOLUTION.replace("def double", "def triple")
UNFIT = [
    (UNMARKED, ONE, "double has statements outside # ANSWER"),
    (OPEN, ONE, "enclose the whole body"),
    (PARTLY, ONE, "enclose the whole body"),
    (TRIPLE, FACTS, r"lists \['double', 'add_halves'\], but the solution defines"),
    (
        SOLUTION,
        SWAPPED.replace('"x"', '"add_halves"'),
        r"lists \['add_halves', 'double'\], but the solution defines \['double', 'add_halves'\]: "
        "same names, same order",
    ),
    (
        SOLUTION,
        FACTS.replace("points = 3", 'points = "3"'),
        "double in ex01_samples.toml has points = '3', expected int",
    ),
    (SOLUTION, FACTS.replace("minutes = 2", "minuets = 2"), "has minutes = None, expected int"),
    (
        SOLUTION,
        FACTS.replace("minutes = 2", "minutes = 2\ncolour = 3"),
        "has a field 'colour', expected only name",
    ),
]


@pytest.mark.parametrize(("solution", "facts", "sentence"), UNFIT, ids=range(len(UNFIT)))
def test_what_does_not_fit_together_is_said(tmp_path, solution, facts, sentence):
    material = write_course(tmp_path)
    (material.solutions / "ex01_samples.py").write_text(solution)
    (material.solutions / "ex01_samples.toml").write_text(facts)
    with pytest.raises(CourseError, match=sentence):
        read_stub(material, "01_samples")


def test_two_exercises_of_one_name_are_refused(tmp_path):
    material = write_course(tmp_path)
    (material.solutions / "ex02_more.py").write_text(SOLUTION)
    (material.solutions / "ex02_more.toml").write_text(FACTS)
    with pytest.raises(CourseError, match="two exercises are called double"):
        read_course(material)
