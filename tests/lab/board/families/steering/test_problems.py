"""Steering problems: what a vector does to its target, and what it takes along."""

import pytest
import torch
from family_means import check_margins, measure_means

from mini_transformer.board.families.steering.problems import build


def test_a_difference_in_means_steers_and_takes_more_along_than_the_right_vector():
    problem = build("planted/many", 0)
    positive, negative = problem.arguments
    hook = next(iter(positive))
    found = problem.measure((positive[hook].mean(dim=0) - negative[hook].mean(dim=0), hook))
    right = problem.measure(problem.oracle())
    assert found["on_target"] > 0.8
    assert found["off_target_kl"] > 0.3
    assert right["off_target_kl"] == pytest.approx(0, abs=1e-4)  # by construction
    assert right["specificity"] == pytest.approx(1, abs=1e-4)
    assert found["specificity"] < 0.9


def test_vectors_are_compared_at_equal_effect_and_their_own_length_counts_beside():
    problem = build("planted/few", 0)
    vector, hook = problem.oracle()
    short, right = (problem.measure((factor * vector, hook)) for factor in (0.05, 1))
    assert short["specificity"] == pytest.approx(right["specificity"])
    assert short["on_target"] < right["on_target"]


def test_the_wrong_way_has_no_effect_and_no_specificity():
    problem = build("planted/many", 1)
    vector, hook = problem.oracle()
    found = problem.measure((-vector, hook))
    assert found["specificity"] == 0
    assert found["on_target"] < 0
    assert "kl_at_half_effect" not in found


def test_trivial_answers_lose():
    check_margins(
        "steering",
        measure_means("steering", 3, ("planted/many",)),
        data_free=("weights_only", "constant"),
    )


def test_activations_are_those_of_the_model_that_a_method_may_ask():
    problem = build("planted/few", 3)
    positive, _ = problem.arguments
    model, prompts = problem.options["model"], problem.options["positive_prompts"]
    for hook, rows in positive.items():
        with torch.no_grad():
            assert torch.equal(model.run_with_cache(prompts)[1][hook][:, 0], rows)
