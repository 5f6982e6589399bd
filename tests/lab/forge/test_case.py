"""A forged case is a case like any other."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mini_transformer import checkpoints, cli, forge
from mini_transformer.forge.case import Knobs
from mini_transformer.toys.verify import verify_case

ROLES = "fetch mark previous match look_up copy backup anti silent unread decoy"
ROLES = {*ROLES.split(), "second way", "second task", "constant pair"}


@pytest.fixture(scope="module")
def case() -> forge.ForgedCase:
    return forge.make(4, redundancy="second way", positions="fixed")


@pytest.mark.parametrize(
    "knobs",
    [{"redundancy": "backup", "size": 2}, {"positions": "drawn"}, {"decoys": None, "tasks": 0}],
)
def test_every_claim_is_measured_again(knobs: dict) -> None:
    rows = verify_case(forge.make(2, **knobs))
    assert [row for row in rows if not row.ok] == []
    assert len(rows) > 10


def test_the_same_arguments_give_the_same_case_and_the_global_seed_stays() -> None:
    state = torch.get_rng_state()
    one, same, other = (forge.make(seed, size=1) for seed in (3, 3, 4))
    assert torch.equal(one.model.W_E, same.model.W_E)
    assert one.truth.circuits == same.truth.circuits
    assert one.picture == same.picture != other.picture
    assert torch.equal(torch.get_rng_state(), state)


def test_it_says_what_it_is(case: forge.ForgedCase) -> None:
    text = repr(case)
    assert "forged_4 (seed 4)" in text
    for name in case.program.steps:
        assert f"{name} = " in text
    assert {role.rsplit(" ", 1)[0] for role in case.truth.roles} <= ROLES
    assert set(case.truth.roles.values()) <= {
        f"a{layer}.h{head}"
        for layer in range(case.model.config.n_layers)
        for head in range(case.model.config.n_heads)
    } | {f"m{layer}" for layer in range(case.model.config.n_layers)}


def test_a_second_way_is_enough_with_zeros_and_both_are_needed_when_one_is_resampled(
    case: forge.ForgedCase,
) -> None:
    zero, resample = case.truth.circuits["zero"], case.truth.circuits["resample"]
    assert len(zero.edges) > 1
    assert len(resample.edges) == 1
    second = case.truth.roles["second way 0"]
    assert any(edge.startswith(f"{second}->") for edge in resample.edges[0])


def test_circuits_by_position_are_those_by_edge_at_their_places(case: forge.ForgedCase) -> None:
    for ablation, found in case.truth.by_position.items():
        edges = {frozenset(name.split(" @")[0] for name in circuit) for circuit in found.edges}
        assert edges == set(case.truth.circuits[ablation].edges)


@pytest.mark.parametrize("role", ["fetch 0", "look_up 0", "second way 0"])
def test_noise_in_one_component_breaks_a_signature(case: forge.ForgedCase, role: str) -> None:
    node = case.truth.roles[role]
    model = copy.deepcopy(case.model)
    block = model.blocks[int(node[1])]
    with torch.no_grad():
        weight = block.mlp.W_out if node[0] == "m" else block.attn.W_O[int(node.split("h")[1])]
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        weight += 0.1 * weight.std() * noise
    damaged = dataclasses.replace(case, model=model)
    assert not all(signature.holds(damaged) for signature in case.truth.signatures.values())
    assert all(signature.holds(case) for signature in case.truth.signatures.values())


def test_hardly_a_weight_is_zero_and_logits_are_those_of_the_plain_construction() -> None:
    for case in forge.many(5, seed=1):
        signatures = case.truth.signatures
        assert signatures["share of weights in use"].measure(case) > 0.95
        assert signatures["difference from the plain construction"].measure(case) < 1e-4


def test_without_a_disguise_the_same_program_is_there_to_be_read() -> None:
    plain = forge.make(0, size=1, hidden=False)
    assert plain.truth.signatures["share of weights in use"].measure(plain) < 0.6
    assert plain.program.layout.names == plain.task.token_names


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": 9}, "size is 9"),
        ({"redundancy": "triple"}, "redundancy is 'triple'"),
        ({"positions": "free"}, "positions is 'free'"),
        ({"tasks": 6}, "tasks is 6"),
        ({"decoys": 9}, "decoys is 9"),
        ({"saturation": 3}, "saturation is 3"),
    ],
)
def test_impossible_knobs_are_told(knobs: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Knobs(**knobs)


@pytest.mark.parametrize("seed", [-1, True])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(ValueError, match="seed is"):
        forge.make(seed)


def test_the_command_prints_the_case_and_writes_the_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    ran = CliRunner().invoke(cli.app, ["forge", "--seed", "3", "--size", "1", "--out", str(file)])
    case = forge.make(3, size=1)
    assert ran.exit_code == 0
    assert "roles:" in ran.output
    for ablation, found in case.truth.circuits.items():
        assert f"{ablation}: {len(found.edges)} minimal circuits" in ran.output
    assert torch.equal(checkpoints.load(file).model.W_E, case.model.W_E)
