"""Trained twins show what is claimed of them: by their signatures, and by hooks written by hand."""

import copy
import dataclasses
import time
from itertools import product

import brute_force
import pytest
import torch
from damaging import list_broken

from mini_transformer import checkpoints, forge
from mini_transformer.edges import list_writers
from mini_transformer.forge.program import refuse
from mini_transformer.forge.twins import FOLDER, PROGRAMS, interchange
from mini_transformer.methods import swap_subspace
from mini_transformer.toys.verify import verify_case

TWINS = forge.list_twins()
ids = [f"{name}-{seed}" for name, seed in TWINS]
each_twin = pytest.mark.parametrize(("name", "seed"), TWINS, ids=ids)


def test_there_are_enough_and_they_are_small() -> None:
    assert len(TWINS) >= 12
    assert len({name for name, _ in TWINS}) >= 4
    assert sum(path.stat().st_size for path in FOLDER.glob("twin_*")) < 2e6
    assert [(case.name, case.seed) for case in forge.twins()] == [
        (f"twin_{name}", seed) for name, seed in TWINS
    ]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_forge_would_not_refuse_the_program(name: str) -> None:
    assert refuse(PROGRAMS[name]) is None


@each_twin
def test_every_claim_is_measured_again(name: str, seed: int) -> None:
    case = forge.load_twin(name, seed)
    rows = verify_case(case)
    assert [row for row in rows if not row.ok] == []
    assert sum(row.signature.startswith("interchange accuracy") for row in rows) == len(
        case.truth.variables
    )


@pytest.mark.slow
@each_twin
def test_claims_hold_on_other_pairs_of_prompts(name: str, seed: int) -> None:
    for data_seed in range(1, 9):
        case = dataclasses.replace(forge.load_twin(name, seed), data_seed=data_seed)
        assert list_broken(case) == []


