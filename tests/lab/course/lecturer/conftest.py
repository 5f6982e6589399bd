"""The sample course, a judge that answers at once, and a class that was graded."""

import random

import pytest
from sample_batch import KEY, lose, make_report
from sample_course import write_course

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.grading.grade import grade_file
from mini_transformer.course.lecturer.batch import Graded
from mini_transformer.course.lecturer.judge import Judge, Trial, read_folders
from mini_transformer.course.lecturer.submissions import read_submission


@pytest.fixture
def course(tmp_path):
    return write_course(tmp_path / "course")


@pytest.fixture
def exercises(course):
    return read_exercises(course, KEY)


@pytest.fixture
def orders(monkeypatch, tmp_path):
    """Judge in this process, which takes no time to start, and keep the orders."""
    orders = []

    def ask_data(self, order):
        if isinstance(order, Trial):
            return {"tells": True}
        orders.append(order)
        path = tmp_path / f"order-{random.random()}" / f"ex{KEY}.py"
        path.parent.mkdir()
        path.write_text(order.source.replace("os._exit(0)", "1 / 0"))
        return grade_file(read_folders(order), order.key, path, order.base_seed).as_data()

    monkeypatch.setattr(Judge, "ask_data", ask_data)
    monkeypatch.setattr(Judge, "read", lambda self, *given: read_submission(*given))
    return orders


@pytest.fixture
def graded():
    missing = "no ex01_samples.py was handed in; there were notes.pdf"
    return [
        Graded("Ann", {KEY: make_report(3.0)}),
        Graded(
            "Bob",
            {KEY: make_report(1.0, output=("debug \x1b[31m[bold]",))},
            remarks=["ex01.py was taken for it"],
            looks={KEY: ["ex01.py was taken for it"]},
        ),
        Graded("Cid", {KEY: make_report(1.0, 0.0)}),
        Graded("=cmd|' /C calc'!A0", {KEY: lose(missing)}, missing=[KEY], there=["notes.pdf"]),
        Graded("Eve/../x", {KEY: lose("ex01_samples.py line 1 is not Python")}),
    ]
