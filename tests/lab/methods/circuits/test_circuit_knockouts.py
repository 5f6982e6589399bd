"""Completeness and minimality.

Checked against: one hooked forward per knockout, all subsets, and the enumerated circuits of
hand-set models.
"""

import itertools

import pytest
import torch
from hooked_circuits import draw_edges, edges_between, metric, share_hooked

from mini_transformer import toys
from mini_transformer.edges import list_edges, list_writers
from mini_transformer.methods import (
    find_incompleteness,
    list_knockouts,
    measure_incompleteness,
    measure_minimality,
)

ABLATIONS = ["zero", "mean", "resample"]
SMALL = ["boolean_and", "boolean_or", "boolean_xor", "induction_by_hand"]


def load(name, ablation, n=24):
    case = toys.load(name)
    batch = case.task.draw(n, corrupt=case.truth.circuits[ablation].corrupt)
    return (
        case.model,
        batch.clean,
        batch.corrupt,
        lambda logits: batch.correct(logits).float(),
    ), case.truth


@pytest.fixture(params=["edges", "nodes"])
def circuit(request, model):
    """Pick some edges or nodes, and say which edges are left when some names are kept."""
    if request.param == "edges":
        return draw_edges(model, seed=5, share=0.1)[:3], list_edges(model), set
    return (
        ["input", "a0.h1", "a1.h2"],
        list_writers(model),
        lambda nodes: edges_between(model, nodes),
    )


def subsets(parts):
    return [
        frozenset(out)
        for size in range(len(parts) + 1)
        for out in itertools.combinations(parts, size)
    ]


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_incompleteness_is_how_differently_circuit_and_model_take_a_knockout(
    model, clean, corrupt, circuit, ablation
):
    parts, whole, edges_of = circuit
    found = measure_incompleteness(model, clean, corrupt, metric, parts, ablation)
    assert set(found) == set(subsets(parts))
    left = [
        edges_of([name for name in names if name not in out])
        for names in (parts, whole)
        for out in found
    ]
    shares = share_hooked(model, clean, corrupt, metric, left, ablation)
    ours, rest = shares[: len(found)], shares[len(found) :]
    assert list(found.values()) == pytest.approx(
        [abs(a - b) for a, b in zip(ours, rest, strict=True)], abs=1e-6
    )


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_minimality_is_the_most_that_a_part_changes_after_any_knockout(
    model, clean, corrupt, circuit, ablation
):
    parts, _, edges_of = circuit
    found = measure_minimality(model, clean, corrupt, metric, parts, ablation)
    kept = {out: edges_of([name for name in parts if name not in out]) for out in subsets(parts)}
    value = dict(
        zip(kept, share_hooked(model, clean, corrupt, metric, kept.values(), ablation), strict=True)
    )
    assert list(found) == parts
    for part in parts:
        changes = [abs(value[out | {part}] - value[out]) for out in value if part not in out]
        assert found[part] == pytest.approx(max(changes), abs=1e-6)
    only = measure_minimality(
        model, clean, corrupt, metric, parts, ablation, knockouts=[(), parts[:1]]
    )
    for part in parts[1:]:
        changes = [abs(value[out | {part}] - value[out]) for out in map(frozenset, ([], parts[:1]))]
        assert only[part] == pytest.approx(max(changes), abs=1e-6)


def test_greedy_knockouts_take_out_the_part_that_opens_the_widest_gap(model, clean, corrupt):
    parts = draw_edges(model, seed=5, share=0.1)[:4]
    gaps = measure_incompleteness(model, clean, corrupt, metric, parts)
    out = frozenset()
    expected = {frozenset(): gaps[frozenset()]}
    for _ in range(3):
        out = max((out | {part} for part in parts if part not in out), key=gaps.get)
        expected[out] = gaps[out]
    found = find_incompleteness(model, clean, corrupt, metric, parts, steps=3)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected)
    assert (
        len(find_incompleteness(model, clean, corrupt, metric, parts)) == 5
    )  # not more than there is to take out


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_the_circuits_of_models_that_do_it_once_are_complete_and_minimal(name, ablation):
    arguments, truth = load(name, ablation)
    for circuit in (
        truth.circuits[ablation].edges[0],
        truth.circuits[ablation].nodes[0] - {"logits"},
    ):
        knockouts = list_knockouts(circuit, most=128)
        assert max(measure_incompleteness(*arguments, circuit, ablation, knockouts).values()) == 0
        assert (
            max(find_incompleteness(*arguments, sorted(circuit), ablation, steps=2).values()) == 0
        )
        assert min(measure_minimality(*arguments, circuit, ablation, [()]).values()) > 0.1


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_one_copy_of_two_is_incomplete_and_both_are_not_minimal_where_one_is_enough(ablation):
    arguments, truth = load("boolean_redundant_or", ablation)
    both = truth.circuits["resample"].nodes[0] - {"logits"}
    copy = both - {"m1"}
    gaps = measure_incompleteness(*arguments, copy, ablation)
    assert max(measure_incompleteness(*arguments, both, ablation).values()) == 0
    changes = measure_minimality(*arguments, both, ablation, [()])
    if ablation == "zero":  # either is enough
        assert gaps[frozenset()] == 0
        assert gaps[frozenset({"m0"})] > 0.5
        assert changes["m0"] == changes["m1"] == 0
        assert (
            min(measure_minimality(*arguments, both, ablation).values()) > 0.1
        )  # after the other was taken out
    else:
        assert gaps[frozenset()] > 0.1
        assert min(changes.values()) > 0.1


def test_a_backup_outside_the_circuit_shows_only_after_a_knockout():
    arguments, truth = load("backup_head", "zero")
    nodes = sorted(truth.circuits["zero"].nodes[0] - {"logits"})
    mover = truth.roles["mover"]
    gaps = measure_incompleteness(*arguments, nodes, "zero")
    assert gaps[frozenset()] == 0
    assert gaps[frozenset({mover})] == 1
    assert max(find_incompleteness(*arguments, nodes, "zero", steps=1).values()) == 1
    for ablation in ("mean", "resample"):  # the mover's average keeps it quiet
        assert max(measure_incompleteness(*arguments, nodes, ablation).values()) == 0


def test_an_idle_edge_changes_nothing_after_any_knockout():
    arguments, truth = load("induction_by_hand", "resample")
    circuit = sorted(truth.circuits["resample"].edges[0])
    idle = f"input->{truth.roles['silent']}<v>"
    changes = measure_minimality(*arguments, [*circuit, idle])
    assert changes.pop(idle) == 0
    assert min(changes.values()) > 0.5


def test_all_subsets_are_listed_if_they_are_few_and_drawn_from_a_seed_if_not():
    assert set(list_knockouts(["a", "b", "c"], most=8)) == set(subsets("abc"))
    assert list_knockouts("m0") == [frozenset(), frozenset(["m0"])]
    names = [str(i) for i in range(12)]
    drawn = list_knockouts(names, most=1000)
    assert drawn[:13] == [frozenset(), *(frozenset([name]) for name in sorted(names))]
    assert len(drawn) == 1000
    assert sum(map(len, drawn[13:])) / len(drawn[13:]) == pytest.approx(6, abs=0.3)
    state = torch.random.get_rng_state()
    assert list_knockouts(names, most=1000) == drawn
    assert list_knockouts(names, most=1000, seed=1) != drawn
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list_knockouts(names, most=5) == drawn[:5]
