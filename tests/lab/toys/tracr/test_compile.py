"""How Tracr's labels become names, and that each program's file is there."""

from mini_transformer.toys.tracr.compile import name_directions
from mini_transformer.toys.tracr.compiled import find_file
from mini_transformer.toys.tracr.programs import PROGRAMS


def test_running_numbers_go_and_those_that_tell_directions_apart_start_at_one():
    labels = ["one", "opens_46", "opens_44", "hist_9:0", "hist_9_selector_width_attn_output"]
    assert name_directions(labels) == [
        "one",
        "opens 2",
        "opens 1",
        "hist:0",
        "hist_selector_width_attn_output",
    ]
    assert name_directions(["balance_()_41", "opp_idx-1_3:-4"]) == ["balance_()", "opp_idx-1:-4"]


def test_each_program_has_a_file_and_all_are_small():
    files = sorted(find_file("any").parent.iterdir())
    assert [file.stem for file in files] == sorted(PROGRAMS)
    assert sum(file.stat().st_size for file in files) < 1_000_000
