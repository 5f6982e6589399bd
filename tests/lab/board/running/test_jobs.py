"""Which model a number stands for."""

import pytest

from mini_transformer.board.running.jobs import Draw, Job, draw_seed, make_row


def test_tuning_models_are_those_of_small_seeds_and_the_same_for_all() -> None:
    assert [draw_seed(Draw("tuning", seed), 3) for seed in (0, 1, None)] == [3, 3, 3]


def test_held_out_models_follow_from_the_seed_and_are_no_small_ones() -> None:
    seeds = [[draw_seed(Draw(seed=seed), number) for number in range(50)] for seed in (1, 2)]
    assert len({*seeds[0], *seeds[1]}) == 100
    assert all(10**6 < seed < 2**48 for seed in seeds[0] + seeds[1])
    assert seeds[0] == [draw_seed(Draw("held-out", 1), number) for number in range(50)]


def test_of_models_that_are_shipped_each_number_is_another_and_turned_anew() -> None:
    seeds = [[draw_seed(Draw(seed=seed), number, 3) for number in range(3)] for seed in (1, 2)]
    assert [seed % 3 for seed in seeds[0]] == [seed % 3 for seed in seeds[1]] == [0, 1, 2]
    assert not set(seeds[0]) & set(seeds[1])


def test_a_split_that_does_not_exist_is_said() -> None:
    with pytest.raises(ValueError, match="the split is 'test', but must be held-out or tuning"):
        Draw("test")


def test_a_row_says_which_job_it_is() -> None:
    row = make_row(Job("probe", "a/b", "linear", 4, untrained=True))
    assert [row[name] for name in ("family", "problem", "entrant", "number", "ok")] == [
        "probe",
        "a/b",
        "linear (untrained)",
        4,
        False,
    ]
