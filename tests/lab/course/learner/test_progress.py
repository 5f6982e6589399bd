import re
import tomllib

import pytest
from sample_course import write_course

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.learner.progress import (
    FILE,
    Progress,
    Record,
    find_workspace,
    read_progress,
)
from mini_transformer.course.material import CourseError


@pytest.fixture
def exercises(tmp_path):
    return read_exercises(write_course(tmp_path / "course"), "01_samples")


def test_what_was_saved_is_read_again(tmp_path, exercises):
    progress = Progress(tmp_path, base_seed=7)
    progress.note(exercises[0], 3.0)
    progress.of(exercises[1]).hints = 2
    progress.note(exercises[1], 0.67)
    progress.save()
    again = read_progress(tmp_path)
    assert again.base_seed == 7
    assert again.records == progress.records
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", again.of(exercises[0]).solved)
    assert again.of(exercises[1]) == Record(points=0.67, hints=2, solved="")


def test_the_file_is_plain_toml_that_says_what_it_is(tmp_path, exercises):
    progress = Progress(tmp_path)
    progress.note(exercises[0], 1.5)
    progress.save()
    text = (tmp_path / FILE).read_text()
    assert text.startswith("# Your progress")
    assert tomllib.loads(text) == {"base_seed": 0, "exercise": {"double": {"points": 1.5}}}


def test_the_best_points_stay_and_solving_is_news_once(tmp_path, exercises):
    progress = Progress(tmp_path)
    assert [progress.note(exercises[0], points) for points in (1.0, 3.0, 0.0, 3.0)] == [
        False,
        True,
        False,
        False,
    ]
    assert progress.of(exercises[0]).points == 3


def test_a_workspace_is_found_from_any_folder_inside_it(tmp_path):
    Progress(tmp_path).save()
    inside = tmp_path / "exercises" / "deep"
    inside.mkdir(parents=True)
    assert find_workspace(inside) == find_workspace(tmp_path) == tmp_path


def test_outside_a_workspace_the_way_in_is_named(tmp_path):
    with pytest.raises(
        CourseError, match=r"is not in a workspace: make one with `minilab init DIR`"
    ):
        find_workspace(tmp_path)


@pytest.mark.parametrize(
    "damage",
    ["base_seed = ", "", "base_seed = 0\n[exercise.double]\nlines = 3", "exercise = 3", "\0"],
)
def test_a_damaged_progress_file_is_one_sentence(tmp_path, damage):
    (tmp_path / FILE).write_text(damage)
    with pytest.raises(CourseError, match=r"cannot be read .* put it right, or delete it"):
        read_progress(tmp_path)
