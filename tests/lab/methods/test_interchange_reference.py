"""Interchange interventions against pyvene's on the same weights, stored with how they were made in
reference/.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import swap_subspace
from mini_transformer.methods.representations.swapping import read_hook, run_swapped

STORED = {
    name: torch.tensor(x)
    for name, x in np.load(Path(__file__).parent / "reference" / "pyvene_interchange.npz").items()
}
BASE, SOURCE = STORED["base"], STORED["source"]
SITES = {"resid_post": ("resid_post", 0), "attn_out": ("attn_out", 1), "mlp_out": ("mlp_out", 0)}
POSITION, RANK = 2, 3


@pytest.fixture(scope="module")
def stored_model():
    config = Config(
        d_vocab=9,
        n_ctx=6,
        d_model=8,
        n_layers=2,
        n_heads=2,
        d_mlp=10,
        norm="layer",
        biases=True,
        act="gelu",
    )
    model = Transformer(config)
    model.load_state_dict(
        {name.split()[1]: x for name, x in STORED.items() if name.startswith("weight ")}
    )
    return model


def check_logits(model, logits, stored):
    with torch.no_grad():
        assert (stored - model(BASE)).abs().max() > 0.01
    torch.testing.assert_close(logits, stored, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("site", SITES)
def test_swapping_a_whole_activation_is_pyvenes_vanilla_intervention(stored_model, site):
    logits = swap_subspace(stored_model, BASE, SOURCE, torch.eye(8), SITES[site], POSITION)
    check_logits(stored_model, logits, STORED[f"logits, whole, {site}"])


@pytest.mark.parametrize("kind", ["low rank", "rotated"])
@pytest.mark.parametrize("site", SITES)
def test_swapping_a_subspace_is_pyvenes_rotated_intervention(stored_model, site, kind):
    rows = STORED[f"rotation, {kind}, {site}"].T[:RANK].contiguous()
    logits = swap_subspace(stored_model, BASE, SOURCE, rows, SITES[site], POSITION)
    check_logits(stored_model, logits, STORED[f"logits, {kind}, {site}"])


@pytest.mark.parametrize("site", SITES)
def test_swapping_through_a_soft_boundary_is_pyvenes_boundless_intervention(stored_model, site):
    """Its mask: sigmoid(i / 0.7) times sigmoid((4 - i) / 0.7) for axis i of 8, at the boundary that
    it starts from.
    """
    axis = torch.arange(8)
    mask = (axis / 0.7).sigmoid() * ((4 - axis) / 0.7).sigmoid()
    rows = STORED[f"rotation, boundless, {site}"].T.contiguous()
    with torch.no_grad():
        values = read_hook(stored_model, BASE, SOURCE, SITES[site], POSITION)
        logits = run_swapped(stored_model, BASE, values, rows, mask, SITES[site], POSITION)
    check_logits(stored_model, logits, STORED[f"logits, boundless, {site}"])
