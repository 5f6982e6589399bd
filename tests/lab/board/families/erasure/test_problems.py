"""Erasure problems: the right eraser comes from the distribution, and what does not work loses."""

import pytest
import torch
from family_means import check_margins, measure_means

from mini_transformer.board.families.erasure.problems import SETTINGS, build, find_right
from mini_transformer.board.planted import draw_world
from mini_transformer.methods import fit_leace, fit_probe


def test_the_right_eraser_is_that_of_as_many_rows_as_one_likes():
    world = draw_world(0)
    chances = world.make_chances({1: 0.75})
    right = find_right(world, chances, world.bits[:, 0])
    gaps = []
    for n in (1_000, 100_000):
        rows = world.draw(n, chances, seed=1)
        gaps.append((fit_leace(rows.x, rows.bits[:, 0]).M - right.M).norm() / right.M.norm())
    assert gaps[1] < 0.05 < gaps[0]


def test_taking_everything_out_or_nothing_is_no_erasure():
    problem = build("planted/apart", 0)
    nothing = problem.measure(lambda x: x)
    everything = problem.measure(lambda x: torch.zeros_like(x))
    assert (nothing["balance"], nothing["erased"]) == (0, 0)
    assert (everything["balance"], everything["leakage"], everything["kept"]) == (0, 0, 0)
    assert nothing["leakage"] > 0.9


def test_erasing_again_at_call_time_is_refused():
    problem = build("planted/apart", 0)
    probe = fit_probe(*problem.arguments)

    def erase_again(x):
        predicted = probe.predict(x)
        return fit_leace(x, predicted)(x) if len(predicted.unique()) > 1 else x

    with pytest.raises(ValueError, match="must treat each row for itself"):
        problem.measure(erase_again)


def test_a_label_hidden_in_the_length_of_the_vector_is_found():
    problem = build("planted/apart", 0)
    probe, erase = fit_probe(*problem.arguments), fit_leace(*problem.arguments)
    honest = problem.measure(erase)

    def hide(x):
        return erase.mean + (erase(x) - erase.mean) * (1 + 2 * probe.predict(x)[:, None])

    hidden = problem.measure(hide)
    assert hidden["leakage"] < 0.4  # no line reads it
    assert hidden["nonlinear_leakage"] > 0.7
    assert hidden["balance"] < honest["balance"] - 0.5


def test_erasing_without_looking_earns_nothing():
    """Random directions take as much of the label as of the others."""
    scores = []
    for seed in range(4):
        problem = build("planted/apart", seed)
        basis = torch.linalg.qr(torch.randn(32, 32)).Q[:, :16]
        scores.append(problem.measure(lambda x, basis=basis: x - x @ basis @ basis.T)["balance"])
    assert sum(scores) / 4 < 0.12


@pytest.mark.slow
def test_trivial_answers_lose():
    check_margins("erasure", measure_means("erasure", 3), data_free=("nothing", "everything"))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_oracle_is_right_and_the_same_as_long_as_the_seed_is(name):
    one, again = build(name, 5), build(name, 5)
    assert torch.equal(one.arguments[0], again.arguments[0])
    assert one.measure(again.oracle())["balance"] == 1
