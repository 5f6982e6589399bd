"""Rosters as platforms export them: who is who, and the file that they import again."""

import csv
import io

import pytest

from mini_transformer.course.lecturer.roster import load_roster, read_roster
from mini_transformer.course.material import CourseError

# Canvas: docs "How do I import grades in the Gradebook": five columns identify, others are grades.
CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,Lab 1 (77)
    Points Possible,,,,,10
"Doe, Jane",123,u1,jdoe@uni.edu,Monday,
"Doe, Jim",124,u2,jimdoe@uni.edu,Tuesday,
"O'Neil, Zoë Ann",125,u3,zoneil@uni.edu,Monday,
"Student, Test",126,,abc123,Monday,
"""
# Moodle: docs "Offline grading worksheet": Identifier, Grade and Feedback are read back.
MOODLE = """Identifier,"Full name","Email address",Status,Grade,"Maximum grade","Feedback comments"
"Participant 123","Jane Doe",jane@uni.edu,"Submitted for grading",,10.00,
"Participant 124","Jim Doe",jim@uni.edu,"No submission",,10.00,
"""
GRADESCOPE = """First Name,Last Name,SID,Email,Sections
Jane,Doe,123,jane@uni.edu,A
Jim,Doe,124,jim@uni.edu,B
"""
SEMICOLONS = "Name;E-Mail;Section\nJane Doe;jane@uni.edu;A\n"


@pytest.mark.parametrize(
    ("text", "submission", "name"),
    [
        (CANVAS, "doejane_123", "Doe, Jane"),
        (CANVAS, "doejim_LATE", None),
        (CANVAS, "oneilzoeann_125", "O'Neil, Zoë Ann"),
        (CANVAS, "zoneil", "O'Neil, Zoë Ann"),
        (CANVAS, "Jane Doe", "Doe, Jane"),
        (CANVAS, "doe", None),
        (MOODLE, "Jane Doe_123", "Jane Doe"),
        (MOODLE, "Somebody Else_999", None),
        (GRADESCOPE, "jane@uni.edu", "Doe, Jane"),
        (GRADESCOPE, "jim", "Doe, Jim"),
        (SEMICOLONS, "Doe, Jane", "Jane Doe"),
    ],
)
def test_a_submission_is_found_by_name_number_or_mail(text, submission, name):
    found = read_roster(text).find(submission)
    assert [one.name for one in found] == [name] * (name is not None)


def test_namesakes_are_told_apart_by_number_only():
    twice = CANVAS.replace("Doe, Jim", "Doe, Jane")
    matched = read_roster(twice).match(["doejane_124", "Jane Doe"])
    assert {student: one.line for student, one in matched.whose.items()} == {"doejane_124": 2}
    assert matched.several == ["Jane Doe"]
    assert matched.unknown == []
    assert [one.name for one in matched.nothing] == ["O'Neil, Zoë Ann"]


def test_a_number_that_contradicts_the_name_is_no_match():
    matched = read_roster(CANVAS).match(["doejane_999", "doejim_123"])
    assert {student: one.name for student, one in matched.whose.items()} == {
        "doejim_123": "Doe, Jane"
    }
    assert matched.unknown == ["doejane_999"]
    assert len(read_roster(SEMICOLONS).find("Jane Doe_9")) == 1  # it has no numbers
    moodles = read_roster(GRADESCOPE).match(["Jane Doe_124", "Jim Doe_7"])  # 124 is Jim's there
    assert (moodles.several, list(moodles.whose)) == (["Jane Doe_124"], ["Jim Doe_7"])


def test_submissions_of_one_student_share_no_mark():
    roster = read_roster(CANVAS)
    matched = roster.match(["Jane Doe", "doejane_123", "zoneil", "O'Neil, Zoë Ann"])
    assert list(matched.whose) == ["doejane_123", "zoneil"]  # they are named by more than a name
    matched = roster.match(["Jane Doe", "Doe, Jane"])
    assert matched.whose == {}
    assert matched.claimed == [1]
    why = "2 submissions may be theirs: Jane Doe, Doe, Jane; no mark counts"
    assert matched.shared == [("Doe, Jane", why, ["Jane Doe", "Doe, Jane"])]
    assert "Doe, Jane" not in [one.name for one in matched.nothing]


def test_the_column_of_the_lesson_is_filled_or_the_one_that_is_asked_for():
    named = CANVAS.replace("Lab 1 (77)", "Mini-Transformer 01 (9001)")
    filled = read_roster(named).fill_in({1: 8, 2: None}, "mini-transformer 01")
    assert filled.splitlines()[0] == named.splitlines()[0]
    assert filled.splitlines()[2].endswith(",Monday,8")
    old = read_roster(CANVAS.replace("Tuesday,", "Tuesday,3"))
    rows = list(csv.DictReader(io.StringIO(old.fill_in({1: 8, 2: None}, "x", "Lab 1"))))
    assert [row["Lab 1 (77)"] for row in rows] == ["10", "8", "", "", ""]
    assert old.find_column("mini-transformer 1") == (6, "mini-transformer 1")
    for asked, says in (("Lab 2", "no columns .* nearest: 'Lab 1"), ("S", "4 columns .* begin")):
        with pytest.raises(CourseError, match=says):
            old.find_column("x", asked)


def test_moodle_gets_its_grade_column_filled_and_canvas_one_of_its_own():
    moodle = read_roster(MOODLE)
    rows = list(csv.DictReader(io.StringIO(moodle.fill_in({0: 7.5}, "x"))))
    assert [row["Grade"] for row in rows] == ["7.5", ""]
    assert list(rows[0]) == next(csv.reader(io.StringIO(MOODLE)))
    canvas = read_roster(CANVAS)
    rows = list(csv.DictReader(io.StringIO(canvas.fill_in({1: 8, 3: 0}, "lab 01"))))
    assert [row["lab 01"] for row in rows] == ["", "8", "", "0", ""]
    assert list(rows[0])[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]


def test_the_line_of_possible_points_and_canvas_preview_are_nobody():
    names = [one.name for one in read_roster(CANVAS).enrolled]
    assert names == ["Doe, Jane", "Doe, Jim", "O'Neil, Zoë Ann"]  # nor is Canvas's test student


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1,2\n", "is no roster: its columns are a, b, expected one called Student"),
        (b"", "is no roster: its columns are nothing"),
        (b"Student\nM\xfcller\n", "cannot be read as CSV in UTF-8"),
    ],
)
def test_what_is_no_roster_is_one_sentence(tmp_path, content, says):
    (tmp_path / "class.csv").write_bytes(content)
    with pytest.raises(CourseError, match=says):
        load_roster(tmp_path / "class.csv")


def test_excels_mark_and_an_empty_line_do_no_harm(tmp_path):
    (tmp_path / "class.csv").write_text("\ufeff" + SEMICOLONS + ";;\n", encoding="utf-8")
    assert [one.name for one in load_roster(tmp_path / "class.csv").enrolled] == ["Jane Doe"]
