"""What steering vectors are judged by: on curves and distributions that are written down."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from mini_transformer.board.metrics.steering import (
    measure_kl,
    measure_kl_at,
    measure_specificity,
)

STRENGTHS = torch.tensor([0.0, 1.0, 2.0, 4.0])

few = settings(deadline=None, max_examples=20, derandomize=True)


def draw(seed, n=5, outcomes=7):
    return torch.randn(n, outcomes, generator=torch.Generator().manual_seed(seed)).log_softmax(
        dim=1
    )


@few
@given(st.integers(0, 99), st.integers(2, 9))
def test_kl_is_that_of_scipy_summed_over_outcomes(seed, outcomes):
    before, after = draw(seed, outcomes=outcomes), draw(seed + 500, outcomes=outcomes)
    rows = [entropy(p, q) for p, q in zip(before.exp().numpy(), after.exp().numpy(), strict=True)]
    assert measure_kl(before, after) == pytest.approx(sum(rows) / len(rows), rel=1e-4, abs=1e-6)
    order = torch.randperm(outcomes, generator=torch.Generator().manual_seed(seed))
    assert measure_kl(before[:, order], after[:, order]) == pytest.approx(measure_kl(before, after))
    assert measure_kl(before, before) == 0


def test_an_outcome_that_never_occurred_costs_nothing_and_one_that_no_longer_can_costs_everything():
    half, sure = torch.tensor([[0.5, 0.5, 0.0]]).log(), torch.tensor([[1.0, 0.0, 0.0]]).log()
    assert measure_kl(sure, half) == pytest.approx(math.log(2))
    assert measure_kl(half, sure) == math.inf


def test_damage_is_read_where_the_effect_is_reached_first():
    effects, damages = torch.tensor([0.0, 0.2, 0.6, 0.1]), torch.tensor([0.0, 0.1, 0.5, 9.0])
    assert measure_kl_at(STRENGTHS, effects, damages) == pytest.approx(0.1 + 0.75 * 0.4)
    assert measure_kl_at(STRENGTHS, effects, damages, level=0.6) == pytest.approx(0.5)
    assert measure_kl_at(STRENGTHS, effects, damages, level=0.7) is None
    assert measure_kl_at(STRENGTHS, effects + 0.5, damages) == 0  # there from the start


def test_a_vector_that_does_more_damage_never_scores_higher():
    effects = torch.tensor([0.0, 0.4, 0.8, 1.0])
    scores = [
        measure_specificity(
            measure_kl_at(STRENGTHS, effects, step * torch.tensor([0.0, 0.1, 0.3, 0.9]))
        )
        for step in range(8)
    ]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert measure_specificity(None) == 0
