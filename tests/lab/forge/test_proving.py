"""Circuits by proof against circuits by trying all sets."""

import pytest
import torch
from test_building import draw

from mini_transformer import toys
from mini_transformer.forge.case import SLACKS, make_task
from mini_transformer.forge.proving import Undecided, Value, prove
from mini_transformer.toys.find_circuits import find_circuits, list_live_edges

ABLATIONS = ("zero", "mean", "resample")


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("redundancy", [None, "second way"])
def test_the_proof_finds_what_the_search_through_all_subsets_finds(
    ablation: str, redundancy: str | None
) -> None:
    for seed in range(4):
        program, _, made = draw(seed, 1, redundancy, most=2)
        assert len(list_live_edges(made.model)) <= 15
        batch = make_task(program, torch.arange(program.layout.d_vocab)).everything()
        proof = prove(made.model, batch, ablation, SLACKS)
        found = find_circuits(made.model, batch, ablation)
        assert {frozenset(s.edge for s in one) for one in proof.circuits} == set(found)
        assert proof.slack in SLACKS


def test_a_slack_that_is_too_large_decides_nothing() -> None:
    program, _, made = draw(0, 1)
    batch = make_task(program, torch.arange(program.layout.d_vocab)).everything()
    with pytest.raises(Undecided):
        prove(made.model, batch, "zero", [3.0])


def test_a_value_covers_everything_within_its_radius() -> None:
    generator = torch.Generator().manual_seed(0)
    centre, weight = torch.randn(5, generator=generator), torch.randn(5, 3, generator=generator)
    radius = torch.rand(5, generator=generator)
    through = Value(centre, radius).through(weight)
    perhaps = Value(centre, radius).perhaps()
    for _ in range(50):
        inside = centre + radius * (2 * torch.rand(5, generator=generator) - 1)
        assert ((inside @ weight - through.centre).abs() <= through.radius + 1e-6).all()
        for one in (inside, torch.zeros(5)):
            assert ((one - perhaps.centre).abs() <= perhaps.radius + 1e-6).all()


def test_the_task_of_a_program_is_a_task() -> None:
    program, _, _ = draw(0)
    task = make_task(program, torch.arange(program.layout.d_vocab))
    assert isinstance(task, toys.Task)
    batch = task.draw(20, seed=1)
    assert (batch.answer != batch.wrong).all()
    assert torch.equal(program.compute(batch.clean), batch.answer)
    assert torch.equal(program.compute(batch.corrupt), batch.wrong)
