"""Patching maps against those of TransformerLens's own functions, stored with how they were made in
reference/.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import patch_activations

STORED = dict(np.load(Path(__file__).parent / "reference" / "transformer_lens_patching.npz"))
MAPS = [name.removeprefix("map ") for name in STORED if name.startswith("map ")]


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


@pytest.fixture(scope="module")
def stored_model():
    config = Config(
        9, 6, 8, n_layers=2, n_heads=3, d_head=4, d_mlp=10, act="gelu", norm="layer", biases=True
    )
    model = Transformer(config)
    weights = {
        name.split()[1]: torch.tensor(value)
        for name, value in STORED.items()
        if name.startswith("weight ")
    }
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_that_of_transformer_lens(stored_model, name):
    site, per = name.split(" ", 1)
    clean, corrupt = torch.tensor(STORED["clean"]), torch.tensor(STORED["corrupt"])
    got = patch_activations(stored_model, clean, corrupt, metric, site, per, direction="denoise")
    assert got.std() > 0.01
    torch.testing.assert_close(got, torch.tensor(STORED[f"map {name}"]), rtol=1e-5, atol=1e-5)


def test_every_stored_map_is_compared():
    assert len(MAPS) == 13
