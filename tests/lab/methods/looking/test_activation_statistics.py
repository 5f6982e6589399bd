"""Activation statistics and examples against NumPy and sorting on all activations at once, and
planted features.

Checked against: NumPy on all activations at once, for every size of batch, and planted features of
known density and strength.
"""

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import (
    find_max_activating,
    measure_units,
)

MODEL = Transformer(Config(7, 6, 8, n_layers=2, n_heads=3, d_head=4, d_mlp=5), seed=3)
TOKENS = torch.randint(7, (40, 5), generator=torch.Generator().manual_seed(0))
SITE = ("post", 1)
BATCHES = [None, 1, 7, 40]


@pytest.fixture(scope="module")
def everything():
    """All activations of the five neurons, (40, 5, 5)."""
    with torch.no_grad():
        return MODEL.run_with_cache(TOKENS)[1][SITE]


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("position", [None, -2, 1, torch.arange(40) % 5])
def test_statistics_are_those_of_all_activations_at_once(everything, batch_size, position):
    chosen = everything if position is None else everything[torch.arange(40), position]
    rows = chosen.reshape(-1, 5).double().numpy()
    levels = (0, 0.25, 0.9, 1)
    found = measure_units(
        MODEL, TOKENS, SITE, position=position, threshold=0.1, levels=levels, batch_size=batch_size
    )
    expected = {
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "density": (rows > 0.1).mean(axis=0),
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "quantiles": np.quantile(rows, levels, axis=0),
    }
    assert found.n == len(rows)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(found, name), torch.from_numpy(value).float(), msg=name)


def test_quantiles_from_a_share_of_the_activations_are_close_and_the_same_for_every_batching():
    tokens = torch.randint(7, (3000, 5), generator=torch.Generator().manual_seed(1))
    exact = measure_units(MODEL, tokens, SITE, keep=15_000, position=None).quantiles
    found = [
        measure_units(MODEL, tokens, SITE, keep=4000, batch_size=size, position=None).quantiles
        for size in (17, 1000)
    ]
    torch.testing.assert_close(*found, atol=1e-6, rtol=0)
    assert not torch.equal(found[0], exact)
    torch.testing.assert_close(found[0], exact, atol=0.15, rtol=0.1)
    assert not torch.equal(
        found[0], measure_units(MODEL, tokens, SITE, keep=4000, seed=1, position=None).quantiles
    )


def test_statistics_of_planted_features_are_those_of_their_exact_codes():
    case = toys.load("planted_features")
    truth = case.truth.features
    tokens = truth.draw(4000, 0)
    codes = truth.activations(tokens)
    expected = (
        codes @ truth.directions @ truth.directions.T
    ).double()  # a direction also reads what overlaps with it
    found = measure_units(
        case.model, tokens, truth.site, truth.directions, truth.position, threshold=0.75
    )
    torch.testing.assert_close(found.mean.double(), expected.mean(dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found.density.double(), (expected > 0.75).double().mean(dim=0), atol=5e-4, rtol=0
    )
    top = find_max_activating(
        case.model, tokens, truth.site, truth.directions, k=5, position=truth.position
    )
    for feature in range(64):
        assert (codes[top.prompt[feature], feature] > 0).all(), feature
        assert ((tokens[top.prompt[feature]] - 2) // 3 == feature).any(dim=1).all()
