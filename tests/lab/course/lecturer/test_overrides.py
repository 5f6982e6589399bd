"""Marks by hand survive reruns, and a slip in the file is one sentence."""

import csv
import json

import pytest
from sample_batch import KEY, write_class
from sample_course import SOLUTION

from mini_transformer.course.lecturer.gradebook import grade_folder
from mini_transformer.course.lecturer.overrides import read_overrides
from mini_transformer.course.material import CourseError

WRONG = SOLUTION.replace("2 * x", "x**2")


@pytest.fixture
def run(course, tmp_path, orders):
    """Grade a class of two with these overrides and roster; return the rows of totals.csv."""

    def run(overrides="", out="out", **options):
        write_class(tmp_path / "class", {"ann": SOLUTION, "Bob B": WRONG})
        (tmp_path / "class" / "ann" / "better_ex01.py").write_text(SOLUTION + "# better\n")
        (tmp_path / out).mkdir(exist_ok=True)
        (tmp_path / out / "overrides.toml").write_text(overrides)
        folder = tmp_path / "class"
        grade_folder(course, [KEY], folder, tmp_path / out, seed=1, unsafe=True, jobs=1, **options)
        with (tmp_path / out / "totals.csv").open(encoding="utf-8-sig", newline="") as file:
            return {row["student"]: row for row in csv.DictReader(file)}

    return run


def test_points_remarks_and_excuses_by_hand_are_taken_and_survive(run, tmp_path):
    own = '["Bob B".01]\nremark = "as agreed"\n["Bob B".01.points]\ndouble = 2.5\n'
    for _ in range(2):
        rows = run(own)
        assert (rows["Bob B"]["points"], rows["Bob B"]["of"]) == ("4.5", "5")
        assert "ex01: as agreed" in rows["Bob B"]["remarks"]
        assert rows["ann"]["points"] == "5.0"
    assert "Set by your teacher." in (tmp_path / "out" / "feedback" / "Bob B.txt").read_text()
    excused = run("[ann.01]\nexcused = true\n")["ann"]
    assert (excused["points"], excused["of"]) == ("", "")
    assert excused["remarks"].endswith("ex01: excused")


def test_who_is_excused_has_no_mark_anywhere(run, tmp_path):
    roster = tmp_path / "class.csv"
    roster.write_text('Student,ID,mini-transformer 01\n"A, Ann",5,\n"ann",6,3\n"B, Bob",7,\n')
    own = '[ann.01]\nexcused = true\n["A, Ann".01]\nexcused = true\nremark = "ill"\n'
    rows = run(own, roster=roster)
    assert (rows["A, Ann"]["points"], rows["A, Ann"]["remarks"]) == (
        "",
        "ex01: excused; ex01: ill",
    )
    out = tmp_path / "out"
    uploaded = (out / "upload.csv").read_text().splitlines()
    assert uploaded[1:] == ['"A, Ann",5,', "ann,6,", '"B, Bob",7,3']
    assert (out / "feedback" / "ann.txt").read_text().startswith("ann: excused\n")
    results = json.loads((out / "gradescope" / "ann" / "results.json").read_text())
    assert (results["output"].splitlines()[-1], results["tests"]) == ("ex01: excused", [])
    assert "score" not in results
    summary = json.loads((out / "summary.json").read_text())
    assert summary["excused"] == ["A, Ann", "ann"]
    assert sum(summary["distribution"]) == 1
    assert [row["mean"] for row in summary["exercises"]] == [1, 2]
    assert summary["handed_in_nothing"] == []
    assert "seed" not in summary


def test_what_is_decided_of_a_name_in_the_roster_is_of_its_submission(run, tmp_path):
    roster = tmp_path / "class.csv"
    roster.write_text('Student,ID\n"B, Bob",7\n"Cee, Cid",8\n"Cee, Cid",9\n')
    rows = run('["B, Bob".01]\nremark = "as agreed"\n', roster=roster)
    assert "as agreed" in rows["Bob B"]["remarks"]
    assert rows["Cee, Cid"]["remarks"] == "nothing handed in"
    assert (rows["Cee, Cid"]["points"], rows["Cee, Cid"]["name"]) == ("", "Cee, Cid")
    write_class(tmp_path / "class", {"ceecid_8": SOLUTION})
    with pytest.raises(CourseError, match="nobody is called 'Cee, Cid'"):  # there are two
        run('["Cee, Cid".01]\nexcused = true\n', roster=roster)


