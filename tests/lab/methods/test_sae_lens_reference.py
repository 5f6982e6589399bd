"""Codes and reconstructions against SAELens's own classes, stored with how they were made in
reference/.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer.methods import Dictionary
from mini_transformer.methods.representations.sparse_losses import BANDWIDTH, LOSSES, Draft, Jump

STORED = {
    name: torch.tensor(x)
    for name, x in np.load(Path(__file__).parent / "reference" / "sae_lens_codes.npz").items()
}
WEIGHTS = {
    name.removeprefix("weight "): x for name, x in STORED.items() if name.startswith("weight ")
}
X, ONES, ZEROS = STORED["activations"], torch.ones(()), torch.zeros(16)


def build(architecture):
    """The same weights, in this package's form: centred by b_dec, which is also added."""
    w = WEIGHTS
    plain = Dictionary(w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"], w["b_dec"], ZEROS)
    if architecture == "transcoder":
        return dataclasses.replace(plain, W_dec=w["W_out"], b_dec=w["b_out"], centre=torch.zeros(6))
    changed = {
        "standard": {},
        "standard_uncentred": {"centre": torch.zeros(6)},
        "topk": {"k": int(STORED["k"])},
        "jumprelu": {"threshold": w["threshold"]},
    }
    if architecture == "gated":
        parts = make_draft("gated").finish("gated", w["b_dec"], ONES, torch.zeros(6), ONES)
        return Dictionary(**parts)
    return dataclasses.replace(plain, **changed[architecture])


def make_draft(architecture):
    w = WEIGHTS
    b_enc, log = (
        (w["b_mag"], w["r_mag"]) if architecture == "gated" else (w["b_enc"], w["threshold"].log())
    )
    return Draft(
        w["W_enc"], b_enc, w["W_dec"], w["b_dec"], log, w["b_gate"], (6,), int(STORED["k"]), 0.1
    )


STORED_ARCHITECTURES = [name.removeprefix("codes ") for name in STORED if name.startswith("codes ")]


@pytest.mark.parametrize("architecture", STORED_ARCHITECTURES)
def test_codes_and_reconstructions_are_those_of_sae_lens(architecture):
    dictionary, codes = build(architecture), STORED[f"codes {architecture}"]
    assert 0.05 < (codes > 0).float().mean() < 0.95
    torch.testing.assert_close(dictionary.encode(X), codes, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        dictionary.decode(codes), STORED[f"rebuilt {architecture}"], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("architecture", "stored"),
    [("l1", "standard"), ("topk", "topk"), ("jumprelu", "jumprelu"), ("gated", "gated")],
)
def test_codes_in_training_are_those_of_sae_lens(architecture, stored):
    codes = LOSSES[architecture](make_draft(architecture), X - WEIGHTS["b_dec"], X)[1]
    torch.testing.assert_close(codes, STORED[f"codes {stored}"], rtol=1e-5, atol=1e-5)


def test_gradients_through_the_jump_are_those_of_sae_lens():
    assert BANDWIDTH == 0.05  # of the stored numbers
    pre, threshold = (
        STORED["jump pre"].clone().requires_grad_(),
        WEIGHTS["threshold"].clone().requires_grad_(),
    )
    codes, above = Jump.apply(pre, threshold)
    total = (STORED["jump on_codes"] * codes).sum() + (STORED["jump on_steps"] * above).sum()
    on_pre, on_threshold = torch.autograd.grad(total, (pre, threshold))
    torch.testing.assert_close(on_pre, STORED["jump gradient of pre"])
    assert on_threshold.abs().max() > 1
    torch.testing.assert_close(
        on_threshold, STORED["jump gradient of threshold"], rtol=1e-4, atol=1e-4
    )


def test_every_stored_architecture_is_compared():
    assert set(STORED_ARCHITECTURES) == {
        "standard",
        "standard_uncentred",
        "topk",
        "jumprelu",
        "gated",
        "transcoder",
    }
