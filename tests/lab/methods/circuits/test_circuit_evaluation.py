"""Faithfulness and its areas.

Checked against: one hooked forward per circuit, areas summed by hand, and the enumerated circuits
of hand-set models.
"""

import pytest
import torch
from hooked_circuits import draw_edges, edges_between, metric, share_hooked

from mini_transformer import toys
from mini_transformer.edges import EdgeScores, list_edges, list_writers, mask_of
from mini_transformer.methods import (
    FaithfulnessCurve,
    measure_faithfulness,
    measure_faithfulness_curve,
)

ABLATIONS = ["zero", "mean", "resample"]
TRUTHS = [
    (name, ablation)
    for name in (
        "boolean_and",
        "boolean_or",
        "boolean_xor",
        "boolean_redundant_or",
        "backup_head",
        "induction_by_hand",
    )
    for ablation in ABLATIONS
]


def load(name, ablation, n=64):
    """Load a case, prompts corrupted as its truth asks, and a metric that marks right answers."""
    case = toys.load(name)
    batch = case.task.draw(n, corrupt=case.truth.circuits[ablation].corrupt)
    return case, batch, lambda logits: batch.correct(logits).float()


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_faithfulness_is_what_hooked_runs_keep_of_the_metric(model, clean, corrupt, ablation):
    circuits = [draw_edges(model, seed) for seed in range(3)]
    nodes = ["a0.h1", "input", "a1.h0", "logits", *(["m0"] if model.config.d_mlp else [])]
    found = measure_faithfulness(
        model, clean, corrupt, metric, [*circuits, nodes, [], list_edges(model)], ablation
    )
    kept = [*circuits, edges_between(model, nodes)]
    expected = share_hooked(model, clean, corrupt, metric, kept, ablation)
    torch.testing.assert_close(found, torch.tensor([*expected, 0.0, 1.0], dtype=found.dtype))


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("level", ["edges", "nodes"])
def test_a_curve_has_every_circuit_of_highest_scores_and_its_areas_are_sums_of_steps(
    model, clean, corrupt, ablation, level
):
    names = list_edges(model) if level == "edges" else list_writers(model)
    scores = (
        torch.randint(5, (len(names),), generator=torch.Generator().manual_seed(3)) / 2 - 1
    )  # many ties
    curve = measure_faithfulness_curve(model, clean, corrupt, metric, scores, ablation)
    size = 0.0
    f = 0.0
    points = [(0.0, 0.0)]
    areas = [0.0, 0.0, 0.0, 0.0]
    named = list(zip(names, scores.tolist(), strict=True))
    circuits = [
        {name for name, score in named if score >= x}
        for x in sorted(set(scores.tolist()), reverse=True)
    ]
    edges = circuits if level == "edges" else [edges_between(model, kept) for kept in circuits]
    for kept, share in zip(
        circuits, share_hooked(model, clean, corrupt, metric, edges, ablation), strict=True
    ):
        heights = [f, min(1, max(0, f)), abs(1 - f), min(1, abs(1 - f))]
        areas = [
            area + (len(kept) / len(names) - size) * y
            for area, y in zip(areas, heights, strict=True)
        ]
        size, f = len(kept) / len(names), share
        points.append((size, f))
    found = torch.stack([curve.share, curve.faithfulness], dim=1)
    torch.testing.assert_close(found, torch.tensor(points, dtype=found.dtype))
    assert [curve.cpr(False), curve.cpr(), curve.cmd(False), curve.cmd()] == pytest.approx(areas)


@pytest.mark.parametrize(("name", "ablation"), TRUTHS)
def test_a_known_circuit_is_faithful_and_ones_without_an_edge_or_at_random_are_not(name, ablation):
    case, batch, right = load(name, ablation)
    truth = case.truth.circuits[ablation]
    known = [*truth.edges, *truth.nodes]
    found = measure_faithfulness(case.model, batch.clean, batch.corrupt, right, known, ablation)
    assert found.tolist() == [1.0] * len(known)
    circuit = sorted(truth.edges[0])
    edges = list_edges(case.model)
    short = [set(circuit) - {edge} for edge in circuit]
    order = [
        torch.randperm(len(edges), generator=torch.Generator().manual_seed(seed))
        for seed in range(10)
    ]
    random = [{edges[i] for i in one[: len(circuit)].tolist()} for one in order]
    random = [edges for edges in random if not any(edges >= one for one in truth.edges)]
    found = measure_faithfulness(
        case.model, batch.clean, batch.corrupt, right, [*short, *random], ablation
    )
    assert len(random) >= 5
    assert found.max() < 1


