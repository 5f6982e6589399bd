"""Ranking what is there above what only looks like it, counted pair by pair."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.families.circuit.problems import build
from mini_transformer.board.families.circuit.told_apart import LEAST, tell_apart, watch_order
from mini_transformer.edges import list_edges


def test_told_apart_counts_pairs():
    model = toys.load("boolean_and").model
    edges = list_edges(model)
    scores = torch.randint(4, (len(edges),), generator=torch.Generator().manual_seed(0)).float()
    above, below = set(edges[2:6]), set(edges[8:13])
    by_name, counts = dict(zip(edges, scores.tolist(), strict=True)), []
    for high in above:
        for low in below:
            counts.append((by_name[high] > by_name[low]) + 0.5 * (by_name[high] == by_name[low]))
    assert tell_apart(model, scores, above, below) == pytest.approx(sum(counts) / len(counts))


def test_scores_of_nodes_are_told_apart_by_the_ends_of_the_edges():
    model = toys.load("boolean_and").model
    above, below = {"input->a0.h0<v>"}, {"a0.h1->logits", "input->logits"}
    scores = {"input": 9.0, "a0.h0": 1.0, "a0.h1": 0.0, "m0": 5.0}
    assert tell_apart(model, scores, above, below) == 1
    assert tell_apart(model, {**scores, "a0.h1": 2.0}, above, below) == 0
    assert tell_apart(model, scores, above, {"input->logits"}) is None


def test_by_default_what_is_there_is_compared_with_the_edges_of_no_right_circuit():
    plain = build("boolean_redundant_or/zero")
    edges, right = list_edges(plain.arguments[0]), plain.oracle()
    problem = watch_order(plain, [{edges[int(right.argmax())]}], "It hides.", "it is idle")
    assert problem.measure(right)["told_apart"] == 1
    assert problem.measure(-right)["told_apart"] == 0
    only_rest = torch.where(right == right.max(), 0.0, right)  # other circuits are not below
    assert problem.measure(only_rest)["told_apart"] == 0.5


def test_the_best_of_several_alternatives_counts_and_a_method_falls_up_to_the_limit():
    plain = build("boolean_and/zero")
    edges = list_edges(plain.arguments[0])
    problem = watch_order(plain, [{edges[0]}, {edges[1]}], "It hides.", "it is idle", {edges[2]})
    scores = torch.zeros(len(edges))
    assert problem.measure(scores)["told_apart"] == 0.5
    assert problem.trap.falls(problem.measure(scores))
    scores[1] = 1  # one of the two is enough
    assert problem.measure(scores)["told_apart"] == 1
    assert not problem.trap.falls(problem.measure(scores))
    assert problem.trap.falls({"told_apart": LEAST})
    assert not problem.trap.falls({})
