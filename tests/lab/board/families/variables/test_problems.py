"""Variables problems: pairs whose answers are the model's own, and who finds the subspace."""

import pytest
import torch
from family_means import check_margins, measure_means

from mini_transformer.board.families.variables import FAMILY
from mini_transformer.board.families.variables.problems import PROBLEMS
from mini_transformer.methods import measure_interchange


@pytest.mark.parametrize("name", PROBLEMS)
def test_answers_are_what_the_model_says_with_the_true_subspace_of_the_source(name):
    for seed in range(2):
        problem = FAMILY.build(name, seed)
        model, hook, pairs = problem.arguments
        swap = (model, pairs.base, pairs.source, pairs.answers, problem.oracle(), hook)
        assert measure_interchange(*swap, pairs.position) == 1
        assert problem.measure(problem.oracle())["cause_and_isolation"] == 1
        own = model(pairs.base)[:, pairs.answer_position].argmax(dim=1)
        assert 0.2 < (own == pairs.answers).float().mean() < 0.8
        nothing = torch.zeros(1, model.config.d_model)
        found = problem.measure(nothing)
        assert found["isolation"] == 1
        assert found["cause"] <= 0.5


def test_no_direction_of_the_truth_is_a_coordinate():
    for name in PROBLEMS:
        assert FAMILY.build(name, 3).oracle().abs().max() < 0.7


@pytest.mark.slow
def test_trivial_subspaces_lose():
    means = measure_means("variables", 4, tuple(PROBLEMS))
    check_margins("variables", means, ("everything", "varying_coordinates", "varying_axes"))
