"""The course's files are found, also in a clone, and a lesson by every way to write it."""

import dataclasses

import pytest

from mini_transformer.course.material import find_key, find_material


@pytest.mark.parametrize(
    "given",
    [
        "1",
        "01",
        "ex01",
        "01_samples",
        "ex01_samples",
        "ex01_samples.py",
        "exercises/ex01_samples.py",
    ],
)
def test_a_lesson_is_found_by_every_way_to_write_it(given):
    assert find_key(given, ["01_samples", "10_more"]) == "01_samples"


def test_the_shipped_course_is_found_in_the_clone():
    material = find_material()
    assert all(folder.is_dir() for folder in dataclasses.astuple(material) if folder)
    first, *others = material.list_lessons()
    assert first.startswith("00_")  # to be read: no exercises
    assert material.list_keys() == others
