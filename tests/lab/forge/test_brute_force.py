"""The forge's truths against every subset of edges, run one by one with hooks written by hand."""

import random
from collections.abc import Iterator
from typing import Any

import brute_force
import pytest

from mini_transformer import forge

KINDS: tuple[dict[str, Any], ...] = (
    {"size": 1, "tasks": 0, "decoys": None, "redundancy": "second way", "positions": "fixed"},
    {"size": 1, "tasks": 0, "decoys": None, "redundancy": "backup", "positions": "fixed"},
    {"size": 2, "tasks": 0, "decoys": None, "redundancy": "none", "positions": "drawn"},
    {"size": 2, "tasks": 0, "decoys": None, "redundancy": "none", "positions": "fixed"},
)
AMONG_DECOYS: tuple[dict[str, Any], ...] = (
    {"size": 1},
    {"size": 2, "redundancy": "none", "saturation": 8.0},
)


def list_small(kind: int, n: int) -> Iterator[tuple[forge.ForgedCase, list[tuple[str, str]]]]:
    """The first `n` cases of a kind whose edges are few enough."""
    for seed in range(10 * n):
        case = forge.make(seed, **KINDS[kind])
        edges = brute_force.drop_dead_ends(case.model, brute_force.name_edges(case.model))
        if len(edges) <= brute_force.MOST and n:
            n -= 1
            yield case, edges
    assert n == 0


def find_circuits(case: forge.ForgedCase, ablation: str, edges: list, others: Any = ()) -> set:
    batch = case.task.everything()
    batch = batch if ablation == "resample" else batch.distinct()
    rows = case.model, batch.clean, batch.corrupt, batch.answer
    return brute_force.find_minimal(*rows, ablation, edges, others)


def assert_agrees(case: forge.ForgedCase, edges: list[tuple[str, str]]) -> None:
    for ablation, circuits in case.truth.circuits.items():
        found = find_circuits(case, ablation, edges)
        assert found == set(circuits.edges), (case.seed, case.knobs, ablation)


def assert_agrees_among_decoys(case: forge.ForgedCase) -> None:
    """All sets of the circuits' edges and two others, while a random part of the rest is on."""
    rng = random.Random(case.seed)
    everything = brute_force.name_edges(case.model)
    for ablation, circuits in case.truth.circuits.items():
        needed = frozenset().union(*circuits.edges)
        if len(needed) > brute_force.MOST - 2:
            continue
        rest = [edge for edge in everything if "->".join(edge) not in needed]
        rng.shuffle(rest)
        edges = [edge for edge in everything if "->".join(edge) in needed] + rest[:2]
        on = rest[2 : rng.choice([2, len(rest) // 2, len(rest)])]
        found = find_circuits(case, ablation, edges, on)
        assert found == set(circuits.edges), (case.seed, case.knobs, ablation)


@pytest.mark.parametrize("kind", [0, 2])
def test_all_subsets_of_edges_give_the_same_circuits(kind: int) -> None:
    for case, edges in list_small(kind, 1):
        assert_agrees(case, edges)


@pytest.mark.slow
def test_what_else_is_on_does_not_change_the_circuits() -> None:
    assert_agrees_among_decoys(forge.make(0, **AMONG_DECOYS[0]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_all_subsets_of_edges_give_the_same_circuits_in_140_cases(kind: int) -> None:
    for case, edges in list_small(kind, 35):
        assert_agrees(case, edges)


@pytest.mark.slow
@pytest.mark.parametrize("knobs", AMONG_DECOYS)
def test_what_else_is_on_does_not_change_the_circuits_in_60_cases(knobs: dict[str, Any]) -> None:
    for seed in range(30):
        assert_agrees_among_decoys(forge.make(seed, **knobs))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_circuits_by_position_answer_among_decoys_and_need_each_of_their_switches(
    seed: int,
) -> None:
    case = forge.make(seed, size=2, positions="fixed", tasks=1, decoys=1)
    everything = case.task.everything()
    for ablation, circuits in case.truth.by_position.items():
        batch = everything if ablation == "resample" else everything.distinct()
        rows = (case.model, batch.clean, batch.corrupt, batch.answer, ablation)
        assert circuits.edges
        for circuit in circuits.edges:
            assert brute_force.answers_at(*rows, sorted(circuit))
            for switch in circuit:
                assert not brute_force.answers_at(*rows, sorted(circuit - {switch}))


def test_hooks_written_by_hand_leave_the_model_as_it_is_when_all_edges_are_on() -> None:
    import torch

    case = forge.make(0, size=1)
    tokens = case.task.draw(4).clean
    off = brute_force.find_written(case.model, tokens.flip(0))
    on = {edge: torch.ones(4) for edge in brute_force.name_edges(case.model)}
    with torch.no_grad():
        found = brute_force.run(case.model, tokens, off, on)
        torch.testing.assert_close(found, case.model(tokens)[:, -1], rtol=0, atol=1e-4)
        none = brute_force.run(case.model, tokens, off, {})
        torch.testing.assert_close(none, case.model(tokens.flip(0))[:, -1], rtol=0, atol=1e-4)
