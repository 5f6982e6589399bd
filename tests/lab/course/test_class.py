"""A whole class, twenty odd and ten hostile students in it, graded by the command."""

import pytest
from grade_class import SEED, grade_and_watch, list_faults
from sample_class import find_marks, read_draws, remove, write_class
from sandboxed import find_or_skip

KEY = "01_residual_stream"


@pytest.mark.slow
def test_among_odd_and_hostile_students_every_mark_is_right_and_memory_is_bounded(tmp_path):
    find_or_skip()
    sources = write_class(tmp_path / "class", 60, KEY)
    watched = grade_and_watch(tmp_path / "class", tmp_path / "grades", KEY)
    marks = find_marks(sources, KEY, SEED, read_draws(tmp_path / "grades"))
    remove(tmp_path / "class")
    assert list_faults(tmp_path / "grades", marks) == []
    assert watched.status == 0
    assert watched.own_memory < 500
    assert watched.judges_memory < 1000
    assert len(set(marks.values())) > 10  # right, half right and wrong
