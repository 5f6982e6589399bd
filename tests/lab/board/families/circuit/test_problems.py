"""Circuit problems: what a method is given agrees with the truth that it is measured against."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.families.circuit.problems import (
    PROBLEMS,
    build,
    draw_batch,
    draw_scores,
    make_problem,
)
from mini_transformer.edges import list_edges, list_writers, mask_of, run_edges, write_outputs


@pytest.mark.parametrize("name", PROBLEMS)
def test_on_the_prompts_given_each_right_circuit_answers_all_and_less_does_not(name: str) -> None:
    (case_name, ablation), seed = name.split("/"), 1
    case, problem = toys.load(case_name, seed), build(name, seed)
    model, clean, corrupt, metric, given_ablation = problem.arguments
    batch = draw_batch(case, ablation, seed)
    assert torch.equal(batch.clean, clean)
    assert given_ablation == ablation
    off = write_outputs(model, corrupt, ablation)
    for circuit in case.truth.circuits[ablation].edges:
        whole = mask_of(model, circuit)
        parts = [whole - mask_of(model, [edge]) for edge in sorted(circuit)]
        with torch.no_grad():
            logits = run_edges(model, clean, torch.stack([whole, *parts]), off)
        right = batch.correct(logits).float().mean(dim=1)
        assert right[0] == 1
        assert (
            right[1:] < 1
        ).float().mean() > 0.5  # a sample of prompts may miss what an edge is for
    assert metric(model(clean)).shape == clean.shape[:1]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_oracle_has_every_figure_right_and_a_wrong_edge_on_top_costs(name: str) -> None:
    problem = build(name, 2)
    for figure, value in problem.measure(problem.oracle()).items():
        assert value == (0 if figure.startswith("distance") else 1), figure
    scores = problem.oracle()
    scores[scores.argmin()] = scores.max() + 1
    worse = problem.measure(scores)
    assert worse["auroc_best"] < 1
    assert worse["f1_union"] < 1


def test_scores_of_nodes_are_judged_as_nodes() -> None:
    case, problem = toys.load("induction_by_hand"), build("induction_by_hand/zero")
    right = {
        writer: float(writer in case.truth.circuits["zero"].nodes[0])
        for writer in list_writers(case.model)
    }
    assert problem.measure(right)["auroc_best"] == 1
    assert problem.measure({writer: -score for writer, score in right.items()})["auroc_best"] == 0
    everything = build("boolean_and/zero")
    assert everything.measure(dict.fromkeys(list_writers(everything.arguments[0]), 1.0)) == {}


def test_random_scores_come_in_pairs_whose_mean_auroc_is_one_half() -> None:
    first, second = draw_scores(50, 6), draw_scores(50, 7)
    assert torch.allclose(first, 1 - second)
    assert not torch.allclose(draw_scores(50, 8), first)
    problem = build("backup_head/zero")
    each = [problem.measure(problem.random(draw))["auroc_union"] for draw in range(4)]
    assert sum(each) / 4 == pytest.approx(0.5)


def test_the_untrained_model_differs_in_its_weights_only() -> None:
    problem = build("clock_by_hand/mean", 1)
    (model, *rest), (untrained, *same) = problem.arguments, problem.untrained
    assert untrained.config == model.config
    assert list_edges(untrained) == list_edges(model)
    assert not torch.equal(untrained.W_E, model.W_E)
    assert all(one is other for one, other in zip(rest[:2], same[:2], strict=True))


def test_few_prompts_are_all_given_and_many_are_drawn() -> None:
    few, many = toys.load("boolean_and"), toys.load("clock_by_hand")
    assert len(draw_batch(few, "zero", 0).clean) == 4
    assert len(draw_batch(many, "zero", 0).clean) == 32
    assert len(draw_batch(many, "mean", 0).clean) == 121  # the mean of a sample is another
    batch = draw_batch(few, "mean", 0)
    assert torch.equal(batch.corrupt, batch.clean.roll(1, dims=0))


def test_nodes_are_those_at_the_ends_of_the_edges_unless_they_are_given() -> None:
    case = toys.load("boolean_redundant_or")
    circuit = case.truth.circuits["zero"].edges[0]
    given = (case.model, draw_batch(case, "zero", 0), "zero", [circuit])
    scores = {node: float(node == "a0.h0") for node in list_writers(case.model)}
    problem = make_problem("a/b", 0, *given, note="")
    ends = {end.split("<")[0] for edge in circuit for end in edge.split("->")}
    right = {node: float(node in ends) for node in list_writers(case.model)}
    assert problem.measure(right)["auroc_best"] == 1
    other = make_problem("a/b", 0, *given, note="", nodes=[frozenset({"a0.h0"})])
    assert other.measure(scores)["auroc_best"] == 1 > other.measure(right)["auroc_best"]
