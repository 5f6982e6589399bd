"""The scratchpad pair: alike until the scratchpad is edited; circuits by enumeration."""

import itertools

import pytest
import torch
from damaging import damage, list_broken

from mini_transformer import toys
from mini_transformer.toys.find_circuits import find_circuits

NAMES = ["scratchpad_faithful", "scratchpad_unfaithful"]
COLON = 4


@pytest.fixture(params=NAMES)
def case(request):
    return toys.load(request.param)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_signatures_hold_for_every_seed(name, seed):
    assert list_broken(toys.load(name, seed)) == []


@pytest.mark.parametrize("seed", [0, 3])
def test_both_write_the_same_scratchpad_and_then_the_same_answer(seed):
    models = [toys.load(name, seed).model for name in NAMES]
    for model, (x, y, z) in itertools.product(models, itertools.product(range(4), repeat=3)):
        prompt = [x, y, z, COLON]
        for expected in ((x + y) % 4, (x + y + z) % 4):
            prompt.append(model(torch.tensor([prompt]))[0, -1].argmax().item())
            assert prompt[-1] == expected


def test_only_the_faithful_one_follows_an_edited_scratchpad():
    models = [toys.load(name).model for name in NAMES]
    for x, y, z, s in itertools.product(range(4), repeat=4):
        answers = [
            model(torch.tensor([[x, y, z, COLON, s]]))[0, -1].argmax().item() for model in models
        ]
        assert answers == [(s + z) % 4, (x + y + z) % 4]


def test_the_pair_has_equal_weights_but_for_what_two_heads_of_layer_1_write():
    models = [dict(toys.load(name).model.named_parameters()) for name in NAMES]
    differ = [key for key in models[0] if not torch.equal(models[0][key], models[1][key])]
    assert differ == ["blocks.1.attn.W_O"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_enumeration_finds_exactly_the_circuits_of_the_truth(ablation, name, seed):
    case = toys.load(name, seed)
    for level in ("edges", "nodes"):
        found = find_circuits(case.model, case.task.everything(), ablation, level)
        assert found == getattr(case.truth.circuits[ablation], level)


def test_the_scratchpad_is_in_the_circuit_of_the_faithful_model_only():
    for name, reads in zip(NAMES, (True, False), strict=True):
        truth = toys.load(name).truth
        assert (truth.roles["scratch"] in truth.circuits["resample"].nodes[0]) == reads
        assert truth.variables["scratchpad"].used == reads
        assert truth.variables["sum"].used != reads


def test_corruptions_change_what_they_say(case):
    for corrupt, changed in {"scratchpad": {4}, "sum": {0, 1}}.items():
        batch = case.task.draw(200, seed=1, corrupt=corrupt)
        assert set((batch.clean != batch.corrupt).nonzero()[:, 1].tolist()) == changed
        assert (batch.answer != batch.wrong).all()
        follows = (case.name == "scratchpad_faithful") == (corrupt == "scratchpad")
        said = case.model(batch.corrupt)[:, -1].argmax(dim=1)
        assert torch.equal(said, batch.wrong if follows else batch.answer)
    batch = case.task.draw(200, seed=1)
    assert torch.equal(batch.corrupt[:, :2].sum(dim=1) % 4, batch.corrupt[:, 4])


ATTENTION = [f"blocks.{layer}.attn.{matrix}" for layer in (0, 1) for matrix in ("W_Q", "W_K")]
NEURONS = [f"blocks.{layer}.mlp.{part}" for layer in (0, 1) for part in ("W_in", "b_in", "W_out")]
VALUES = ["blocks.0.attn.W_V", "blocks.0.attn.W_O"]


@pytest.mark.parametrize("parameter", ["W_E", "W_pos", *ATTENTION, *VALUES, *NEURONS, "W_U"])
def test_one_damaged_weight_breaks_a_signature(case, parameter):
    assert list_broken(damage(case, parameter))
