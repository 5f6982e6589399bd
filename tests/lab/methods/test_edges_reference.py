"""EAP, slopes of the mask and ACDC against those of auto-circuit.

They are stored, with how they were made, in reference/.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.edges import list_edges, run_edges, write_outputs
from mini_transformer.methods import eap, find_circuit_acdc, make_divergence
from mini_transformer.methods.circuits.eap import find_mask_slopes

STORED = dict(np.load(Path(__file__).parent / "reference" / "auto_circuit_edges.npz"))
TAUS = [name.removeprefix("acdc ") for name in STORED if name.startswith("acdc ")]
CLEAN, CORRUPT, ANSWERS = (torch.tensor(STORED[name]) for name in ("clean", "corrupt", "answers"))


def metric(logits):
    rows = torch.arange(len(logits))
    return logits[rows, -1, ANSWERS[:, 0]] - logits[rows, -1, ANSWERS[:, 1]]


@pytest.fixture(scope="module")
def stored_model():
    model = Transformer(
        Config(
            9,
            6,
            8,
            n_layers=2,
            n_heads=3,
            d_head=4,
            d_mlp=10,
            act="gelu",
            norm="layer",
            biases=True,
        )
    )
    weights = {
        name.split()[1]: torch.tensor(value)
        for name, value in STORED.items()
        if name.startswith("weight ")
    }
    model.load_state_dict(weights)
    return model


def read(model, name):
    """A stored score per edge, in the order of this package."""
    named = dict(zip(STORED["edges"].tolist(), STORED[name].tolist(), strict=True))
    assert set(named) == set(list_edges(model))
    return torch.tensor([named[edge] for edge in list_edges(model)])


def test_eap_is_that_of_auto_circuit(stored_model):
    expected = read(stored_model, "slope 0")
    assert expected.abs().min() > 1e-4
    got = eap(stored_model, CLEAN, CORRUPT, metric).values
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_the_slopes_with_all_edges_partly_on_are_those_of_auto_circuit(stored_model):
    """Its switches are 1 where ours are 0.

    Integrated gradients along the masks are means of such slopes.
    """
    off = write_outputs(stored_model, CORRUPT).detach()
    got = find_mask_slopes(stored_model, CLEAN, off, metric, 1 - 0.3)
    torch.testing.assert_close(got, read(stored_model, "slope 0.3"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tau", TAUS)
def test_acdc_keeps_the_edges_that_auto_circuit_keeps(stored_model, tau):
    """Its threshold is in nats; ours is a share of the divergence with all edges off."""
    target, off = (
        make_divergence(stored_model, CLEAN, position=-1),
        write_outputs(stored_model, CORRUPT),
    )
    with torch.no_grad():
        nothing = torch.zeros(1, len(list_edges(stored_model)))
        unit = -target(run_edges(stored_model, CLEAN, nothing, off)[0]).mean().item()
    circuit = find_circuit_acdc(stored_model, CLEAN, CORRUPT, target, tau=float(tau) / unit)
    kept = read(stored_model, f"acdc {tau}").isinf()
    assert 0 < kept.sum() < len(kept)
    assert circuit == {edge for edge, on in zip(list_edges(stored_model), kept, strict=True) if on}


def test_every_stored_threshold_is_compared():
    assert len(TAUS) == 5
