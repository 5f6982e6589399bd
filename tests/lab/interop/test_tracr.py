"""Parameters under Tracr's names become a model with the same stream.

Checked against Tracr's own models: the streams stored in ../toys/tracr/reference/, and
tests/peers/compare_tracr.py, whose figures are read here.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer.checkpoints import read_tensors
from mini_transformer.interop.tracr import from_tracr
from mini_transformer.toys.tracr.compiled import find_file
from mini_transformer.toys.tracr.programs import PROGRAMS

TESTS = Path(__file__).parents[2]
STREAMS = dict(np.load(TESTS / "lab/toys/tracr/reference/tracr_streams.npz"))
STORED = json.loads((TESTS / "peers/tracr.json").read_text())


def read_params(name):
    """Tracr's parameters of a program: modules, each with w and a zero b."""
    tensors, facts = read_tensors(find_file(name))
    params = {}
    for path, value in tensors.items():
        module, _, what = path.rpartition("/")
        params.setdefault(module, {})[what] = value.numpy()
        if what == "w":
            params[module]["b"] = np.zeros(value.shape[1], dtype=np.float32)
    return params, facts["heads"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_stream_is_tracrs_after_every_half_layer(name):
    model = from_tracr(*read_params(name))
    tokens, expected = (torch.tensor(STREAMS[f"{name} {what}"]) for what in ("tokens", "stream"))
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
    stream = [cache["resid_pre", 0]]
    for layer in range(model.config.n_layers):
        stream += [cache["resid_mid", layer], cache["resid_post", layer]]
    torch.testing.assert_close(torch.stack(stream), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits, expected[-1], rtol=0, atol=1e-6)
    assert not model.config.biases


def test_biases_and_a_mask_are_taken_over_and_chosen_directions_are_read():
    params, heads = read_params("pair_balance")
    generator = np.random.default_rng(0)
    for module in params.values():
        if "b" in module:
            module["b"] = generator.normal(size=module["b"].shape)
    model = from_tracr(params, heads, output=[3, 1], causal=True)
    tokens = torch.tensor([[0, 2, 1, 2]])
    logits, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(logits, cache["resid_post", -1][..., [3, 1]])

    def apply(layer, kind, x):
        own = params[f"transformer/layer_{layer}/{kind}"]
        return x @ own["w"] + own["b"]

    x = params["token_embed"]["embeddings"][tokens[0]] + params["pos_embed"]["embeddings"][:4]
    for layer in range(2):  # as Tracr does it: heads side by side in one matrix
        q, k, v = (
            apply(layer, f"attn/{kind}", x).reshape(4, heads, -1)
            for kind in ("query", "key", "value")
        )
        scores = np.einsum("qnh,knh->nqk", q, k) / np.sqrt(q.shape[-1])
        scores[:, ~np.tril(np.ones((4, 4), dtype=bool))] = -1e30
        pattern = np.exp(scores - scores.max(-1, keepdims=True))
        pattern /= pattern.sum(-1, keepdims=True)
        x = x + apply(layer, "attn/linear", np.einsum("nqk,knh->qnh", pattern, v).reshape(4, -1))
        hidden = np.maximum(apply(layer, "mlp/linear_1", x), 0)
        x = x + apply(layer, "mlp/linear_2", hidden)
    given = cache["resid_post", -1][0].detach().numpy()
    np.testing.assert_allclose(given, x, rtol=0, atol=1e-5 * np.abs(x).max())


@pytest.mark.parametrize("change", ["empty", "heads", "output", "norm"])
def test_other_parameters_are_refused(change):
    params, heads = read_params("hist")
    output = None
    if change == "empty":
        params = {}
    if change == "heads":
        heads = 3
    if change == "output":
        output = [99]
    if change == "norm":
        params["transformer/layer_norm"] = {"scale": np.ones(16), "offset": np.zeros(16)}
    with pytest.raises(ValueError, match=r"give model.params and .*num_heads of Tracr"):
        from_tracr(params, heads, output)


def test_the_stored_comparison_has_every_program_and_is_exact_to_1e_6():
    assert [row["name"] for row in STORED["rows"]] == [*PROGRAMS, "causal"]
    for row in STORED["rows"]:
        assert row["stream"] <= 1e-6 <= row["size"]
    assert {"jax", "dm-haiku", "python", "torch", "mini-transformer"} == set(STORED["versions"])
