"""Baselines for features: axes in both signs, and a decoder that was never trained."""

import torch

from mini_transformer.board.families.features.entrants import (
    ENTRANTS,
    Directions,
    Pursuit,
    find_independent_axes,
    find_principal_axes,
    freeze_decoder,
)

DRAW = torch.Generator().manual_seed(0)
X = torch.rand(500, 3, generator=DRAW) * torch.tensor([9.0, 3.0, 1.0]) + 2  # independent, uniform


def test_principal_axes_come_in_both_signs_the_longest_first():
    found = find_principal_axes(X, 6)
    assert found.W_dec.shape == (6, 3)
    assert torch.allclose(found.W_dec[:3], -found.W_dec[3:])
    assert abs(found.W_dec[0, 0]) > 0.99
    assert len(find_principal_axes(X, 2).W_dec) == 2


def test_independent_axes_are_those_along_which_independent_numbers_were_drawn():
    mixing = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    found = find_independent_axes(X / X.std(dim=0) @ mixing, 3).W_dec
    assert (found @ mixing.T).abs().amax(dim=1).min() > 0.98
    assert torch.allclose(found.norm(dim=1), torch.ones(3))


def test_codes_are_projections_of_what_differs_from_the_mean():
    found = Directions(torch.cat([torch.eye(2), -torch.eye(2)]), torch.ones(2))
    assert torch.allclose(
        found.encode(torch.tensor([[3.0, 0.0]])) * 2, torch.tensor([[2.0, 0, 0, 1]])
    )


def test_pursuit_takes_the_best_directions_one_after_the_other_and_rebuilds_from_them():
    pursuit = Pursuit(torch.eye(4), torch.full((4,), 2.0), n_active=2)
    codes = torch.tensor([[5.0, 0, 3, 0], [0, 0, -7, 4]])
    noise = torch.tensor([[0.0, -1, 0, 0.5], [0.1, 0.2, 0, 0]])  # of the other directions
    assert torch.allclose(pursuit.encode(2 + codes + noise), codes, atol=1e-6)
    assert torch.allclose(pursuit.decode(codes), codes + 2)


def test_a_frozen_decoder_has_unit_directions_that_do_not_depend_on_the_activations():
    one, other = freeze_decoder(X, 8), freeze_decoder(X * 2 + 1, 8)
    assert torch.equal(one.W_dec, other.W_dec)
    assert torch.allclose(one.W_dec.norm(dim=1), torch.ones(8))
    assert torch.equal(other.mean, (X * 2 + 1).mean(dim=0))


def test_every_architecture_of_the_package_is_an_entrant():
    assert [name for name in ENTRANTS if name.startswith("sae_")] == [
        f"sae_{name}" for name in ("topk", "l1", "gated", "jumprelu", "batchtopk", "matryoshka")
    ]
