"""Variables problems: pairs whose answers are the model's own, and subspaces that only look
right.
"""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.families.variables.problems import (
    PROBLEMS,
    build,
    draw_pairs,
    find_rows,
)
from mini_transformer.methods import fit_das, measure_interchange


@pytest.mark.parametrize("name", PROBLEMS)
def test_pairs_that_are_judged_are_not_those_that_were_given_and_their_answers_are_the_model_s_own(
    name,
):
    """Whatever the whole activation of the source brings, where it differs from the base in the
    variable alone.
    """
    case_name, variable = name.split("/")
    case = toys.load(case_name, 1)
    carried = case.truth.variables[variable]
    seen, fresh = draw_pairs(case, name, carried, dim=1)
    given = {(*a, *b) for a, b in zip(seen.base.tolist(), seen.source.tolist(), strict=True)}
    assert not given & {
        (*a, *b) for a, b in zip(fresh.base.tolist(), fresh.source.tolist(), strict=True)
    }
    same = carried.compute(fresh.base) == carried.compute(fresh.source)
    said = case.model(fresh.base)[:, -1].argmax(dim=1)
    assert torch.equal(said[same], fresh.answers[same])
    rows = find_rows(case, carried)
    assert (
        measure_interchange(case.model, seen.base, seen.source, seen.answers, rows, carried.site)
        == 1
    )


def test_a_subspace_that_moves_every_answer_need_not_be_the_one_that_carries_the_variable():
    problem = build("refusal_with_trigger/harm", 0)
    model, hook, pairs = problem.arguments
    found = problem.measure(
        fit_das(model, pairs.base, pairs.source, pairs.answers, hook, pairs.dim)
    )
    assert found["interchange"] == 1
    assert found["overlap"] < 0.5  # the request goes with the harm, and is not read
