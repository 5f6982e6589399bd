"""Traps for circuit: who falls, who does not, and that each is built as it says."""

import pytest
from trap_checks import check_falls, check_oracle, check_words, fell

from mini_transformer import toys
from mini_transformer.board.families.circuit.traps import TRAPS
from mini_transformer.board.running.jobs import Job, run_job
from mini_transformer.edges import EdgeScores
from mini_transformer.toys.find_circuits import find_circuits

# Who falls and who does not, with a fast one of each; None: nobody.
MET = {
    "backup_head/zero": ("node_ablation", "edge_patching"),
    "boolean_and/both_bits": ("edge_patching_denoise", "edge_patching"),
    "boolean_and/informative_by_zero": ("edge_patching", "edge_patching_by_others"),
    "boolean_and/needed_by_resample": ("edge_patching", "edge_patching_by_zeros"),
    "boolean_or/both_bits": ("edge_patching", "edge_patching_denoise"),
    "boolean_or/two_circuits": ("acdc", "eap_ig_inputs"),
    "cancelling/resample": ("eap", "edge_patching"),
    "fixed_period/zero": ("attention_patterns", "edge_patching"),
    "induction_by_hand/sharp": ("eap", "edge_patching"),
    "induction_by_hand/zero": ("attention_patterns", "edge_patching"),
    "unused_feature/resample": ("activation_changes", "edge_patching"),
}
each_trap = pytest.mark.parametrize("name", MET)


def test_every_trap_is_tried_here():
    assert set(TRAPS) == set(MET)


@each_trap
def test_a_method_that_the_trap_is_built_for_falls_and_another_does_not(name):
    check_falls("circuit", name, *MET[name])


@each_trap
def test_the_right_answer_does_not_fall(name):
    check_oracle("circuit", name)


@each_trap
def test_a_trap_says_why_and_which_verdict_is_false(name):
    check_words("circuit", name)


ENUMERATED = (
    "induction_by_hand/sharp",
    "cancelling/resample",
    "boolean_or/both_bits",
    "boolean_and/both_bits",
    "boolean_or/two_circuits",
    "fixed_period/zero",
)


@pytest.mark.parametrize("name", ENUMERATED)
def test_the_circuits_are_all_that_trying_every_subset_of_edges_finds(name):
    for seed in range(2):
        problem = TRAPS[name](name, seed)
        model, _, _, metric, ablation = problem.arguments
        circuits, right = find_circuits(model, metric.__self__, ablation), problem.oracle()
        scores = EdgeScores(model, right)
        first = {edge for edge, score in scores.items() if score == right.max()}
        union = {edge for edge, score in scores.items() if score > 0}
        assert first in circuits
        assert union == set().union(*circuits)
        assert len(circuits) == (2 if name.startswith("boolean_or") else 1)


@pytest.mark.parametrize("asked", ["needed_by_resample", "informative_by_zero"])
def test_the_two_questions_have_different_circuits_and_are_asked_with_the_other_ablation(asked):
    name = f"boolean_and/{asked}"
    case, problem = toys.load("boolean_and"), TRAPS[name](name, 0)
    ablation = problem.arguments[4]
    wanted, other = (
        case.truth.circuits["zero" if ablation == "resample" else "resample"],
        case.truth.circuits[ablation],
    )
    scores = EdgeScores(case.model, problem.oracle())
    found = {edge for edge, score in scores.items() if score > 0}
    assert found == set(wanted.edges[0]) != set(other.edges[0])


def test_who_has_nothing_to_say_neither_falls_nor_stands():
    assert fell("circuit", "boolean_and/needed_by_resample", "node_ablation") is None
    assert fell("circuit", "boolean_and/informative_by_zero", "attention_patterns") is None
    assert (
        fell("circuit", "boolean_or/both_bits", "node_ablation") is None
    )  # every node belongs to the circuit


def measure(problem, figure):
    return [
        run_job(Job("circuit", problem, "edge_patching", seed))["metrics"][figure]
        for seed in range(3)
    ]


def test_what_must_be_there_is_found_by_zeros_and_not_by_resampling():
    assert min(measure("boolean_and/zero", "auroc_best")) == 1
    assert max(measure("boolean_and/needed_by_resample", "auroc_best")) < 0.75
    assert (
        measure("boolean_and/needed_by_resample", "told_apart") == [0.5] * 3
    )  # constants rank as what does nothing


def test_what_carries_the_bits_is_found_by_resampling_and_not_by_zeros():
    assert min(measure("boolean_and/resample", "auroc_best")) == 1
    assert max(measure("boolean_and/informative_by_zero", "auroc_best")) < 0.85
