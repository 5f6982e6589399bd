"""The clock against arithmetic, complex numbers, hooks, and the enumeration of all circuits."""

import cmath
import math

import pytest
import torch
from damaging import damage, list_broken

from mini_transformer import toys
from mini_transformer.toys.find_circuits import find_circuits
from mini_transformer.toys.hand_set import clock_by_hand
from mini_transformer.toys.hand_set.clock_by_hand import LAST, make_case
from mini_transformer.toys.truth import Batch


@pytest.fixture(scope="module")
def case():
    return toys.load("clock_by_hand")


@pytest.mark.parametrize(
    ("p", "frequencies"), [(3, [1]), (5, [2]), (7, [1, 2, 3]), (11, [4, 2]), (13, [5])]
)
def test_the_clock_adds_every_pair_of_numbers(p, frequencies):
    model = clock_by_hand.build_model(p, frequencies)
    for a in range(p):
        said = model(torch.tensor([[a, b, p] for b in range(p)]))[:, LAST].argmax(dim=1)
        assert said.tolist() == [(a + b) % p for b in range(p)]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_signatures_hold_for_every_seed(seed):
    assert list_broken(toys.load("clock_by_hand", seed)) == []


def test_seeds_choose_other_frequencies_and_heads():
    roles = [tuple(toys.load("clock_by_hand", seed).truth.roles.items()) for seed in range(5)]
    assert len(set(roles)) == 5
    assert roles[0] == (
        ("a at 1", "a0.h0"),
        ("b at 1", "a0.h1"),
        ("a at 3", "a0.h2"),
        ("b at 3", "a0.h3"),
    )


def test_the_mlp_writes_the_angles_of_the_sum(case):
    cache = case.model.run_with_cache(
        torch.tensor([[a, b, 11] for a in range(11) for b in range(11)])
    )[1]
    written = cache["mlp_out", 0][:, LAST] @ case.truth.features.directions.T
    for row, values in enumerate(written.tolist()):
        angles = [cmath.exp(2j * math.pi * k * (row // 11 + row % 11) / 11) for k in (1, 3)]
        assert values == pytest.approx(
            [part for z in angles for part in (z.real, z.imag)], abs=1e-4
        )


def test_without_steering_the_answer_fades_with_the_distance_of_the_numbers(case):
    prompts = torch.tensor([[a, (2 * a) % 11, 11] for a in range(11)])  # the distance is a

    def attend_evenly(pattern, hook):
        pattern[:, :, LAST] = 1 / 3

    logits = case.model.run_with_hooks(prompts, fwd_hooks=[(("pattern", 0), attend_evenly)])[
        :, LAST
    ]
    for a in range(11):
        right = 20 * 2 / 3 * sum(abs(math.cos(math.pi * k * a / 11)) for k in (1, 3))
        assert logits[a, 3 * a % 11].item() == pytest.approx(right, abs=1e-3)
        assert logits[a].argmax().item() == 3 * a % 11


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_enumeration_finds_exactly_the_circuits_of_the_truth(ablation, seed):
    case = toys.load("clock_by_hand", seed)
    for level in ("edges", "nodes"):
        found = find_circuits(case.model, case.task.everything(), ablation, level)
        assert set(found) == set(getattr(case.truth.circuits[ablation], level))


def test_of_three_frequencies_each_alone_is_enough():
    case = make_case(7, [1, 2, 3])
    for ablation in ("zero", "mean"):
        found = find_circuits(case.model, case.task.everything(), ablation, "nodes")
        assert set(found) == set(case.truth.circuits[ablation].nodes)
    assert "resample" not in case.truth.circuits


@pytest.mark.parametrize(("corrupt", "kept"), [("sum", None), ("a", 1), ("b", 0)])
def test_corrupt_prompts_have_another_sum(case, corrupt, kept):
    batch = case.task.draw(200, seed=4, corrupt=corrupt)
    assert (batch.answer != batch.wrong).all()
    assert torch.equal(batch.wrong, batch.corrupt[:, :2].sum(dim=1) % 11)
    assert kept is None or torch.equal(batch.clean[:, kept], batch.corrupt[:, kept])


def test_everything_holds_each_pair_of_prompts_once(case):
    batch: Batch = case.task.everything()
    pairs = {
        (*clean, *corrupt)
        for clean, corrupt in zip(batch.clean.tolist(), batch.corrupt.tolist(), strict=True)
    }
    assert len(pairs) == len(batch.clean) == 121 * 110
    assert (batch.answer != batch.wrong).all()


ATTENTION = ["blocks.0.attn.W_Q", "blocks.0.attn.W_K", "blocks.0.attn.W_V", "blocks.0.attn.W_O"]


@pytest.mark.parametrize(
    "parameter", ["W_E", "W_pos", *ATTENTION, "blocks.0.mlp.W_in", "blocks.0.mlp.W_out", "W_U"]
)
def test_one_damaged_weight_breaks_a_signature(case, parameter):
    assert list_broken(damage(case, parameter))
