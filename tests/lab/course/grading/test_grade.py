import json

import pytest
from sample_course import GRADER, SOLUTION, write_course

from mini_transformer.course.exercises import Exercise, read_stub
from mini_transformer.course.grading.checks import Wrong, check
from mini_transformer.course.grading.grade import grade_exercise, grade_file
from mini_transformer.course.grading.student import InProcessStudent

KEY = "01_samples"


def grade(tmp_path, source, **options):
    material = write_course(tmp_path / "course")
    path = tmp_path / "ex01_samples.py"
    path.write_text(source if source is not None else read_stub(material, KEY))
    return grade_file(material, KEY, path, **options)


def summarize(report):
    return {r.name: (r.points, [c.outcome for c in r.checks]) for r in report.exercises}


def test_a_right_file_gets_all_points(tmp_path):
    report = grade(tmp_path, SOLUTION)
    assert summarize(report) == {"double": (3, ["passed", "passed"]), "add_halves": (2, ["passed"])}
    assert report.solved


def test_a_stub_gets_none(tmp_path):
    report = grade(tmp_path, None)
    assert summarize(report) == {"double": (0, ["unwritten"] * 2), "add_halves": (0, ["unwritten"])}
    assert not report.solved


def test_points_are_shared_by_weight_and_a_known_mistake_is_named(tmp_path):
    report = grade(tmp_path, "def double(x):\n    return x**2\n")
    first = report.exercises[0]
    assert (first.points, [c.outcome for c in first.checks]) == (1, ["passed", "wrong"])
    assert first.checks[1].mistake == "squares"
    assert first.checks[1].sentence == "You squared x: twice x is x + x."
    assert first.checks[1].name == "A tensor becomes twice as long."


def test_a_crash_in_one_exercise_costs_that_exercise_alone(tmp_path):
    report = grade(tmp_path, SOLUTION.replace("return 2 * x", "return 2 * x.nothing"))
    assert summarize(report) == {"double": (0, ["error"] * 2), "add_halves": (2, ["passed"])}
    assert "line 13" in report.exercises[0].checks[0].sentence


def test_a_failing_answer_that_calls_another_failing_one_says_so(tmp_path):
    calling = SOLUTION.replace("total = x + y", "total = double(x) / 2 + y")
    assert [result.remark for result in grade(tmp_path / "right", calling).exercises] == ["", ""]
    report = grade(tmp_path / "wrong", calling.replace("return 2 * x", "return 3 * x"))
    assert [result.remark for result in report.exercises] == [
        "",
        "it calls double, not right yet: mend that first",
    ]


def test_the_cause_is_found_also_through_a_helper_and_a_function_inside(tmp_path):
    helper = "\n\ndef twice(x):\n    return [double(y) for y in [x]][0]\n"
    calling = (
        SOLUTION.replace("total = x + y", "inner = lambda: twice(x)\n    total = inner() / 2 + y")
        + helper
    )
    report = grade(tmp_path / "wrong", calling.replace("return 2 * x", "return 3 * x"))
    assert [result.remark for result in report.exercises] == [
        "",
        "it calls double, not right yet: mend that first",
    ]


def test_an_endless_loop_is_waited_for_once(tmp_path):
    report = grade(tmp_path, SOLUTION.replace("return 2 * x", "while True: pass"), seconds=0.3)
    assert summarize(report) == {"double": (0, ["error"] * 2), "add_halves": (2, ["passed"])}
    assert report.exercises[0].checks[1].sentence == report.exercises[0].checks[0].sentence


def test_a_file_that_does_not_load_is_worth_nothing_and_says_why(tmp_path):
    report = grade(tmp_path, "def double(x:\n    return 2 * x")
    assert "line 1 is not Python" in report.problem
    assert summarize(report) == {"double": (0, ["error"]), "add_halves": (0, ["error"])}


def test_a_value_that_a_check_cannot_handle_is_not_a_crash(tmp_path):
    material = write_course(tmp_path / "course")
    grader = GRADER.replace(
        'expect(student.call("double", 2), 4)', 'student.call("double", 2).softmax(0)'
    )
    (material.graders / "test_ex01_samples.py").write_text(grader)
    path = tmp_path / "ex01_samples.py"
    path.write_text(SOLUTION)
    first = grade_file(material, KEY, path).exercises[0].checks[0]
    assert first.outcome == "error"
    assert "could not be judged (AttributeError" in first.sentence


def test_a_grader_serves_many_files_until_it_changes(tmp_path):
    material = write_course(tmp_path / "course")
    grader = material.graders / "test_ex01_samples.py"
    log = tmp_path / "loaded"
    log.mkdir()
    note = f"import tempfile\ntempfile.mkdtemp(dir={str(log)!r})\n"
    path = tmp_path / "ex01_samples.py"
    path.write_text(SOLUTION)
    for text in (GRADER, GRADER + "\n# changed\n"):
        grader.write_text(note + text)
        assert grade_file(material, KEY, path).solved
        assert grade_file(material, KEY, path).solved
    assert len(list(log.iterdir())) == 2


def test_a_leftover_raise_costs_no_points_and_is_remarked(tmp_path):
    source = SOLUTION.replace(
        "return 2 * x", 'return 2 * x\n    raise NotImplementedError("double: not written yet")'
    )
    report = grade(tmp_path, source)
    assert report.solved
    assert report.exercises[0].remark == "line 14 still has `raise NotImplementedError`: delete it"


def test_what_the_file_printed_is_in_the_report(tmp_path):
    assert grade(tmp_path, SOLUTION + "\nprint('hello')\n").output == ["hello"]


def test_a_report_is_plain_data(tmp_path):
    data = json.loads(json.dumps(grade(tmp_path, SOLUTION).as_data()))
    assert data["solved"]
    assert data["exercises"][1]["checks"][0]["outcome"] == "passed"


@pytest.mark.parametrize("base_seed", [0, 1, 12345])
def test_every_learners_variant_accepts_the_solution(tmp_path, base_seed):
    assert grade(tmp_path, SOLUTION, base_seed=base_seed).solved


def test_a_half_right_answer_earns_a_part_of_its_check(tmp_path):
    @check("double", weight=3)
    def nearly(student):
        """Nearly."""
        raise Wrong(sentence="One is missing.", earned=0.5)

    @check("double")
    def passes(student):
        """Passes."""

    path = tmp_path / "ex01_samples.py"
    path.write_text(SOLUTION)
    exercise = Exercise(
        "01_samples", "1.1", "double", "Do.", "x", 1, 1, 1, 1, 4, ("Think.",), "So."
    )
    result = grade_exercise(exercise, [nearly, passes], InProcessStudent(path))
    assert (result.points, result.solved) == (2.5, False)
