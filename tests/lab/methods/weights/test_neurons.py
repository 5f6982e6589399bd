"""Neurons read off weights, and their mean activation on data.

Checked against: slow loops over neurons and tokens, runs on a stream that holds nothing but one
token, and neurons that were set by hand.
"""

import math

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import measure_excitation, read_neurons

WITH_MLP = pytest.mark.parametrize(
    "model",
    ["mlp_layer_norm_biases", "mlp_positions_to_qk_rms_full"],
    indirect=True,
    ids=["layer norm", "rms"],
)


def as_seen(norm, x):
    """A direction in the stream before a norm: LayerNorm does not see its mean."""
    return x - x.mean() if norm.centred else x


def cosine(a, b):
    return (
        sum((x * y).item() for x, y in zip(a, b, strict=True))
        / math.hypot(*a.tolist())
        / math.hypot(*b.tolist())
    )


@WITH_MLP
def test_cosines_are_those_of_loops_over_neurons_and_tokens(model):
    for layer, block in enumerate(model.blocks):
        neurons, W_U = read_neurons(model, layer), model.ln_final.w[:, None] * model.W_U
        for f in range(5):
            reads = as_seen(block.ln2, block.ln2.w * block.mlp.W_in[:, f])
            writes = block.mlp.W_out[f]
            torch.testing.assert_close(neurons.reads[f], reads)
            torch.testing.assert_close(neurons.writes[f], writes)
            assert neurons.feeds_itself[f].item() == pytest.approx(
                cosine(reads, as_seen(block.ln2, writes))
            )
            for v in range(7):
                excited = cosine(reads, as_seen(block.ln2, model.W_E[v]))
                raised = cosine(as_seen(model.ln_final, writes), as_seen(model.ln_final, W_U[:, v]))
                assert neurons.excited_by[f, v].item() == pytest.approx(excited)
                assert neurons.raises[f, v].item() == pytest.approx(raised)


@WITH_MLP
def test_a_stream_that_holds_one_token_excites_a_neuron_by_its_cosine(model):
    with torch.no_grad():
        model.blocks[0].attn.W_O.zero_()
        if model.blocks[0].attn.b_O is not None:
            model.blocks[0].attn.b_O.zero_()
        _, cache = model.run_with_cache(torch.arange(7)[:, None])
        alone, W_pos = model.W_E[:, None], getattr(model, "W_pos", None)
        if model.config.positions_to == "stream":
            W_pos.zero_()
            _, cache = model.run_with_cache(torch.arange(7)[:, None])
        torch.testing.assert_close(cache["mlp_in", 0], alone)
        block, neurons = model.blocks[0], read_neurons(model, 0)
        own = 0.0 if block.mlp.b_in is None else block.ln2.b @ block.mlp.W_in + block.mlp.b_in
        centred = torch.stack([as_seen(block.ln2, row) for row in model.W_E])
        length = centred.norm(dim=1) / cache["scale", 0, "ln2"][:, 0, 0]
        expected = neurons.excited_by.T * neurons.reads.norm(dim=1) * length[:, None]
        torch.testing.assert_close(cache["pre", 0][:, 0] - own, expected)


@WITH_MLP
def test_a_neuron_raises_logits_in_the_proportions_of_its_cosines(model):
    """Last layer, frozen scale: the change of each logit over the length of what reads it."""
    tokens, f = torch.tensor([[3, 1, 4]]), 2
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        scale, W_U = cache["ln_final.hook_scale"][0, -1, 0], model.ln_final.w[:, None] * model.W_U
        before, after = (
            cache["resid_post", -1][0, -1],
            cache["resid_post", -1][0, -1] + model.blocks[1].mlp.W_out[f],
        )
        change = (as_seen(model.ln_final, after) - as_seen(model.ln_final, before)) / scale @ W_U
        read = torch.stack([as_seen(model.ln_final, column) for column in W_U.T]).norm(dim=1)
        found = read_neurons(model, 1).raises[f]
        torch.testing.assert_close(change / read / (change / read).norm(), found / found.norm())


def test_without_norm_a_neuron_that_writes_what_it_reads_feeds_itself():
    model = Transformer(Config(9, 6, 8, n_layers=1, d_mlp=3))
    mlp = model.blocks[0].mlp
    with torch.no_grad():
        mlp.W_out[0], mlp.W_out[1], mlp.W_out[2] = 3 * mlp.W_in[:, 0], -mlp.W_in[:, 1], 0.0
    neurons = read_neurons(model, 0)
    torch.testing.assert_close(neurons.feeds_itself, torch.tensor([1.0, -1.0, 0.0]))
    assert not neurons.raises[2].any()


def test_a_neuron_that_reads_what_heads_wrote_looks_idle_in_its_weights_and_is_not():
    """The neuron that says 1 reads both heads, and `=` negatively; no token excites it."""
    case = toys.load("boolean_and")
    excited = read_neurons(case.model, 0).excited_by[0]
    torch.testing.assert_close(excited, torch.tensor([0.0, 0.0, 0.0, -1 / 3**0.5]))
    clean = case.task.everything().distinct().clean
    assert measure_excitation(case.model, 0, clean)[0, 3].item() == pytest.approx(0.25)
    assert measure_excitation(case.model, 0, clean[-1:])[0, 3].item() == pytest.approx(1.0)


@WITH_MLP
def test_measured_excitation_is_the_mean_over_all_places_of_a_token(model, clean):
    clean = clean.clamp(max=5)  # token 6 never occurs
    _, cache = model.run_with_cache(clean)
    for layer in range(2):
        found = measure_excitation(model, layer, clean)
        assert found.shape == (5, 7)
        for v in range(7):
            places = [
                cache["post", layer][i, t] for i in range(3) for t in range(5) if clean[i, t] == v
            ]
            if places:
                torch.testing.assert_close(found[:, v], sum(places) / len(places))
            else:
                assert found[:, v].isnan().all()
        assert found[:, 6].isnan().all()
