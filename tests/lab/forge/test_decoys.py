"""Decoys do much, and cannot matter."""

import pytest
import torch

from mini_transformer import forge
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs
from mini_transformer.forge.building import STRENGTH
from mini_transformer.forge.case import _Forge
from mini_transformer.forge.proving import measure_margin
from mini_transformer.toys import Batch


@pytest.fixture(scope="module", params=[0, 1, 6])
def case(request: pytest.FixtureRequest) -> forge.ForgedCase:
    return forge.make(request.param)


def run(case: forge.ForgedCase, masks: torch.Tensor, ablation: str) -> torch.Tensor:
    """Logits at the answer of some prompts under each mask."""
    batch = draw(case)
    off = write_outputs(case.model, batch.corrupt, ablation)
    with torch.no_grad():
        parts = [run_edges(case.model, batch.clean, some, off) for some in masks.split(8)]
    return batch.at_answer(torch.cat(parts))


def draw(case: forge.ForgedCase) -> Batch:
    return case.task.draw(12, seed=3)


def test_half_of_the_edges_outside_the_circuits_change_a_logit(case: forge.ForgedCase) -> None:
    edges = list_edges(case.model)
    inside = set().union(*(c for found in case.truth.circuits.values() for c in found.edges))
    outside = torch.tensor([i for i, edge in enumerate(edges) if edge not in inside])
    drawn = torch.randperm(len(outside), generator=torch.Generator().manual_seed(0))[:200]
    masks = torch.ones(1 + len(drawn), len(edges))
    masks[range(1, 1 + len(drawn)), outside[drawn]] = 0.0
    logits = run(case, masks, "zero")
    changed = (logits[1:] - logits[0]).abs().amax(dim=(1, 2)) > 3e-4  # 3 times what rounding does
    assert changed.float().mean() >= 0.5


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_whatever_is_switched_outside_a_circuit_it_answers(
    case: forge.ForgedCase, ablation: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    circuits = case.truth.circuits[ablation].edges
    union = mask_of(case.model, set().union(*circuits))
    drawn = (torch.rand(16, len(union), generator=generator) < 0.5).float() * (1 - union)
    for circuit in circuits:
        mask = mask_of(case.model, circuit)
        margins = measure_margin(run(case, mask + drawn, ablation), draw(case).answer)
        if ablation != "mean":  # a few prompts have another mean
            assert margins.min() > 0.02
        # Nothing outside moves a difference of logits by more than the bound.
        assert margins.amax(dim=0).sub(margins.amin(dim=0)).max() < 2 * 0.22 * STRENGTH


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_whatever_decoys_read_they_add_less_than_the_bound(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only decoys read and write is made as loud as you like, at each layer."""
    built = []
    build_whole = _Forge.build_whole

    def keep(self: _Forge, slack: float) -> tuple:
        found = build_whole(self, slack)
        built.append((slack, found[-1]))
        return found

    monkeypatch.setattr(_Forge, "build_whole", keep)
    case = forge.make(seed, hidden=False)
    slack, whole = built[-1]
    generator = torch.Generator().manual_seed(0)
    tokens = case.task.everything().clean[:8].repeat(64, 1)
    live = whole.stream["live"]

    def shout(value: torch.Tensor, hook: object) -> torch.Tensor:
        return value + 100 * torch.randn(*value.shape[:2], len(live), generator=generator) @ live

    with torch.no_grad():
        hooks = [(f"blocks.{i}.hook_resid_pre", shout) for i in range(len(case.model.blocks))]
        loud = case.model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
        change = loud - case.model(tokens)[:, -1]
    differences = change.amax(dim=1) - change.amin(dim=1)
    assert slack / 4 < differences.max() < slack


def test_without_an_anti_head_the_answer_is_clearer() -> None:
    for seed in range(20):
        case = forge.make(seed, size=2)
        if "anti 0" in case.truth.roles:
            break
    node = case.truth.roles["anti 0"]
    edges = list_edges(case.model)
    mask = torch.tensor([[float(not edge.startswith(f"{node}->")) for edge in edges]])
    batch = case.task.everything()
    with torch.no_grad():
        off = write_outputs(case.model, batch.clean, "zero")
        without = run_edges(case.model, batch.clean, mask, off)[0]
        assert (
            batch.logit_difference(without).mean()
            > batch.logit_difference(case.model(batch.clean)).mean()
        )


def test_a_silent_head_attends_and_writes_nothing_that_is_read() -> None:
    for seed in range(20):
        case = forge.make(seed, size=2)
        if "silent 0" in case.truth.roles:
            break
    node = case.truth.roles["silent 0"]
    layer, head = int(node[1]), int(node.split("h")[1])
    edges = list_edges(case.model)
    masks = torch.ones(2, len(edges))
    masks[1] = torch.tensor([float(not edge.startswith(f"{node}->")) for edge in edges])
    logits = run(case, masks, "zero")
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=3e-4)
    _, cache = case.model.run_with_cache(draw(case).clean)
    assert cache["pattern", layer][:, head].diagonal(-1, 1, 2).min() > 0.9


def test_the_other_task_is_done_when_the_last_token_is_its_own() -> None:
    """Its answers depend on the tokens, where the program's own are not said."""
    case = forge.make(1, hidden=False, redundancy="none", positions="fixed")
    prompts = case.program.layout.list_prompts(task=1)
    with torch.no_grad():
        answers = case.model(prompts)[:, -1].argmax(dim=1)
    assert (answers < case.program.layout.n).float().mean() > 0.9
    assert (answers != case.program.compute(case.program.prompts)).any()
