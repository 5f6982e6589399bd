"""Nonlinear alignment makes random weights look as if they carried a variable.

Checked against: its inverse, the rotation alone (which is `swap_subspace`), and trained and
untrained models.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, methods
from mini_transformer.methods.representations.nonlinear_alignment import AlignmentMap, draw_layer

SITE = ("resid_post", 0)
MODEL = Transformer(Config(d_vocab=9, n_ctx=3, d_model=15, n_layers=1), seed=1)
GENERATOR = torch.Generator().manual_seed(0)
BASE, SOURCE = torch.randint(8, (2, 48, 2), generator=GENERATOR)


def make_map(dim=4, d=15):
    generator = torch.Generator().manual_seed(2)
    rotation = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    layers = []
    for i in range(3):
        W_in, b_in, W_out = (
            part.detach() for part in draw_layer(d, i % 2, 16, generator, rotation)
        )
        layers.append((W_in, b_in, W_out + torch.randn(W_out.shape, generator=generator)))
    return AlignmentMap(rotation, tuple(layers), dim, rotation[:dim])


def test_inverting_the_map_gives_the_activations_back():
    x = torch.randn(20, 15, generator=torch.Generator().manual_seed(3))
    found = make_map()
    assert torch.allclose(found.invert(found.apply(x)), x, atol=1e-4)
    assert not torch.allclose(found.apply(x), x @ found.rotation.T, atol=0.1)


def test_the_map_is_that_of_its_layers_one_row_at_a_time():
    found, x = make_map(), torch.randn(3, 15, generator=torch.Generator().manual_seed(4))
    for row, mapped in zip(x, found.apply(x), strict=True):
        turned = found.rotation @ row
        first, second = turned[:8], turned[8:]
        for i, (W_in, b_in, W_out) in enumerate(found.layers):
            if i % 2 == 0:
                first = first + W_out.T @ (W_in.T @ second + b_in).clamp(min=0)
            else:
                second = second + W_out.T @ (W_in.T @ first + b_in).clamp(min=0)
        assert torch.allclose(torch.cat([first, second]), mapped, atol=1e-4)


def test_swapped_activations_have_the_coordinates_of_both():
    own, other = torch.randn(2, 6, 15, generator=torch.Generator().manual_seed(5))
    found = make_map(dim=4)
    mapped = found.apply(found.swap(own, other))
    assert torch.allclose(mapped[:, :4], found.apply(other)[:, :4], atol=1e-3)
    assert torch.allclose(mapped[:, 4:], found.apply(own)[:, 4:], atol=1e-3)


def test_without_layers_it_is_the_linear_swap():
    answers = SOURCE[:, 0]
    found = methods.fit_nonlinear_alignment(MODEL, BASE, SOURCE, answers, SITE, dim=5, n_layers=0)
    rows = found.rotation[:5]
    by_map = methods.swap_by_map(MODEL, BASE, SOURCE, found, SITE)
    assert torch.allclose(by_map, methods.swap_subspace(MODEL, BASE, SOURCE, rows, SITE), atol=1e-4)
    assert torch.allclose(
        found.rows.T @ found.rows, rows.T @ rows, atol=1e-3
    )  # the axes of what it changes


def test_random_weights_seem_to_add_where_a_rotation_cannot_make_them():
    answers = (SOURCE[:, 0] + BASE[:, 1]) % 8
    free = methods.fit_nonlinear_alignment(MODEL, BASE, SOURCE, answers, SITE, dim=7)
    right = methods.swap_by_map(MODEL, BASE, SOURCE, free, SITE)[:, -1].argmax(dim=1) == answers
    rows = methods.fit_das(MODEL, BASE, SOURCE, answers, SITE, dim=7)
    assert right.float().mean() > 0.95
    assert methods.measure_interchange(MODEL, BASE, SOURCE, answers, rows, SITE) < 0.6


def test_the_same_seed_gives_the_same_map_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    first, again, other = (
        methods.fit_nonlinear_alignment(
            MODEL, BASE, SOURCE, SOURCE[:, 0], SITE, dim=3, steps=3, seed=seed
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.layers[0][2], again.layers[0][2])
    assert not torch.equal(first.rotation, other.rotation)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(part.requires_grad for layer in first.layers for part in layer)


@pytest.mark.parametrize("dim", [1, 15])
def test_rows_are_orthonormal_whatever_their_number(dim):
    found = methods.fit_nonlinear_alignment(
        MODEL, BASE, SOURCE, SOURCE[:, 0], SITE, dim=dim, steps=2
    )
    assert torch.allclose(found.rows @ found.rows.T, torch.eye(dim), atol=1e-5)
