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


def test_a_change_has_the_sentence_that_differs(tmp_path):
    line = "  ✗ 1.1 double: {} of 3 points\n      ✓ Two.\n      {} Three.\n          {}"
    old = write_run(tmp_path / "old", "1.0", line.format(1, "✗", "You squared x."))
    worse = write_run(tmp_path / "new", "0.5", line.format(0.5, "✗", "You cubed x."))
    (change,) = compare_runs(old, worse)
    assert change == Change("ann", "double", 1.0, 0.5, "You cubed x.")
    solved = write_run(tmp_path / "solved", "3.0", "  ✓ 1.1 double: 3 of 3 points")
    assert compare_runs(old, solved)[0].why == "no longer: You squared x."
    by_hand = "  ✓ 1.1 double: 3 of 3 points\n      set by hand"
    by_hand = write_run(tmp_path / "hand", "3.0", by_hand)
    assert compare_runs(worse, by_hand)[0].why == "set by hand"
    begun = write_run(tmp_path / "begun", "0.0", "  · 1.1 double: not written yet")
    assert compare_runs(begun, solved)[0].why == "no longer: not written yet"
    assert compare_runs(old, old) == []


def test_who_is_excused_or_gone_is_said(tmp_path):
    old = write_run(tmp_path / "old", "1.0", "  ✗ 1.1 double: 1 of 3 points\n  You squared x.")
    new = write_run(tmp_path / "new", "", "")
    told = {"output": "ex01: excused", "tests": []}
    (new / "gradescope" / "ann" / "results.json").write_text(json.dumps(told))
    assert compare_runs(old, new)[0].why == "ex01: excused"
    (new / "grades.csv").write_text("student,exercise,points,of\n")
    (new / "gradescope" / "ann" / "results.json").unlink()
    assert compare_runs(old, new)[0].why == "gone"
    assert compare_runs(new, old)[0].why == "not there before"


def test_who_could_not_be_graded_has_no_points(tmp_path):
    old = write_run(tmp_path / "old", "", "")
    new = write_run(tmp_path / "new", "0.0", "")
    (change,) = compare_runs(old, new)
    assert (change.old, change.new) == (None, 0.0)


def test_what_is_no_run_is_one_sentence(tmp_path):
    run = write_run(tmp_path / "old", "1.0", "")
    with pytest.raises(CourseError, match="give two OUT folders"):
        compare_runs(run, tmp_path / "nowhere")
