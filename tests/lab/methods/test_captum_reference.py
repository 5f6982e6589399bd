"""Input attribution against captum's own classes on the same weights, stored with how they were
made in reference/.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import (
    integrate_gradients,
    measure_saliency,
    measure_shapley,
    multiply_gradient,
    occlude_each,
    sample_shapley,
)

STORED = dict(np.load(Path(__file__).parent / "reference" / "captum_attribution.npz"))
CAPTUM = {
    name.removeprefix("map "): torch.tensor(value)
    for name, value in STORED.items()
    if name.startswith("map ")
}
TOKENS, BASELINE = torch.tensor(STORED["tokens"]), torch.tensor(STORED["baseline"])
OURS = {
    "saliency": lambda model: measure_saliency(model, TOKENS, metric),
    "input x gradient": lambda model: multiply_gradient(model, TOKENS, metric, torch.zeros(8)),
    "integrated gradients": lambda model: integrate_gradients(
        model, TOKENS, metric, BASELINE, steps=50
    ),
    "occlusion": lambda model: occlude_each(model, TOKENS, metric, BASELINE),
    "feature ablation": lambda model: occlude_each(model, TOKENS, metric, BASELINE),
    "shapley values": lambda model: measure_shapley(model, TOKENS, metric, BASELINE),
}


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


@pytest.fixture(scope="module")
def stored_model():
    config = Config(7, 6, 8, n_layers=2, n_heads=2, d_mlp=10, act="gelu", norm="layer", biases=True)
    model = Transformer(config).double()
    weights = {
        name.split()[1]: torch.tensor(value)
        for name, value in STORED.items()
        if name.startswith("weight ")
    }
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("name", OURS)
def test_a_score_is_that_of_captum(stored_model, name):
    got = OURS[name](stored_model)
    assert got.std() > 0.1
    # captum returns what it measures by perturbation in float32
    torch.testing.assert_close(got, CAPTUM[name], rtol=1e-5, atol=1e-5, check_dtype=False)


def test_sampled_values_of_captum_and_ours_scatter_around_the_same(stored_model):
    ours, theirs = (
        sample_shapley(stored_model, TOKENS, metric, BASELINE, draws=400),
        CAPTUM["shapley sampling"],
    )
    assert ((ours.values - theirs).abs() < 4 * 2**0.5 * ours.standard_error + 1e-9).all()


def test_every_stored_map_is_compared():
    assert set(CAPTUM) == {*OURS, "shapley sampling"}
