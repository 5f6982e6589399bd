"""The report of one file in a terminal."""

from mini_transformer.course.grading.grade import CheckResult, ExerciseResult, Report
from mini_transformer.course.grading.showing import show_report

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
    said = show(capsys, NAMED, NAMED)
    assert said.count("You forgot the mask.") == said.count("as above") == 1


def test_a_check_that_earns_a_part_says_which(capsys):
    half = CheckResult("Rows sum to one.", "wrong", "A hook stays.", earned=0.5)
    assert "✗ Rows sum to one. (50% of its points)\n" in show(capsys, half)
    assert "of its points" not in show(capsys, PASSED, VAGUE)


def test_a_file_that_was_not_begun_is_one_line(capsys):
    assert show(capsys, CheckResult("Any.", "unwritten", "double: not written yet")) == (
        "ex01_samples.py\n  · not written yet: double\n"
    )


def test_long_lines_are_not_broken(capsys):
    path = "a" * 300
    show_report(Report("01_samples", problem=path), [])
    assert path in capsys.readouterr().out
