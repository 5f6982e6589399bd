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
    assert (found.name if found else None) == name


def test_namesakes_are_told_apart_by_number_only():
    twice = CANVAS.replace("Doe, Jim", "Doe, Jane")
    roster = read_roster(twice)
    assert roster.find("doejane_124").line == 2
    assert roster.find("Jane Doe") is None


def test_moodle_gets_its_grade_column_filled_and_canvas_one_of_its_own():
    moodle = read_roster(MOODLE)
    rows = list(csv.DictReader(io.StringIO(moodle.fill_in({0: 7.5}, "x"))))
    assert [row["Grade"] for row in rows] == ["7.5", ""]
    assert list(rows[0]) == next(csv.reader(io.StringIO(MOODLE)))
    canvas = read_roster(CANVAS)
    rows = list(csv.DictReader(io.StringIO(canvas.fill_in({1: 8, 3: 0}, "lab 01"))))
    assert [row["lab 01"] for row in rows] == ["", "8", "", "0", ""]
    assert list(rows[0])[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]


def test_the_line_of_possible_points_is_nobody():
    assert "Points Possible" not in [one.name for one in read_roster(CANVAS).enrolled]


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
