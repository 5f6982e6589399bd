"""Circuits, composition and logit attribution against TransformerLens's own, stored with how they
were made in reference/.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import (
    attribute_logits,
    attribute_logits_to_neurons,
    read_ov,
    read_qk,
    score_composition,
    score_copying,
    split_circuit,
)

STORED = dict(np.load(Path(__file__).parent / "reference" / "transformer_lens_weights.npz"))
READ = {
    name.removeprefix("read "): torch.tensor(value)
    for name, value in STORED.items()
    if name.startswith("read ")
}
HEADS = [f"a{layer}.h{head}" for layer in range(2) for head in range(3)]


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


def attribute(model, method):
    tokens, answer, wrong = (torch.tensor(STORED[name]) for name in ("tokens", "answer", "wrong"))
    with torch.no_grad():
        return method(model, model.run_with_cache(tokens)[1], answer, wrong)


def stack_heads(model, read):
    return torch.stack([read(model, head) for head in HEADS])


OURS = {
    "composition q": lambda model: score_composition(model, "q"),
    "composition k": lambda model: score_composition(model, "k"),
    "composition v": lambda model: score_composition(model, "v"),
    "qk": lambda model: stack_heads(model, read_qk).unflatten(0, (2, 3)),
    "ov": lambda model: stack_heads(model, read_ov).unflatten(0, (2, 3)),
    "singular values": lambda model: stack_heads(
        model, lambda *at: split_circuit(*at).strengths
    ).unflatten(0, (2, 3)),
    "copying": score_copying,
    "heads": lambda model: torch.stack(
        [attribute(model, attribute_logits)[head] for head in HEADS]
    ),
    "neurons": lambda model: attribute(model, attribute_logits_to_neurons).flatten(1).T,
}


@pytest.mark.parametrize("name", OURS)
def test_a_reading_is_that_of_transformer_lens(stored_model, name):
    got = OURS[name](stored_model)
    assert got.std() > 0.01
    torch.testing.assert_close(got, READ[name], rtol=1e-4, atol=1e-5)


def test_every_stored_reading_is_compared():
    assert set(OURS) == set(READ)
