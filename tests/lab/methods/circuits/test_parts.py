"""Parts of a model: the names in a circuit, and scores of edges or nodes in each of their forms."""

import pytest
import torch
from hooked_circuits import draw_edges, edges_between, metric, share_hooked

from mini_transformer.edges import EdgeScores, list_edges, list_writers, mask_of
from mini_transformer.methods.circuits.parts import (
    mask_parts,
    measure_shares,
    name_parts,
    read_scores,
)


def test_a_circuit_names_edges_or_nodes_each_once(model):
    edges = list_edges(model)
    writers = list_writers(model)
    assert name_parts(model, [edges[2], edges[0], edges[2]]) == ([edges[2], edges[0]], edges)
    assert name_parts(model, {edges[2], edges[0]}) == ([edges[0], edges[2]], edges)
    assert name_parts(model, ["a1.h0", "logits", "input"]) == (["a1.h0", "input"], writers)
    assert name_parts(model, "a1.h0") == (["a1.h0"], writers)
    assert name_parts(model, []) == ([], edges)


def test_nodes_keep_the_edges_between_them(model):
    nodes = ["input", "a0.h1", "a1.h0"]
    assert torch.equal(mask_parts(model, nodes), mask_of(model, edges_between(model, nodes)))
    edges = draw_edges(model, seed=0)
    assert torch.equal(mask_parts(model, edges), mask_of(model, edges))


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_shares_are_those_of_hooked_runs(model, clean, corrupt, ablation):
    circuits = [draw_edges(model, seed) for seed in range(2)]
    masks = [mask_of(model, circuit) for circuit in circuits]
    found = measure_shares(model, clean, corrupt, metric, masks, ablation)
    expected = share_hooked(model, clean, corrupt, metric, circuits, ablation)
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("level", [list_edges, list_writers])
def test_scores_are_read_by_name_and_in_order(model, level):
    names = level(model)
    scores = torch.randn(len(names), generator=torch.Generator().manual_seed(0))
    backwards = dict(reversed(list(zip(names, scores.tolist(), strict=True))))
    forms = [scores, backwards]
    if level is list_edges:
        forms.append(EdgeScores(model, scores))
    for form in forms:
        found, values = read_scores(model, form)
        assert found == names
        assert torch.equal(values, scores)


def test_scores_that_leave_parts_out_or_are_nan_are_refused(model):
    edges = list_edges(model)
    writers = list_writers(model)
    expected = f"expected a number for each of {len(edges)} edges or {len(writers)} nodes"
    nan = float("nan")
    for scores, given in (
        ({edges[0]: 1.0}, "given by 1 names"),
        ({"a0.h0": 1.0, edges[0]: 1.0}, "given by 2 names"),
        ({}, "given by 0 names"),
        (dict.fromkeys(writers, nan), f"given by {len(writers)} names with NaN"),
        (EdgeScores(model, torch.ones(len(edges), 3)), rf"\({len(edges)}, 3\)"),
        (EdgeScores(model, torch.full((len(edges),), nan)), rf"\({len(edges)},\) with NaN"),
        (torch.ones(2), r"\(2,\)"),
    ):
        with pytest.raises(ValueError, match=f"scores are {given}, {expected}"):
            read_scores(model, scores)
    with pytest.raises(ValueError, match=r"nodes: add up those at all positions by scores\.sum"):
        read_scores(model, EdgeScores(model, torch.ones(len(edges), 3)))
