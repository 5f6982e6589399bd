"""Test that small and large depend on the unit.

Metrics, weights, keys and directions of any size give the same answers.
"""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from mini_transformer import Config, Transformer, methods
from mini_transformer.edges import EdgeScores, list_edges
from mini_transformer.methods.arguments import measure_metric_rounding
from mini_transformer.methods.circuits.circuit_tests import bound_probability
from mini_transformer.methods.intervening.directions import orthonormalize

CONFIG = Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5)
CLEAN = torch.tensor([[1, 2, 3, 4], [4, 0, 6, 5], [2, 2, 1, 0], [6, 5, 3, 1], [0, 4, 4, 2]])
CORRUPT = CLEAN.flip(0)
PARTS = ["input", "a1.h0"]
P = 7
A, B = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T
SUMS = torch.eye(P)[(A + B) % P]


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG)


def first(logits: Tensor) -> Tensor:
    return logits[:, -1, 0]


JUDGES = {
    "measure_share_recovered": lambda m, metric: methods.measure_share_recovered(
        metric(m(CLEAN)).detach(), m, CLEAN, CORRUPT, metric
    ),
    "find_circuit_acdc": lambda m, metric: methods.find_circuit_acdc(
        m, CLEAN, CORRUPT, metric, tau=0.01
    ),
    "train_edge_mask": lambda m, metric: (
        methods.train_edge_mask(m, CLEAN, CORRUPT, metric, steps=3).values
    ),
    "measure_faithfulness": lambda m, metric: methods.measure_faithfulness(
        m, CLEAN, CORRUPT, metric, [PARTS]
    ),
    "scrub": lambda m, metric: (
        methods.scrub(m, CLEAN, CORRUPT, metric, {"a1.h0": lambda x: x[:, 0]}).recovered
    ),
    "assess_equivalence": lambda m, metric: (
        methods.assess_equivalence(m, CLEAN, CORRUPT, metric, PARTS).p_value
    ),
    "assess_independence": lambda m, metric: (
        methods.assess_independence(m, CLEAN, CORRUPT, metric, PARTS).p_value
    ),
    "assess_minimality": lambda m, metric: [
        found.p_value
        for found in methods.assess_minimality(
            m, CLEAN, CORRUPT, metric, PARTS, quantile=0.5, draws=9
        ).values()
    ],
}


def read(found):
    return found.values if isinstance(found, EdgeScores) else found


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES.keys())
def test_a_judgement_does_not_depend_on_the_unit_of_the_metric(model, judge):
    distance = methods.make_divergence(model, CLEAN, position=None)
    expected = read(judge(model, distance))
    for unit in (1e-6, 1e6):
        found = read(judge(model, lambda logits, unit=unit: unit * distance(logits)))
        if isinstance(found, Tensor | float):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        else:
            assert found == expected


@pytest.mark.parametrize(
    "name",
    ["measure_share_recovered", "find_circuit_acdc", "train_edge_mask", "measure_faithfulness"],
)
def test_a_metric_that_holds_nothing_but_rounding_tells_no_runs_apart(model, name):
    distance = methods.make_divergence(model, CLEAN, position=None)
    calls = {
        "measure_share_recovered": lambda: methods.measure_share_recovered(
            torch.zeros(1), model, CLEAN, CLEAN, distance
        ),
        "find_circuit_acdc": lambda: methods.find_circuit_acdc(model, CLEAN, CLEAN, distance),
        "train_edge_mask": lambda: methods.train_edge_mask(model, CLEAN, CLEAN, distance, steps=1),
        "measure_faithfulness": lambda: methods.measure_faithfulness(
            model, CLEAN, CLEAN, distance, [PARTS]
        ),
    }
    with pytest.raises(
        ValueError, match=r"the metric is .* but (it )?must .*by more than rounding does"
    ):
        calls[name]()


def test_an_exact_circuit_is_equivalent_by_a_metric_that_is_zero_up_to_rounding(model):
    found = methods.assess_equivalence(
        model,
        CLEAN,
        CORRUPT,
        methods.make_divergence(model, CLEAN, position=None),
        list_edges(model),
    )
    assert (found.statistic, found.p_value) == (0.5, 1.0)


def test_a_score_that_varies_by_rounding_only_is_independent_of_anything(model):
    found = methods.assess_independence(
        model, CLEAN, CLEAN, methods.make_divergence(model, CLEAN, position=None), PARTS
    )
    assert (found.statistic, found.p_value) == (0.0, 1.0)