@each_twin
def test_noise_in_the_weights_is_noticed(name: str, seed: int) -> None:
    case = forge.load_twin(name, seed)
    model = copy.deepcopy(case.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * weight.std() * torch.randn(weight.shape, generator=generator)
    damaged = dataclasses.replace(case, model=model)
    assert not all(signature.holds(damaged) for signature in case.truth.signatures.values())


@each_twin
def test_the_circuit_answers_alone_and_needs_each_edge_by_hooks_written_by_hand(
    name: str, seed: int
) -> None:
    case = forge.load_twin(name, seed)
    (circuit,) = (sorted(one) for one in case.truth.circuits["resample"].edges)
    batch = case.task.draw(48, seed=3)
    everything = ["->".join(edge) for edge in brute_force.name_edges(case.model)]

    def answers(edges: list[str]) -> bool:
        on = [f"{edge} @{position}" for edge in edges for position in range(batch.clean.shape[1])]
        runs = case.model, batch.clean, batch.corrupt, batch.answer
        return brute_force.answers_at(*runs, "resample", on)

    assert answers(circuit)
    for edge in circuit:
        assert not answers([other for other in circuit if other != edge])
        assert not answers([other for other in everything if other != edge])


def test_effects_outside_are_those_of_hooks_written_by_hand() -> None:
    """The largest of each node at each position, one by one; of edges, each and all of them."""
    case = forge.load_twin("join", 2)
    model = case.model
    plan = checkpoints.load(FOLDER / "twin_join-2.safetensors").facts["plan"]
    batch = case.task.sample(32, case.make_generator(1), "any")
    own = batch.logit_difference(model(batch.clean))

    def measure(logits: torch.Tensor) -> float:
        return ((batch.logit_difference(logits) - own).abs() / own.mean()).mean().item()

    inside = {(plan["nodes"][step], at) for step, places in plan["at"].items() for at in places}
    pairs = product(list_writers(model)[1:], range(batch.clean.shape[1]))
    effects = [
        measure(interchange(model, batch.clean, batch.corrupt, *pair))
        for pair in pairs
        if pair not in inside
    ]
    found = case.truth.signatures["effect of nodes outside"].measure(case)
    assert found == pytest.approx(max(effects), abs=1e-5)

    edges = brute_force.name_edges(model)
    outside = [edge for edge in edges if "->".join(edge) not in plan["circuit"]]
    off = brute_force.find_off(model, batch.clean, batch.corrupt, "resample")
    effects = []
    for some in [outside, *([edge] for edge in outside)]:
        on = {edge: torch.ones(32) for edge in edges if edge not in some}
        with torch.no_grad():
            logits = brute_force.run(model, batch.clean, off, on)
        effects.append(measure(logits.unsqueeze(1).expand(-1, batch.clean.shape[1], -1)))
    found = case.truth.signatures["effect of edges outside"].measure(case)
    assert max(effects) - 1e-5 < found < 2 * max(effects)  # random sets of them are measured, too


@each_twin
def test_a_variable_can_be_interchanged_in_its_subspace_alone(name: str, seed: int) -> None:
    case = forge.load_twin(name, seed)
    batch = case.task.draw(200, seed=4)
    for variable_name, variable in case.truth.variables.items():
        swapped = (batch.clean, batch.corrupt, variable.subspace, variable.site)
        logits = swap_subspace(case.model, *swapped, variable.position)
        other = case.program.run(batch.corrupt)[variable_name]
        expected = case.program.run(batch.clean, {variable_name: other})[case.program.answer]
        assert (logits[:, -1].argmax(dim=1) == expected).float().mean() >= 0.99


@each_twin
def test_every_part_has_a_role_and_every_variable_a_node_of_the_circuit(
    name: str, seed: int
) -> None:
    case = forge.load_twin(name, seed)
    assert set(case.truth.roles.values()) == set(list_writers(case.model)) - {"input"}
    serving = {node for role, node in case.truth.roles.items() if not role.startswith("decoy")}
    assert serving | {"input", "logits"} == case.truth.circuits["resample"].nodes[0]
    assert list(case.truth.variables) == list(case.program.steps)[:-1]


def test_a_twin_is_loaded_at_once() -> None:
    forge.load_twin(*TWINS[0])
    for name, seed in TWINS:
        times = []
        for _ in range(3):
            start = time.process_time()
            forge.load_twin(name, seed)
            times.append(time.process_time() - start)
        assert min(times) < 0.05


def interchange_in_program(name: str, variable: str, step: int) -> list[tuple[int, ...]]:
    program = PROGRAMS[name]
    rows = []
    for clean, corrupt in product(program.prompts[::step], program.prompts[::step]):
        given = {variable: program.run(corrupt[None])[variable]}
        answer = program.run(clean[None], given)[program.answer].item()
        rows.append((clean.tolist(), corrupt.tolist(), answer))
    return rows


def test_what_the_program_answers_with_an_interchanged_variable_by_plain_arithmetic() -> None:
    for clean, corrupt, answer in interchange_in_program("add", "x0_3", 3):
        assert answer == (corrupt[0] + clean[2]) % 4
    for clean, corrupt, answer in interchange_in_program("chain", "v0", 4):
        assert answer == int((corrupt[0] + corrupt[1]) % 3 + clean[3] >= 3)


def test_an_interchange_with_itself_changes_nothing_and_elsewhere_hardly_anything() -> None:
    case = forge.load_twin("chain")
    prompts = PROGRAMS["chain"].prompts
    node = case.truth.roles["look_up 0"]
    with torch.no_grad():
        own = case.model(prompts)
    torch.testing.assert_close(interchange(case.model, prompts, prompts, node, 1), own)
    other = interchange(case.model, prompts, prompts.roll(1, dims=0), node, 0)[:, -1]
    assert (other - own[:, -1]).abs().max() < 0.1


def test_a_twin_that_is_not_there_is_told() -> None:
    with pytest.raises(KeyError, match="no twin is called 'ad'; nearest: 'add'"):
        forge.load_twin("ad")
    with pytest.raises(KeyError, match=r"no twin add with seed 9 is shipped \(seeds: 0, 1"):
        forge.load_twin("add", 9)
