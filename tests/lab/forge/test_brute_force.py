"""The forge's truths against every subset of edges, run one by one with hooks written by hand."""

from collections.abc import Iterator

import brute_force
import pytest

from mini_transformer import forge

KINDS = (
    {"size": 1, "tasks": 0, "decoys": 0, "redundancy": "none", "positions": "fixed"},
    {"size": 1, "tasks": 0, "decoys": 0, "redundancy": "none", "saturation": 8.0},
    {"size": 1, "tasks": 0, "decoys": None, "redundancy": "second way", "positions": "fixed"},
    {"size": 1, "tasks": 0, "decoys": None, "redundancy": "backup", "positions": "fixed"},
    {"size": 2, "tasks": 0, "decoys": None, "redundancy": "none", "positions": "drawn"},
    {"size": 2, "tasks": 0, "decoys": None, "redundancy": "none", "positions": "fixed"},
)


def list_small(kind: int, n: int) -> Iterator[tuple[forge.ForgedCase, list[tuple[str, str]]]]:
    """The first `n` cases of a kind whose edges are few enough."""
    seed = 0
    while n:
        case = forge.make(seed, **KINDS[kind])
        seed += 1
        edges = brute_force.drop_dead_ends(case.model, brute_force.name_edges(case.model))
        if len(edges) <= brute_force.MOST:
            n -= 1
            yield case, edges


def assert_agrees(case: forge.ForgedCase, edges: list[tuple[str, str]]) -> None:
    everything = case.task.everything()
    for ablation, circuits in case.truth.circuits.items():
        batch = everything if ablation == "resample" else everything.distinct()
        found = brute_force.find_minimal(
            case.model, batch.clean, batch.corrupt, batch.answer, ablation, edges
        )
        assert found == set(circuits.edges), (case.seed, case.knobs, ablation)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_all_subsets_of_edges_give_the_same_circuits(kind: int) -> None:
    for case, edges in list_small(kind, 1):
        assert_agrees(case, edges)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_all_subsets_of_edges_give_the_same_circuits_in_200_cases(kind: int) -> None:
    for case, edges in list_small(kind, 34):
        assert_agrees(case, edges)


@pytest.mark.parametrize("seed", [0, 3])
def test_circuits_by_position_answer_among_decoys_and_need_each_of_their_switches(
    seed: int,
) -> None:
    case = forge.make(seed, size=2, positions="fixed")
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
