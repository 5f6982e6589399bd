"""Methods for circuits that are not the package's own: each against what it stands for."""

import re

import pytest
import torch

from mini_transformer import methods, toys
from mini_transformer.board.families.circuit import entrants
from mini_transformer.board.families.circuit.problems import build
from mini_transformer.board.problem import NotApplicable
from mini_transformer.edges import list_writers, write_outputs

AND = {ablation: build(f"boolean_and/{ablation}").arguments for ablation in ("zero", "resample")}
INDUCTION = build("induction_by_hand/zero").arguments


def test_a_method_says_that_an_ablation_is_not_for_it() -> None:
    for method, ablation in (
        (entrants.restore_edges, "zero"),
        (entrants.patch_by_zeros, "zero"),
        (entrants.patch_by_others, "resample"),
        (entrants.read_patterns, "zero"),  # one layer only
    ):
        with pytest.raises(NotApplicable):
            method(*AND[ablation])


def test_patching_by_another_ablation_is_that_of_the_other_problem() -> None:
    model, clean, corrupt, metric, _ = AND["resample"]
    by_zeros, by_others = (
        methods.patch_edges(model, clean, corrupt, metric, kind, direction="noise").values
        for kind in ("zero", "resample")
    )
    zeros = entrants.patch_by_zeros(*AND["resample"])
    assert torch.equal(zeros.values, by_zeros)
    others = entrants.patch_by_others(model, clean, corrupt, metric, "zero")
    assert torch.equal(others.values, by_others)


def test_nodes_are_scored_by_what_is_lost_without_them() -> None:
    model, clean, corrupt, metric, ablation = AND["zero"]
    found = entrants.ablate_nodes(model, clean, corrupt, metric, ablation)
    whole = metric(model(clean)).mean().item()
    for head in range(model.config.n_heads):

        def silence(value, hook, head=head):
            value[:, :, head] = 0

        left = metric(model.run_with_hooks(clean, fwd_hooks=[(("z", 0), silence)])).mean().item()
        assert found[f"a0.h{head}"] == pytest.approx(whole - left, abs=1e-4)


def test_what_changes_is_measured_by_the_length_of_the_difference() -> None:
    model, clean, corrupt, *_ = AND["resample"]
    found = entrants.measure_changes(*AND["resample"])
    assert list(found) == list_writers(model)
    differences = write_outputs(model, clean) - write_outputs(model, corrupt)
    for score, difference in zip(found.values(), differences, strict=True):
        lengths = [vector.norm().item() for prompt in difference for vector in prompt]
        assert score == pytest.approx(sum(lengths) / len(lengths), rel=1e-4)


def test_patterns_point_at_both_heads_of_an_induction_circuit_and_at_the_silent_one() -> None:
    roles = toys.load("induction_by_hand").truth.roles
    scores = entrants.read_patterns(*INDUCTION)
    best = scores[f"{roles['previous']}->{roles['match']}<k>"]
    assert best == max(scores.values()) > 0.8
    assert scores[f"{roles['silent']}->{roles['match']}<k>"] > 0.8  # it only looks like it
    assert scores["input->logits"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_an_edge_has_the_score_of_the_best_pair_that_it_belongs_to(seed: int) -> None:
    arguments = build("induction_by_hand/zero", seed).arguments
    roles = toys.load("induction_by_hand", seed).truth.roles
    scores = entrants.read_patterns(*arguments)
    heads = [re.findall(r"\d", roles[role]) for role in ("previous", "match")]
    first, second = ((int(layer), int(head)) for layer, head in heads)
    best = entrants.list_induction_edges(first, second)
    assert {scores[edge] for edge in best} == {max(scores.values())}


def test_an_induction_circuit_has_seven_edges_through_two_heads() -> None:
    edges = entrants.list_induction_edges((0, 1), (1, 0))
    assert sorted(edges) == [
        "a0.h1->a1.h0<k>",
        "a1.h0->logits",
        *(f"input->a0.h1<{part}>" for part in "kqv"),
        "input->a1.h0<q>",
        "input->a1.h0<v>",
    ]
