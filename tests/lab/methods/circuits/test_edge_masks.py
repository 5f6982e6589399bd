"""The trained edge mask.

Checked against: the circuits of hand-set models, and the closed forms of the distribution by
sampling.
"""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import make_divergence, train_edge_mask
from mini_transformer.methods.circuits.edge_masks import draw_masks, measure_open


def find_kept(case, batch, ablation, **options):
    other = batch.corrupt if ablation == "resample" else batch.clean
    scores = train_edge_mask(
        case.model, batch.clean, other, batch.logit_difference, ablation, **options
    )
    return {edge for edge, score in scores.items() if score > 0.5}


@pytest.mark.parametrize(
    ("name", "ablation"),
    [("boolean_and", "zero"), ("boolean_or", "mean"), ("boolean_xor", "resample")],
)
def test_the_edges_that_stay_open_are_the_circuit_of_a_hand_set_gate(name, ablation):
    case = toys.load(name, seed=1)
    assert find_kept(case, case.task.everything(), ablation) == set(
        case.truth.circuits[ablation].edges[0]
    )


def test_it_finds_the_saturated_circuit_of_the_hand_set_induction_model():
    case = toys.load("induction_by_hand")
    kept = find_kept(case, case.task.draw(16, corrupt="fresh"), "resample")
    assert kept == set(case.truth.circuits["resample"].edges[0])


@pytest.mark.parametrize("model", ["mlp_layer_norm_biases"], indirect=True)
def test_a_higher_penalty_keeps_fewer_edges(model, clean, corrupt):
    target = make_divergence(model, clean, position=None)
    sizes = [
        train_edge_mask(model, clean, corrupt, target, penalty=x, steps=60).values.sum()
        for x in (1e-3, 0.03, 10.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_same_seed_gives_the_same_mask_and_another_seed_another(model, clean, corrupt):
    target = make_divergence(model, clean, position=None)
    first, again, other = (
        train_edge_mask(model, clean, corrupt, target, steps=5, seed=s).values for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_probability_of_being_open_is_the_share_of_open_draws():
    place = torch.tensor([-3.0, -1.0, 0.0, 0.7, 2.0])
    masks = draw_masks(place, 40_000, torch.Generator().manual_seed(0))
    assert masks.min() == 0
    assert masks.max() == 1
    torch.testing.assert_close(
        (masks > 0).float().mean(dim=0), measure_open(place), atol=0.01, rtol=0
    )


def test_draws_have_a_gradient_where_they_are_neither_shut_nor_open():
    place = torch.zeros(2000, requires_grad=True)
    masks = draw_masks(place, 1, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(masks.sum(), place)
    between = (masks[0] > 0) & (masks[0] < 1)
    assert 0.2 < between.float().mean() < 0.8
    assert torch.equal(gradient > 0, between)
