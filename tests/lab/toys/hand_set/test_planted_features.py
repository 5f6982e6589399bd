"""Planted features: the sum against slow loops, the structure against counting, the codes
against sparse recovery.
"""

import numpy as np
import pytest
import torch
from damaging import damage, list_broken
from scipy.optimize import linprog

from mini_transformer import toys
from mini_transformer.toys.find_circuits import find_circuits
from mini_transformer.toys.hand_set.planted_features import draw_activations, make_directions

NAMES = ["planted_features", "planted_hierarchical", "planted_correlated"]
LEVELS = [0.8, 1.0, 1.2]


@pytest.fixture(params=NAMES)
def case(request):
    return toys.load(request.param)


def draw_active(name, n=20_000, seed=2):
    case = toys.load(name)
    return case.truth.features.activations(case.truth.features.draw(n, seed)) > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_signatures_hold_for_every_seed(name, seed):
    assert list_broken(toys.load(name, seed)) == []


def test_the_stream_is_the_sum_of_the_directions_that_the_prompt_lists(case):
    features = case.truth.features
    tokens = features.draw(50, seed=5)
    streams = case.model.run_with_cache(tokens)[1][features.site][:, features.position]
    for prompt, stream in zip(tokens.tolist(), streams, strict=True):
        total = torch.zeros(32)
        for token in prompt:
            if token > 1:  # 0 is the filler, 1 the ?
                total += LEVELS[(token - 2) % 3] * features.directions[(token - 2) // 3]
        torch.testing.assert_close(stream, total)


def test_activations_come_with_their_exact_codes(case):
    activations, codes = draw_activations(case, 500, seed=7)
    torch.testing.assert_close(activations, codes @ case.truth.features.directions)
    assert (codes > 0).sum(dim=1).unique().tolist() == [1, 2, 3, 4]
    assert set(codes.unique().tolist()) == {0.0, *torch.tensor(LEVELS).tolist()}


def test_the_least_absolute_combination_of_directions_is_the_planted_code(case):
    # By linear programming: minimise the sum of |code| subject to code @ directions = stream. It
    # finds the sparsest code
    # if fewer than (sqrt(2) - 1/2) sqrt(32) = 5.2 features are active (Elad & Bruckstein 2002).
    activations, codes = draw_activations(case, 20, seed=8)
    directions = case.truth.features.directions.double().numpy()
    for activation, code in zip(activations.double().numpy(), codes.numpy(), strict=True):
        signed = np.concatenate([directions, -directions]).T
        found = linprog(np.ones(128), A_eq=signed, b_eq=activation, bounds=(0, None)).x
        np.testing.assert_allclose(found[:64] - found[64:], code, atol=1e-3)


def test_directions_are_two_orthonormal_bases_that_meet_at_one_angle():
    cosines = (make_directions() @ make_directions().T).abs()
    close = torch.isclose(cosines, torch.tensor(32**-0.5), atol=1e-5)
    assert torch.equal(close.sum(dim=1), torch.full((64,), 32))
    torch.testing.assert_close(cosines[~close], torch.eye(64)[~close], atol=1e-5, rtol=0)


def test_seeds_turn_the_directions():
    first, again, other = (
        toys.load("planted_features", seed).truth.features.directions for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first @ other.T).abs().max() < 0.95


def test_plain_features_are_equally_frequent_and_uncorrelated():
    active = draw_active("planted_features").float()
    assert active.mean(dim=0).min() > 0.03
    assert active.mean(dim=0).max() < 0.05
    assert (torch.corrcoef(active.T) - torch.eye(64)).abs().max() < 0.05


def test_a_child_is_active_only_when_its_parent_is_and_no_sibling():
    active, entails = (
        draw_active("planted_hierarchical"),
        toys.load("planted_hierarchical").truth.features.entails,
    )
    assert len(entails) == 48
    for child, parent in entails:
        assert active[active[:, child], parent].all()
        assert 0.2 < active[active[:, parent], child].float().mean() < 0.3
    assert (active.unflatten(1, (16, 4))[:, :, 1:].sum(dim=2) <= 1).all()


def test_the_two_of_a_pair_are_mostly_active_together():
    active, pairs = (
        draw_active("planted_correlated"),
        toys.load("planted_correlated").truth.features.correlated,
    )
    assert len(pairs) == 32
    for first, second in pairs:
        assert 0.69 < active[active[:, first], second].float().mean() < 0.81
        assert 0.69 < active[active[:, second], first].float().mean() < 0.81


def test_the_task_keeps_to_the_structure(case):
    features, batch = case.truth.features, case.task.everything()
    codes = features.activations(batch.clean)
    assert torch.equal(codes.argmax(dim=1), batch.answer)
    assert all((codes[codes[:, child] > 0, parent] > 0).all() for child, parent in features.entails)


def test_enumeration_finds_exactly_the_circuits_of_the_truth(case):
    for ablation, circuits in case.truth.circuits.items():
        for level in ("edges", "nodes"):
            found = find_circuits(case.model, case.task.everything(), ablation, level)
            assert found == getattr(circuits, level)


@pytest.mark.parametrize("parameter", ["W_E", "blocks.0.attn.W_V", "blocks.0.attn.W_O", "W_U"])
def test_one_damaged_weight_breaks_a_signature(case, parameter):
    assert list_broken(damage(case, parameter))
