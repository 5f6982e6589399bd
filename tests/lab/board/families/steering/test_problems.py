"""Steering problems: what a vector does to its target, and what it takes along."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.families.steering.problems import build, run_steered
from mini_transformer.board.families.steering.settings import SETTINGS


def test_a_difference_in_means_steers_and_takes_more_along_than_the_right_vector():
    problem = build("refusal_with_trigger/refuse", 0)
    positive, negative = problem.arguments
    hook = ("resid_post", 1)
    found = problem.measure((positive[hook].mean(dim=0) - negative[hook].mean(dim=0), hook))
    assert found["on_target"] > 0.9
    assert found["off_target_kl"] > 0.5
    assert problem.measure(problem.oracle())["off_target_kl"] == pytest.approx(
        0, abs=1e-6
    )  # by construction
    assert found["specificity"] < 0.95


def test_a_vector_is_added_where_the_answer_is_and_its_length_counts_for_what_it_does_as_it_is():
    name = "refusal_with_trigger/refuse"
    problem, setting = build(name, 0), SETTINGS[name](toys.load("refusal_with_trigger", 0))
    vector, hook = problem.oracle()
    double, right = (problem.measure((factor * vector, hook)) for factor in (2, 1))
    assert double["specificity"] == pytest.approx(right["specificity"])  # compared at equal effect
    assert double["on_target"] > right["on_target"]
    model = setting.case.model
    nothing = run_steered(setting, model, (torch.zeros_like(vector), hook))
    rows = torch.arange(len(nothing))
    plain = model(setting.tried.tokens)[rows, setting.tried.positions]
    assert torch.allclose(nothing * setting.temperature, plain, atol=1e-5)


def test_the_wrong_way_has_no_effect_and_no_specificity():
    problem = build("style_grammar/sentiment", 0)
    vector, hook = problem.oracle()
    found = problem.measure((-vector, hook))
    assert found["specificity"] == 0
    assert found["on_target"] < 0
    assert "kl_at_half_effect" not in found
