"""Two runs are compared by student, exercise and reason."""

import json

import pytest

from mini_transformer.course.lecturer.comparing_runs import Change, compare_runs
from mini_transformer.course.material import CourseError


def write_run(out, points, told):
    folder = out / "gradescope" / "ann"
    folder.mkdir(parents=True)
    (out / "grades.csv").write_text(f"student,exercise,points,of\nann,double,{points},3\n")
    tests = [{"name": "double", "output": told}]
    (folder / "results.json").write_text(json.dumps({"output": "", "tests": tests}))
    return out


def test_a_change_has_the_first_line_that_is_new(tmp_path):
    old = write_run(tmp_path / "old", "1.0", "1 of 3 points\nYou squared x.")
    new = write_run(tmp_path / "new", "3.0", "3 of 3 points\nYou squared x.")
    assert compare_runs(old, new) == [Change("ann", "double", 1.0, 3.0, "3 of 3 points")]
    assert compare_runs(old, old) == []


def test_who_could_not_be_graded_has_no_points(tmp_path):
    old = write_run(tmp_path / "old", "", "")
    new = write_run(tmp_path / "new", "0.0", "")
    (change,) = compare_runs(old, new)
    assert (change.old, change.new) == (None, 0.0)


def test_what_is_no_run_is_one_sentence(tmp_path):
    run = write_run(tmp_path / "old", "1.0", "")
    with pytest.raises(CourseError, match="give two OUT folders"):
        compare_runs(run, tmp_path / "nowhere")