def test_rounding_moves_no_accuracy_even_where_logits_are_equal():
    logits = torch.full((2, 1, 3), 20.0)
    assert measure_metric_rounding(
        lambda x: (x[:, -1].argmax(dim=-1) == 0).float(), logits
    ).tolist() == [0, 0]
    assert measure_metric_rounding(lambda x: x[:, -1, 0], logits).max() < 1e-4


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e6])
def test_integrated_gradients_that_do_not_add_up_are_refused_in_any_unit(unit):
    model = Transformer(dataclasses.replace(CONFIG, act="gelu"))

    def steep(logits):
        return unit * first(2 * logits).exp()

    with pytest.raises(ValueError, match="give more steps than 1"):
        methods.integrate_gradients(model, CLEAN, steep, torch.tensor(0), steps=1, tolerance=0.001)
    total = methods.integrate_gradients(model, CLEAN, steep, torch.tensor(0), steps=200).sum(dim=1)
    change = steep(model(CLEAN)) - steep(model(torch.zeros_like(CLEAN)))
    torch.testing.assert_close(total, change.detach(), rtol=0.01, atol=0.01 * unit)


def test_p_values_that_are_too_small_for_a_float_are_still_above_zero():
    assert 0 < bound_probability(0.0) < 1e-300
    assert bound_probability(1.0 + 1e-12) == 1.0


@pytest.mark.parametrize("sizes", [(1e-8, 1.0), (1e-30, 1e30), (1.0, 1e-12)])
def test_directions_of_very_different_lengths_are_independent(sizes):
    rows = torch.eye(8)[:2] + 0.5 * torch.eye(8)[2]
    expected = orthonormalize(rows)
    found = orthonormalize(rows * torch.tensor(sizes)[:, None])
    torch.testing.assert_close(found.T @ found, expected.T @ expected)


def test_directions_that_are_the_same_but_for_their_length_are_not_independent():
    with pytest.raises(ValueError, match="the 2 directions span fewer than 2"):
        orthonormalize(torch.tensor([[1e-9, 2e-9], [1.0, 2.0]]))


@pytest.mark.parametrize("size", [1e-12, 1e6])
def test_what_is_read_off_weights_does_not_depend_on_their_size(model, size):
    scaled = Transformer(CONFIG)
    with torch.no_grad():
        for block in scaled.blocks:
            for weights in (*block.attn.parameters(), *block.mlp.parameters()):
                weights *= size
    for read in (
        lambda m: methods.score_composition(m, "k"),
        methods.score_copying,
        lambda m: methods.read_neurons(m, 1).excited_by,
        lambda m: methods.read_neurons(m, 1).feeds_itself,
    ):
        torch.testing.assert_close(read(scaled), read(model))


def test_gradients_that_are_tiny_keep_their_angle():
    model = Transformer(CONFIG)
    targets = torch.tensor([0, 1, 2, 3, 4])
    expected = methods.measure_gradient_symmetry(model, CLEAN, targets)
    with torch.no_grad():
        model.W_U *= 1e-12
    assert methods.measure_gradient_symmetry(model, CLEAN, targets) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("size", [1e-9, 1e-3])
def test_a_rank_one_edit_spares_small_keys_as_it_spares_large_ones(size):
    model = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=1, d_mlp=16))
    with torch.no_grad():
        model.blocks[0].mlp.W_out.zero_()
    keys = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    changes = []
    for unit in (1.0, size):
        edited = methods.edit_rank_one(model, 0, unit * keys[0], torch.ones(8), unit * keys)
        changes.append(unit * keys @ edited.blocks[0].mlp.W_out)
    torch.testing.assert_close(*changes)
    torch.testing.assert_close(changes[1][0], torch.ones(8))


def test_a_large_offset_hides_no_wave():
    wave = torch.cos(2 * math.pi * (A + B) / P).double()
    shares = methods.measure_share_of_best_frequency(
        torch.stack([1e6 + wave, 1e-20 * wave], dim=1), P
    )
    torch.testing.assert_close(shares, torch.ones(2, dtype=torch.float64))
    assert methods.measure_share_of_sum(1e-9 * SUMS.double() + 1e3) == pytest.approx(1)
    assert methods.measure_share_of_sum(1e-30 * SUMS) == pytest.approx(1)
    shares = methods.measure_frequency_shares(1e6 + wave[:P, None])
    torch.testing.assert_close(
        shares, torch.tensor([5e-13, 0, 0], dtype=torch.float64), atol=1e-20, rtol=1e-3
    )


def test_waves_of_high_frequencies_are_as_exact_as_those_of_low_ones():
    basis = methods.write_fourier_basis(997)
    assert (basis @ basis.T - torch.eye(997)).abs().max() < 2e-6
    number = 996 * 498 % 997  # the last wave at the last number is that of a small angle
    assert basis[-1, -1].item() == pytest.approx(
        math.sin(2 * math.pi * number / 997) * math.sqrt(2 / 997), abs=1e-8
    )
