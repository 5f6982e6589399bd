"""Subspaces by angles that are set by hand, and by what must and must not change a score."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_transformer.board.metrics.subspace import (
    find_basis,
    measure_largest_angle,
    measure_overlap,
    share_right,
)

few = settings(deadline=None, max_examples=20, derandomize=True)


def draw(dim, d, seed):
    return torch.linalg.qr(
        torch.randn(d, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )[0].T


@pytest.mark.parametrize("degrees", [0, 30, 60, 90])
def test_two_lines_overlap_by_the_squared_cosine_of_their_angle(degrees):
    angle = math.radians(degrees)
    found, truth = (
        torch.tensor([[math.cos(angle), math.sin(angle), 0]]),
        torch.tensor([[1.0, 0, 0]]),
    )
    assert measure_overlap(found, truth) == pytest.approx(math.cos(angle) ** 2, abs=1e-6)
    assert measure_largest_angle(found, truth) == pytest.approx(degrees, abs=1e-3)


@few
@given(st.integers(0, 99), st.integers(1, 4))
def test_the_basis_a_subspace_is_written_in_changes_nothing(seed, dim):
    found, truth = draw(dim, 6, seed), draw(2, 6, seed + 1000)
    mixing = torch.randn(
        dim + 1, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    again = mixing @ found  # one row too many, all in the same span
    assert measure_overlap(again, truth) == pytest.approx(measure_overlap(found, truth), abs=1e-6)
    turn = draw(6, 6, seed + 2000)
    assert measure_overlap(found @ turn, truth @ turn) == pytest.approx(
        measure_overlap(found, truth), abs=1e-6
    )
    assert measure_overlap(again, found) == measure_overlap(found, again) == 1


def test_a_random_subspace_overlaps_by_its_share_of_the_dimensions():
    truth = torch.eye(12, dtype=torch.float64)[:3]
    shares = torch.tensor([measure_overlap(draw(3, 12, seed), truth) for seed in range(200)])
    half_width = 1.96 * (shares.std() / 200**0.5).item()
    assert abs(shares.mean().item() - 3 / 12) < half_width < 0.02


def test_turning_the_right_subspace_away_row_by_row_never_improves_it():
    truth, found = torch.eye(8)[:4], torch.eye(8)[:4].clone()
    overlaps, angles = [1.0], [0.0]
    for row in range(4):
        found[row] = torch.eye(8)[7 - row]
        overlaps.append(measure_overlap(found, truth))
        angles.append(measure_largest_angle(found, truth))
    assert overlaps == [1, 0.75, 0.5, 0.25, 0]
    assert angles == pytest.approx([0, 90, 90, 90, 90], abs=1e-3)


def test_directions_too_many_and_too_few_both_cost():
    truth = torch.eye(6)[:2]
    assert measure_overlap(torch.eye(6)[:1], truth) == 0.5
    assert measure_overlap(torch.eye(6)[:4], truth) == 0.5
    assert measure_overlap(torch.zeros(2, 6), truth) == 0
    assert measure_largest_angle(torch.zeros(2, 6), truth) == 90


def test_a_direction_a_thousand_times_smaller_is_noise():
    assert len(find_basis(torch.diag(torch.tensor([1.0, 0.1, 1e-4])))) == 2


def test_cause_and_isolation_are_counted_on_their_own_pairs():
    answers = torch.tensor([1, 1, 1, 2, 2])
    same = torch.tensor([False, False, False, True, True])
    always_moves = share_right(torch.tensor([1, 1, 1, 1, 1]), answers, same)
    never_moves = share_right(torch.tensor([2, 2, 2, 2, 2]), answers, same)
    assert (always_moves["cause"], always_moves["isolation"], always_moves["interchange"]) == (
        1,
        0,
        0.6,
    )
    assert (never_moves["cause"], never_moves["isolation"], never_moves["interchange"]) == (
        0,
        1,
        0.4,
    )
    assert always_moves["cause_and_isolation"] == never_moves["cause_and_isolation"] == 0.5
