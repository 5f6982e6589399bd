"""Scores of edges against circuits: by counting pairs and thresholds one at a time, and by what
must and must not change a score.
"""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_transformer.board.metrics.circuit import (
    compare_sets,
    keep_highest,
    measure_auprc,
    measure_auroc,
    score_circuit,
)

few = settings(deadline=None, max_examples=20, derandomize=True)


@st.composite
def draw_scores(draw):
    """Scores with many ties, and a circuit that is neither empty nor everything."""
    n = draw(st.integers(3, 14))
    scores = torch.tensor(draw(st.lists(st.integers(-2, 2), min_size=n, max_size=n))).float()
    truth = torch.tensor(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    truth[0], truth[1] = True, False
    return scores, truth


def count_pairs(scores, truth):
    """AUROC as the share of pairs (an edge in, an edge out) in the right order, ties one half."""
    inside, outside = scores[truth].tolist(), scores[~truth].tolist()
    return sum((a > b) + (a == b) / 2 for a in inside for b in outside) / (
        len(inside) * len(outside)
    )


def add_up_precision(scores, truth):
    """AUPRC threshold by threshold, from the highest score down."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= threshold
        hits = int((kept & truth).sum())
        total += hits / int(kept.sum()) * (hits / int(truth.sum()) - recall)
        recall = hits / int(truth.sum())
    return total


@few
@given(draw_scores())
def test_areas_are_those_counted_pair_by_pair_and_threshold_by_threshold(drawn):
    scores, truth = drawn
    assert measure_auroc(scores, truth) == pytest.approx(count_pairs(scores, truth))
    assert measure_auprc(scores, truth) == pytest.approx(add_up_precision(scores, truth))


def test_random_scores_have_half_the_area_within_the_interval_over_seeds():
    truth = torch.arange(60) < 6
    areas = torch.tensor(
        [
            measure_auroc(torch.rand(60, generator=torch.Generator().manual_seed(seed)), truth)
            for seed in range(200)
        ]
    )
    half_width = 1.96 * (areas.std() / 200**0.5).item()
    assert abs(areas.mean().item() - 0.5) < half_width < 0.03
    precisions = [measure_auprc(torch.ones(60), truth), measure_auroc(torch.ones(60), truth)]
    assert precisions == pytest.approx([0.1, 0.5])  # a constant scorer


@few
@given(draw_scores())
def test_every_member_of_the_set_is_right_and_the_union_too(drawn):
    _, first = drawn
    second = first.roll(1)
    members = torch.stack([first, second])
    for member in members:
        found = score_circuit(member.float(), members)
        perfect = {
            name: found[f"{name}_best"]
            for name in ("auroc", "auprc", "precision", "recall", "f1", "distance")
        }
        assert perfect == {
            "auroc": 1,
            "auprc": 1,
            "precision": 1,
            "recall": 1,
            "f1": 1,
            "distance": 0,
        }
    if not (first | second).all():
        assert score_circuit((first | second).float(), members)["auroc_union"] == 1


@few
@given(draw_scores(), st.randoms(use_true_random=False))
def test_corrupting_the_oracle_edge_by_edge_never_improves_it(drawn, order):
    _, truth = drawn
    scores, edges = truth.float(), list(range(len(truth)))
    order.shuffle(edges)
    worst = score_circuit(scores, truth[None])
    for edge in edges:
        scores[edge] = 1 - scores[edge]
        now = score_circuit(scores, truth[None])
        assert now["auroc_best"] <= worst["auroc_best"] + 1e-9
        assert now["distance_best"] >= worst["distance_best"] or (scores == scores[0]).all()
        assert now["auprc_best"] < 1
        worst = now


@few
@given(draw_scores(), st.randoms(use_true_random=False))
def test_other_names_for_the_edges_change_nothing(drawn, order):
    scores, truth = drawn
    members = torch.stack([truth, truth.roll(1)])
    edges = list(range(len(truth)))
    order.shuffle(edges)
    assert score_circuit(scores[edges], members[:, edges]) == pytest.approx(
        score_circuit(scores, members)
    )
    assert score_circuit(scores, members.flip(0)) == pytest.approx(score_circuit(scores, members))


def test_where_every_edge_is_in_some_member_there_is_no_union_to_find():
    members = torch.tensor([[True, False, True], [False, True, True]])
    assert sorted(score_circuit(torch.tensor([1.0, 0.0, 1.0]), members)) == sorted(
        f"{name}_best" for name in ("auroc", "auprc", "precision", "recall", "f1", "distance")
    )


@few
@given(draw_scores())
def test_only_the_order_of_the_scores_counts(drawn):
    scores, truth = drawn
    stretched = torch.where(scores == 2, torch.inf, scores.exp())
    assert score_circuit(stretched, truth[None]) == pytest.approx(
        score_circuit(scores, truth[None])
    )


def test_a_union_has_edges_too_many_for_the_best_member_and_a_member_too_few_for_the_union():
    members = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]).bool()
    one, both = (
        score_circuit(scores, members)
        for scores in (members[0].float(), members.any(dim=0).float())
    )
    assert (one["recall_best"], one["recall_union"], one["distance_union"]) == (1, 0.5, 2)
    assert (both["precision_best"], both["precision_union"], both["distance_best"]) == (0.5, 1, 2)


def test_sets_are_kept_as_they_are_and_ties_at_the_cut_are_kept_together():
    assert keep_highest(torch.tensor([1.0, 1, 1, 0]), 2).tolist() == [True, True, True, False]
    assert keep_highest(torch.tensor([0.0, 1, 0, 0]), 2).tolist() == [False, True, False, False]
    assert not keep_highest(torch.ones(3), 2).any()  # a constant says nothing


def test_sets_are_compared_as_in_a_loop():
    order = random.Random(0)
    for _ in range(20):
        kept, truth = ([order.random() < 0.4 for _ in range(9)] for _ in range(2))
        both = list(zip(kept, truth, strict=True))
        hits, extra, missed = (
            both.count(pair) for pair in ((True, True), (True, False), (False, True))
        )
        found = compare_sets(torch.tensor(kept), torch.tensor(truth))
        assert found["distance"] == extra + missed
        assert found["precision"] == (hits / (hits + extra) if hits + extra else 0)
        assert found["recall"] == (hits / (hits + missed) if hits + missed else 0)
        assert found["f1"] == (
            2 * hits / (2 * hits + extra + missed) if hits + extra + missed else 0
        )