def test_full_points_by_hand_are_a_solved_exercise(run, tmp_path):
    run('["Bob B".01.points]\ndouble = 3\n')
    told = (tmp_path / "out" / "feedback" / "Bob B.txt").read_text()
    assert "✓ 1.1 double: 3 of 3 points\n      set by hand\n" in told
    assert "✗" not in told
    solved = json.loads((tmp_path / "out" / "summary.json").read_text())["exercises"][0]["solved"]
    assert solved == 2
    run("[ann.01.points]\ndouble = 1\n")
    told = (tmp_path / "out" / "feedback" / "ann.txt").read_text()
    assert "✗ 1.1 double: 1 of 3 points\n      set by hand\n" in told


def test_two_submissions_of_one_student_are_looked_at_and_have_no_mark(run, tmp_path):
    roster = tmp_path / "class.csv"
    roster.write_text('Student,ID,mini-transformer 01 (9)\n"B, Bob",7,3\n')
    write_class(tmp_path / "class", {"B, Bob": SOLUTION})
    run(roster=roster)
    out = tmp_path / "out"
    assert (out / "upload.csv").read_text().splitlines()[1] == '"B, Bob",7,'
    says = "5  B, Bob: 2 submissions may be theirs: B, Bob, Bob B; no mark counts"
    assert says in (out / "summary.txt").read_text()
    assert "has a new one" not in (out / "summary.txt").read_text()


def test_another_file_can_be_chosen(run, orders):
    run('[ann.01]\nfile = "better_ex01.py"\n')
    assert any(order.source.endswith("# better\n") for order in orders)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[ann.01]\nmark = 3\n", "'mark' is unknown; nearest: 'remark'"),
        ("[ann.01]\nexcused = 1\n", "excused is 1, expected bool"),
        ("[ann.01.points]\ndouble = 9\n", "double has 9 points, expected 0 to 3"),
        ("[ann.01.points]\ndoubel = 1\n", "no exercise 'doubel'; nearest: 'double'"),
        ("[an.01]\nremark = 'x'\n", "nobody is called 'an'; nearest: 'ann'"),
        ("ann = 3\n", "'ann' needs a lesson, such as"),
        ("[ann\n", "cannot be read"),
    ],
)
def test_a_slip_is_one_sentence(run, text, says):
    with pytest.raises(CourseError) as error:
        run(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_costs_its_student_a_remark_only(run, tmp_path):
    with pytest.raises(CourseError, match=r"ann handed in no 'other.py'; nearest: "):
        run('[ann.01]\nfile = "other.py"\n')


def test_no_file_means_no_overrides(tmp_path):
    assert read_overrides(tmp_path / "overrides.toml", {}) == {}


def test_a_roster_says_who_is_missing_and_comes_back_with_points(run, tmp_path):
    roster = tmp_path / "class.csv"
    roster.write_text('Student,ID,Section\n"B, Bob",7,Monday\n"Cee, Cid",8,Monday\n')
    rows = run(roster=roster, bom=True)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["handed_in_nothing"] == ["Cee, Cid"]
    assert summary["unknown"] == ["ann"]
    assert rows["Bob B"]["section"] == "Monday"
    upload = (tmp_path / "out" / "upload.csv").read_text(encoding="utf-8-sig").splitlines()
    assert upload[0] == "Student,ID,Section,mini-transformer 01"
    assert upload[1].startswith('"B, Bob",7,Monday,')
    assert upload[2] == '"Cee, Cid",8,Monday,'
    assert "so upload.csv has a new one" in (tmp_path / "out" / "summary.txt").read_text()
    assert (tmp_path / "out" / "grades.csv").read_bytes().startswith(b"\xef\xbb\xbf")
