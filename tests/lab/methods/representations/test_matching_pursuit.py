"""Matching pursuit: each step, and what training rebuilds.

Checked against: a loop over rows and steps, and the activations that codes rebuild.
"""

import pytest
import torch
from torch.nn.functional import normalize

from mini_transformer.methods import PursuitDictionary, train_pursuit
from mini_transformer.methods.representations.matching_pursuit import pursue


def test_each_step_takes_out_what_meets_the_rest_best():
    generator = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(7, 4, generator=generator), dim=1)
    x = torch.randn(9, 4, generator=generator)
    codes, rest = pursue(x, directions, 3)
    for row, found, left in zip(x, codes, rest, strict=True):
        now, taken = row.clone(), torch.zeros(7)
        for _ in range(3):
            i = int((directions @ now).argmax())
            size = max(0.0, float(directions[i] @ now))
            taken[i] += size
            now = now - size * directions[i]
        assert torch.allclose(found, taken, atol=1e-6)
        assert torch.allclose(left, now, atol=1e-6)
    assert torch.allclose(codes @ directions + rest, x, atol=1e-6)


def test_sparse_sums_are_rebuilt_from_few_codes():
    generator = torch.Generator().manual_seed(1)
    codes = (torch.rand(3000, 8, generator=generator) - 0.85).relu() * 6
    turned = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    x = codes @ turned + 3
    found = train_pursuit(x, n_latents=20, k=3, steps=150, batch=256)
    assert torch.allclose(found.W_dec.norm(dim=1), torch.ones(20), atol=1e-5)
    error = (found.decode(found.encode(x)) - x).square().sum()
    assert error < 0.2 * (x - x.mean(dim=0)).square().sum()
    assert (found.encode(x) > 0).sum(dim=1).max() <= 3


def test_sizes_that_do_not_fit_are_said():
    with pytest.raises(ValueError, match="k must be from 1 to n_latents"):
        train_pursuit(torch.randn(20, 3), n_latents=2, k=3)
    assert PursuitDictionary(torch.eye(2), torch.zeros(2), 1).encode(torch.ones(1, 2)).sum() == 1
