"""Traps for variables: who falls, who does not, and that each is built as it says."""

import pytest
from trap_checks import check_falls, check_oracle, check_words

from mini_transformer.board.families.variables.traps import TRAPS

# Who falls and who does not, with a fast one of each; None: nobody.
MET = {
    "dormant/x": ("das", "read_axes"),
    "unused_feature/x_beside_untrained": ("nonlinear_map", "das"),
}
each_trap = pytest.mark.parametrize("name", MET)


def test_every_trap_is_tried_here():
    assert set(TRAPS) == set(MET)


@each_trap
def test_a_method_that_the_trap_is_built_for_falls_and_another_does_not(name):
    check_falls("variables", name, *MET[name])


@each_trap
def test_the_right_answer_does_not_fall(name):
    check_oracle("variables", name)


@each_trap
def test_a_trap_says_why_and_which_verdict_is_false(name):
    check_words("variables", name)


@each_trap
def test_a_third_of_all_pairs_is_not_given_and_left_to_judge_by(name):
    pairs = TRAPS[name](name, 1).arguments[2]
    given = {(*a, *b) for a, b in zip(pairs.base.tolist(), pairs.source.tolist(), strict=True)}
    n_prompts = len({tuple(prompt) for prompt in pairs.base.tolist()})
    assert (
        len(given) == len(pairs.base) == 2 * n_prompts * (n_prompts - 1) // 3
    )  # the others are what is judged
