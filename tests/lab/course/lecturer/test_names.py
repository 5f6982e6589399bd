"""What a name says of a student, a lesson and an attempt."""

from pathlib import Path

import pytest

from mini_transformer.course.lecturer.names import (
    look_alike,
    read_name,
    say_harmless,
    spell,
    split_copy,
)

KEYS = ["01_samples", "02_hooks"]


@pytest.mark.parametrize(
    ("name", "student", "file"),
    [
        ("jane_ex01_samples.py", "jane", "ex01_samples.py"),
        ("ex01_samples_jane (2).py", "jane", "ex01_samples (2).py"),
        ("Copy of ex02_hooks.ipynb", "", "ex02_hooks.ipynb"),
        ("jane-ex01.py.txt", "jane", "ex01.py.txt"),
        ("jane.zip", "jane", "jane.zip"),
        ("notes.pdf", None, "notes.pdf"),
        (NOTE := "Lab 1_jdoe_attempt_2026-11-28-12-34-56.txt", "jdoe", NOTE),
    ],
)
def test_a_flat_name_is_split_into_student_and_file(name, student, file):
    named = read_name(Path(name), KEYS)
    assert (named.student, named.file) == (student, file)


def test_a_file_that_names_no_lesson_says_so():
    assert read_name(Path("helpers.py"), KEYS).unlabelled
    assert not read_name(Path("ex01_samples.py"), KEYS).unlabelled


def test_attempts_are_sorted_by_time_and_not_by_letters():
    dates = ("Dec 1, 2024 105 AM", "Nov 30, 2024 1155 PM", "Nov 30, 2024 905 AM")
    names = [f"1-2 - Jane Doe - {date} - ex01_samples.py" for date in dates]
    ordered = sorted(names, key=lambda name: read_name(Path(name), KEYS).order)
    assert ordered == names[::-1]
    uploads = [read_name(Path(f"doe_1_{n}_ex01_samples.py"), KEYS).order for n in (99, 100, 1000)]
    assert uploads == sorted(uploads)


def test_names_stay_what_they_are_but_for_what_breaks_a_line():
    for name in ("\u0639\u0644\u06cc\u200c\u0631", "\u5c71\u3000\u592a", "zo\u00eb"):
        assert say_harmless(name) == spell(name) == name
    assert say_harmless("a\nb\x1b[2J\u202e") == "a b?[2J?"
    assert look_alike("e\u0308") == look_alike("\u00eb")
    assert split_copy("ex01 copy") == ("ex01", 0)
