"""Traps for variables: who falls, who does not, and that each is built as it says."""

import pytest
from trap_checks import check_trap

from mini_transformer.board.families.variables.traps import TRAPS

# Who falls and who does not, with a fast one of each.
MET = {
    "dormant/x": ("das_boundless", "das"),
    "unused_feature/x_beside_untrained": ("nonlinear_map", "read_axes"),
}


def test_every_trap_is_tried_here():
    assert set(TRAPS) == set(MET)


@pytest.mark.parametrize("name", MET)
def test_a_method_that_the_trap_is_built_for_falls_and_another_does_not(name):
    check_trap("variables", name, *MET[name])


@pytest.mark.parametrize("name", MET)
def test_a_third_of_all_pairs_is_not_given_and_left_to_judge_by(name):
    pairs = TRAPS[name](name, 1).arguments[2]
    given = {(*a, *b) for a, b in zip(pairs.base.tolist(), pairs.source.tolist(), strict=True)}
    n_prompts = len({tuple(prompt) for prompt in pairs.base.tolist()})
    assert (
        len(given) == len(pairs.base) == 2 * n_prompts * (n_prompts - 1) // 3
    )  # the others are what is judged
