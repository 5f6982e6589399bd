"""Circuit problems: what a method is given agrees with the truth that it is measured against."""

import pytest
import torch
from family_means import check_margins, measure_means

from mini_transformer.board.families.circuit import FAMILY
from mini_transformer.board.families.circuit.problems import draw_scores, make_problem
from mini_transformer.board.problem import Problem
from mini_transformer.edges import list_edges, list_writers, mask_of, run_masks, write_outputs
from mini_transformer.toys import Batch

SMALL = ("twin/resample", "sharp/resample", "silent/zero", "cancelling/resample", "period/zero")
FREE = ("alike", *(name for name in FAMILY.references if name.startswith(("names", "weights"))))


def run(problem: Problem, masks: list[torch.Tensor]) -> torch.Tensor:
    """Logits (mask, batch, pos, vocab) with the edges of each mask alone."""
    model, clean, corrupt, _, ablation = problem.arguments
    with torch.no_grad():
        off = write_outputs(model, corrupt, ablation)
        return torch.cat(list(run_masks(model, clean, torch.stack(masks).float(), off)))


def find_live(problem: Problem) -> float:
    """The share of the edges outside every right circuit that change some logit when off."""
    outside = (problem.oracle() == 0).nonzero().flatten()
    masks = torch.ones(len(outside), len(problem.oracle()))
    masks[torch.arange(len(outside)), outside] = 0
    with torch.no_grad():
        plain = problem.arguments[0](problem.arguments[1])
    changes = (run(problem, list(masks)) - plain).abs().flatten(1).amax(dim=1)
    return (changes > 1e-5 * plain.std()).float().mean().item()


@pytest.mark.parametrize("name", SMALL)
def test_the_right_circuit_answers_every_prompt_and_most_edges_outside_do_something(name) -> None:
    problem = FAMILY.build(name, 1)
    right = problem.oracle()
    edges = list_edges(problem.arguments[0])
    whole = (right == right.max()).float()
    kept = [edge for edge, on in zip(edges, whole, strict=True) if on]
    less = [whole - mask_of(problem.arguments[0], [edge]) for edge in kept]
    differences = problem.arguments[3](run(problem, [whole, *less]))
    assert (differences[0] > 0).all()
    assert (differences[1:].amin(dim=1) < differences[0].amin()).float().mean() > 0.5
    assert find_live(problem) >= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY.names)
def test_most_edges_outside_do_something_in_every_problem(name) -> None:
    assert min(find_live(FAMILY.build(name, seed)) for seed in range(3)) >= 0.5


@pytest.mark.parametrize("name", SMALL[1:3])
def test_the_oracle_has_every_figure_right_and_a_wrong_edge_on_top_costs(name) -> None:
    problem = FAMILY.build(name, 2)
    for figure, value in problem.measure(problem.oracle()).items():
        assert value == (0 if figure.startswith("distance") else 1), figure
    scores = problem.oracle()
    scores[scores.argmin()] = scores.max() + 1
    worse = problem.measure(scores)
    assert worse["auroc_best"] < 1
    assert worse["f1_union"] < 1


def test_more_faithful_circuits_have_a_higher_cpr_and_a_lower_cmd() -> None:
    problem = FAMILY.build("twin/resample", 0)
    right, wrong = (problem.measure(sign * problem.oracle()) for sign in (1, -1))
    assert right["cpr"] > 0.9 > 0.5 > wrong["cpr"]
    assert right["cmd"] < 0.1 < wrong["cmd"]
    alike = problem.measure(torch.ones(len(problem.oracle())))
    assert alike["cpr"] == 0  # all edges come in together


def test_scores_of_nodes_are_judged_as_nodes() -> None:
    problem = FAMILY.build("sharp/resample", 0)
    model, clean, corrupt, _, ablation = problem.arguments
    circuit = [
        edge for edge, score in zip(list_edges(model), problem.oracle(), strict=True) if score
    ]
    ends = {end.split("<")[0] for edge in circuit for end in edge.split("->")}
    right = {node: float(node in ends) for node in list_writers(model)}
    assert problem.measure(right)["auprc_best"] == 1
    assert problem.measure({node: -score for node, score in right.items()})["auroc_best"] == 0
    position = torch.full_like(clean[:, 0], clean.shape[1] - 1)
    batch = Batch(clean, corrupt, clean[:, 0], corrupt[:, 0], position)
    given = (model, batch, ablation, [frozenset(circuit)])
    other = make_problem("a/b", 0, *given, nodes=[frozenset({"m0"})])
    assert other.measure({**dict.fromkeys(right, 0.0), "m0": 1.0})["auprc_best"] == 1
    everything = make_problem("a/b", 0, *given, nodes=[frozenset(right)])
    assert everything.measure(right) == {}  # nothing can be ranked below the circuit


def test_random_scores_come_in_pairs_whose_mean_auroc_is_one_half() -> None:
    first, second = draw_scores(50, 6), draw_scores(50, 7)
    assert torch.allclose(first, 1 - second)
    assert not torch.allclose(draw_scores(50, 8), first)


def test_the_same_twin_is_turned_by_each_seed_and_each_remainder_is_another_twin() -> None:
    first, again, other = (FAMILY.build("twin/resample", seed) for seed in (0, 15, 1))
    assert first.oracle().sum() > 0
    logits = [problem.arguments[0](first.arguments[1]) for problem in (first, again, other)]
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(first.arguments[0].W_E, again.arguments[0].W_E)
    assert not torch.allclose(logits[0], logits[2], atol=0.1)


@pytest.mark.slow
def test_with_the_mean_all_prompts_are_given_and_the_corrupt_ones_are_the_same() -> None:
    _, clean, corrupt, *_ = FAMILY.build("forge/mean", 0).arguments
    assert {tuple(row) for row in clean.tolist()} == {tuple(row) for row in corrupt.tolist()}
    assert len(clean) == len({tuple(row) for row in clean.tolist()})


@pytest.mark.slow
def test_trivial_scores_lose() -> None:
    means = measure_means("circuit", 4, ("forge/zero", "forge/resample"))
    data_free = [name for name in FREE if name != "names_learned"]  # that has seen other truths
    check_margins("circuit", means, tuple(data_free))
