"""Alignment finds a hand-set subspace, and none in a model that was not trained.

Checked against: hand-set subspaces (principal angles), held-out pairs, and a variable that nothing
reads.
"""

import pytest
import torch

from mini_transformer import Transformer, toys
from mini_transformer.methods import fit_boundless_das, fit_das, measure_interchange


def draw_rows(dim, d, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, dim, generator=generator, dtype=dtype))[0].T


@pytest.fixture(scope="module")
def case():
    return toys.load("unused_feature")


def draw_pairs(case, n=400, seed=0):
    """Pairs that differ in x and y, and the answer that the base has with the source's x."""
    batch = case.task.draw(n, seed, "both")
    return batch.clean, batch.corrupt, (batch.corrupt[:, 0] + 1) % 8


def test_alignment_finds_the_subspace_on_pairs_that_it_did_not_see(case):
    x = case.truth.variables["x"]
    found = fit_das(case.model, *draw_pairs(case), x.site, dim=8, steps=150)
    torch.testing.assert_close(found @ found.T, torch.eye(8), atol=1e-5, rtol=0)
    assert measure_interchange(case.model, *draw_pairs(case, 200, seed=1), found, x.site) > 0.98
    # The cosines of the principal angles. Some directions of the subspace are not needed to tell
    # eight digits apart.
    cosines = torch.linalg.svdvals(found @ x.subspace.T)
    random = torch.linalg.svdvals(draw_rows(8, found.shape[1]) @ x.subspace.T)
    assert cosines[:5].min() > 0.8
    assert random[:5].min() < 0.6


def test_boundless_alignment_needs_fewer_axes_than_there_are(case):
    x = case.truth.variables["x"]
    found = fit_boundless_das(case.model, *draw_pairs(case), x.site)
    assert 3 <= len(found) <= found.shape[1] // 2
    torch.testing.assert_close(found @ found.T, torch.eye(len(found)), atol=1e-5, rtol=0)
    assert measure_interchange(case.model, *draw_pairs(case, 200, seed=1), found, x.site) > 0.9


def test_a_model_that_was_not_trained_has_no_such_subspace(case):
    x, untrained = case.truth.variables["x"], Transformer(case.model.config)
    found = fit_das(untrained, *draw_pairs(case), x.site, dim=8, steps=100)
    assert measure_interchange(untrained, *draw_pairs(case, 200, seed=1), found, x.site) < 0.6
