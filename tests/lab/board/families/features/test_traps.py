"""Traps for features: who falls, who does not, and that each is built as it says."""

import pytest
import torch
from trap_checks import check_falls, check_oracle, check_words

from mini_transformer import toys
from mini_transformer.board.families.features.traps import TRAPS, merge_pairs

# Who falls and who does not, with a fast one of each; None: nobody.
MET = {
    "planted_correlated/narrow": ("sae_l1", "principal_axes"),
    "planted_features/plain": ("principal_axes", "sae_l1"),
    "planted_hierarchical/families": ("sae_l1", "sae_matryoshka"),
}
each_trap = pytest.mark.parametrize("name", MET)


def test_every_trap_is_tried_here():
    assert set(TRAPS) == set(MET)


@each_trap
def test_a_method_that_the_trap_is_built_for_falls_and_another_does_not(name):
    check_falls("features", name, *MET[name])


@each_trap
def test_the_right_answer_does_not_fall(name):
    check_oracle("features", name)


@each_trap
def test_a_trap_says_why_and_which_verdict_is_false(name):
    check_words("features", name)


def test_hedging_counts_latents_that_lie_between_two_features_of_a_pair():
    problem = merge_pairs("planted_correlated/narrow", 0)
    features, right = toys.load("planted_correlated").truth.features, problem.oracle()
    first, second = torch.tensor(features.correlated).T
    between = torch.nn.functional.normalize(
        features.directions[first] + features.directions[second], dim=1
    )
    half = torch.cat([between[:16], features.directions[first[16:]]])
    mixed = problem.measure(type(right)(half, right.activations, right.codes))
    assert mixed["hedging"] == 0.5
    assert mixed["f1"] == pytest.approx(0.5)