@pytest.mark.parametrize("name", ["backup_head", "induction_by_hand"])
def test_the_true_order_beats_random_ones_and_the_reversed_one_is_beaten_by_them(name):
    case, batch, right = load(name, "resample")
    mask = mask_of(case.model, case.truth.circuits["resample"].edges[0])
    random = [
        torch.rand(len(mask), generator=torch.Generator().manual_seed(seed)) for seed in range(5)
    ]
    curves = [
        measure_faithfulness_curve(case.model, batch.clean, batch.corrupt, right, scores)
        for scores in (mask, *random, -mask)
    ]
    cpr, cmd = [curve.cpr() for curve in curves], [curve.cmd() for curve in curves]
    size = mask.mean().item()  # the share of edges in the circuit
    assert cpr[0] == pytest.approx(1 - size)
    assert cpr[0] > max(cpr[1:-1]) >= min(cpr[1:-1]) >= cpr[-1] == 0
    assert cmd[0] < min(cmd[1:-1]) <= max(cmd[1:-1]) <= cmd[-1] == 1


def test_scores_that_are_all_the_same_earn_nothing():
    case, batch, right = load("boolean_and", "mean")
    curve = measure_faithfulness_curve(
        case.model, batch.clean, batch.corrupt, right, torch.full((13,), 0.3), "mean"
    )
    assert curve.share.tolist() == curve.faithfulness.tolist() == [0.0, 1.0]
    assert (curve.cpr(), curve.cmd()) == (0, 1)


def test_a_circuit_without_what_says_no_is_praised_without_bounds_and_not_with_them():
    """Published areas have no upper bound, though the ideal is 1.

    OR without the edge that says 0 always says 1, loudly.
    """
    case = toys.load("boolean_or")
    batch = case.task.everything()
    circuit = case.truth.circuits["zero"].edges[0]

    def says_yes(logits):
        return logits[:, -1, 1] - logits[:, -1, 0]

    loud = mask_of(case.model, circuit - {"input->logits"})
    curve = measure_faithfulness_curve(
        case.model, batch.clean, batch.corrupt, says_yes, loud, "zero"
    )
    assert curve.faithfulness.max() > 10
    assert curve.cpr(bounded=False) > 2
    assert curve.cpr() <= 1
    assert curve.cmd(bounded=False) > 2
    assert curve.cmd() == 1  # far too loud is not better than silent


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_bounded_areas_stay_between_0_and_1_for_any_curve(scale):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        share = torch.cat(
            [torch.zeros(1), torch.rand(8, generator=generator).sort().values, torch.ones(1)]
        )
        curve = FaithfulnessCurve(share, scale * torch.randn(10, generator=generator))
        assert 0 <= curve.cpr() <= 1
        assert 0 <= curve.cmd() <= 1
        assert curve.cmd() <= curve.cmd(bounded=False)


def test_one_run_per_mask_gives_the_same_as_many_masks_in_a_run(model, clean, corrupt, monkeypatch):
    circuits = [draw_edges(model, seed) for seed in range(7)]
    together = measure_faithfulness(model, clean, corrupt, metric, circuits)
    monkeypatch.setattr("mini_transformer.batches.BUDGET", 1.0)
    torch.testing.assert_close(
        measure_faithfulness(model, clean, corrupt, metric, circuits), together
    )


def test_a_curve_takes_scores_by_name(model, clean, corrupt):
    scores = EdgeScores(model, torch.linspace(0, 1, len(list_edges(model))))
    named = {edge: score.item() for edge, score in scores.items()}
    first, *others = (
        measure_faithfulness_curve(model, clean, corrupt, metric, form)
        for form in (scores, named, scores.values)
    )
    for other in others:
        assert torch.equal(first.faithfulness, other.faithfulness)
