from pathlib import Path

from mini_transformer.course.report import CheckResult, ExerciseResult, Report
from mini_transformer.course.screen import show_report, show_status

PASSED = CheckResult("It has the right shape.", "passed")
VAGUE = CheckResult("Rows sum to one.", "wrong", "The result differs at [0, 1].")
NAMED = CheckResult("No row looks ahead.", "wrong", "You forgot the mask.", "forgets_mask")


def show(capsys, *checks: CheckResult) -> str:
    show_report(Report("01_samples", [ExerciseResult("1.1", "double", 0.0, 3, checks)]), [])
    return capsys.readouterr().out


def test_a_mistake_that_was_recognised_speaks_for_the_others(capsys):
    said = show(capsys, PASSED, VAGUE, NAMED)
    assert "You forgot the mask." in said
    assert "differs at" not in said
    assert said.count("✗") == 3  # the exercise and its two checks


def test_otherwise_the_difference_is_shown_and_brackets_are_not_markup(capsys):
    assert "The result differs at [0, 1]." in show(capsys, PASSED, VAGUE)


def test_the_same_sentence_is_said_once(capsys):
    assert show(capsys, NAMED, NAMED).count("You forgot the mask.") == 1


def test_a_file_that_was_not_begun_is_one_line(capsys):
    assert show(capsys, CheckResult("Any.", "unwritten", "double: not written yet")) == (
        "ex01_samples.py\n  · not written yet: double\n"
    )


def test_long_lines_are_not_broken(capsys):
    path = "a" * 300
    show_report(Report("01_samples", problem=path), [])
    assert path in capsys.readouterr().out


def test_status_adds_up(capsys):
    row = {"exercise": "1.1", "name": "double", "points": 1.5, "of": 3, "hints": 2, "solved": ""}
    show_status([row, row | {"points": 3.0, "solved": "2026-01-01"}], Path("here"))
    assert "1 of 2 exercises, 4.5 of 6 points, in here" in capsys.readouterr().out
