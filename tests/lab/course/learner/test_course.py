"""What a learner does in a workspace: find an exercise, take hints, be graded."""

import json

import pytest
import torch
from sample_course import write_course

from mini_transformer.course.exercises import read_course
from mini_transformer.course.grading.showing import load_inputs, write_cell
from mini_transformer.course.grading.values import NamedModel
from mini_transformer.course.learner.course import Course
from mini_transformer.course.learner.progress import read_progress
from mini_transformer.course.learner.workspace import make_workspace
from mini_transformer.course.material import CourseError


@pytest.fixture
def material(tmp_path):
    return write_course(tmp_path / "course")


@pytest.fixture
def course(tmp_path, material):
    make_workspace(tmp_path / "mine", material)
    return Course(material, read_course(material), read_progress(tmp_path / "mine"))


def test_exercises_are_found_by_lesson_number_and_name(course):
    names = {
        what: [e.name for e in course.find_exercises(what)]
        for what in ("1", "01_samples", "1.2", "double")
    }
    both = ["double", "add_halves"]
    assert names == {"1": both, "01_samples": both, "1.2": ["add_halves"], "double": ["double"]}


def test_hints_come_one_by_one_and_the_last_one_stays(course):
    first = course.exercises[0]
    hints = [(1, "Think of sums."), (2, "x + x."), (3, "return x + x")]
    assert [course.take_hint(first) for _ in range(4)] == [[hint] for hint in (*hints, hints[-1])]
    assert read_progress(course.folder).of(first).hints == 3


def test_hints_to_what_is_solved_are_all_shown_and_not_counted(course):
    first = course.exercises[0]
    course.progress.note(first, float(first.points))
    assert [number for number, _ in course.take_hint(first)] == [1, 2, 3]
    assert course.progress.of(first).hints == 0


def test_grading_remembers_what_was_solved_and_the_next_exercise_follows(course):
    path = course.file_of("01_samples")
    path.write_text(
        path.read_text().replace(
            'raise NotImplementedError("double: not written yet")', "return x + x"
        )
    )
    reports, newly = course.grade(course.exercises)
    assert [result.points for result in reports[0].exercises] == [3, 0]
    assert [exercise.name for exercise in newly] == ["double"]
    assert course.grade(course.exercises)[1] == []  # no longer news
    assert course.find_next().name == "add_halves"
    assert [row["points"] for row in course.list_status()] == [3, 0]
    assert read_progress(course.folder).records["double"].points == 3


def test_only_the_exercises_asked_for_are_in_the_report(course):
    reports, _ = course.grade(course.find_exercises("add_halves"))
    assert [result.name for report in reports for result in report.exercises] == ["add_halves"]


def test_a_notebook_that_was_deleted_can_be_had_again(course):
    assert course.find_notebook("1").name == "01_samples.ipynb"
    course.find_notebook("1").unlink()
    with pytest.raises(CourseError, match=r"`minilab init .*` adds what is missing"):
        course.find_notebook("1")


def test_the_inputs_of_the_first_failing_check_can_be_looked_at(course, capsys):
    path = course.file_of("01_samples")
    answers = "def double(x):\n    return x**2\n\n\ndef add_halves(x, y):\n    return (x + y) / 2\n"
    path.write_text(answers)
    double, add_halves = course.exercises
    notebook = course.show_failure(double)
    said = capsys.readouterr().out
    assert "You squared x" in said
    assert "x = tensor(3,)" in said
    (cell,) = json.loads(notebook.read_text())["cells"]
    names = {}
    exec("".join(cell["source"]).replace("\ndouble(", "\nanswer = double("), names)
    assert torch.equal(names["answer"], names["x"] ** 2)
    assert course.show_failure(add_halves) is None


def test_models_among_the_inputs_are_saved_and_loaded_again(tmp_path, course):
    named = NamedModel("random", seed=2, d_vocab=5, n_ctx=4, d_model=6, n_layers=1)
    write_cell(course.exercises[0], "A check.", {"model": named, "share": 0.5}, tmp_path)
    loaded = load_inputs(tmp_path / "1.1.pt")
    assert loaded["share"] == 0.5
    tokens = torch.tensor([[1, 2]])
    assert torch.equal(loaded["model"](tokens), named.build()(tokens))
