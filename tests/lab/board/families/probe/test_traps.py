"""Traps for probe: who falls, who does not, and that each is built as it says."""

import pytest
import torch
from trap_checks import check_falls, check_oracle, check_words

from mini_transformer.board.families.probe.traps import TRAPS, read_parity

# Who falls and who does not, with a fast one of each; None: nobody.
MET = {
    "refusal_with_trigger/harm_xor_trigger": ("linear", "class_means"),
    "unused_feature/y": ("linear", None),
}
each_trap = pytest.mark.parametrize("name", MET)


def test_every_trap_is_tried_here():
    assert set(TRAPS) == set(MET)


@each_trap
def test_a_method_that_the_trap_is_built_for_falls_and_another_does_not(name):
    check_falls("probe", name, *MET[name])


@each_trap
def test_the_right_answer_falls_only_where_no_direction_shows_who_reads_it(name):
    check_oracle("probe", name, falls=name == "unused_feature/y")


@each_trap
def test_a_trap_says_why_and_which_verdict_is_false(name):
    check_words("probe", name)


def test_harm_xor_trigger_is_a_sum_of_what_the_model_writes_and_each_combination_is_as_frequent():
    problem = read_parity("refusal_with_trigger/harm_xor_trigger", 1)
    activations, labels = problem.arguments
    harm, trigger, refusal = (activations @ problem.oracle().directions.T).T
    assert torch.allclose(trigger - harm + 2 * refusal, labels.float(), atol=1e-4)
    assert torch.equal((harm > 0.5) ^ (trigger > 0.5), labels.bool())
    assert (2 * (harm > 0.5) + (trigger > 0.5)).bincount().tolist() == [12] * 4
