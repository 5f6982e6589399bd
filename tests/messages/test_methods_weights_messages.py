"""What is given wrong to a reading of weights, or to logit attribution, is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import (
    attribute_logits,
    attribute_logits_to_neurons,
    attribute_logits_to_sources,
    measure_excitation,
    read_neurons,
    read_ov,
    read_qk,
    score_composition,
    score_copying,
    score_random_composition,
    split_circuit,
)

SIZES = {"d_vocab": 7, "n_ctx": 6, "d_model": 8, "n_layers": 2, "n_heads": 2}
MODEL, NO_MLP = Transformer(Config(**SIZES, d_mlp=5)), Transformer(Config(**SIZES))
NO_LAYERS = Transformer(Config(**SIZES | {"n_layers": 0}))
NO_POSITIONS = Transformer(Config(**SIZES, positions="none"))
POSITIONS_TO_QK = Transformer(Config(**SIZES, positions_to="qk"))
FEWER_OUT = Transformer(Config(**SIZES, d_vocab_out=5))
TOKENS, ONE = torch.tensor([[1, 2, 3]]), torch.tensor([1])
NONE = TOKENS[:0]


def attribute(method, model=MODEL, tokens=TOKENS, answer=ONE, **options):
    return method(model, model.run_with_cache(tokens)[1], answer, **options)


CIRCUITS = {
    "no head is called 'a2.h0'; nearest: a": lambda: read_qk(MODEL, "a2.h0"),
    "no head is called 'm0'; nearest: a": lambda: read_ov(MODEL, "m0"),
    "no head is called 'a0.h2'; nearest: a0.h": lambda: split_circuit(MODEL, "a0.h2"),
    "no head is called 'a0.h0'; nearest: none, no layers": lambda: read_ov(NO_LAYERS, "a0.h0"),
    "no source is called 'tokens': take 'token', 'position', 'bias' or a head of an earlier layer": lambda: (
        read_qk(MODEL, "a0.h0", "tokens")
    ),
    "no source is called 'a1.h1': take": lambda: read_qk(MODEL, "a1.h0", key="a1.h1"),
    "no source is called 'a0.h2': take": lambda: read_ov(MODEL, "a1.h0", "a0.h2"),
    "the source is 'position', but positions are none in this model": lambda: read_qk(
        NO_POSITIONS, "a0.h0", "position"
    ),
    "the source is 'position', but positions go to queries and keys only": lambda: read_ov(
        POSITIONS_TO_QK, "a0.h0", "position"
    ),
    "circuit is 'vo', but must be 'qk' or 'ov'": lambda: split_circuit(MODEL, "a0.h0", "vo"),
    "7 tokens are read and 5 predicted: say which `tokens` are both": lambda: score_copying(
        FEWER_OUT
    ),
    "tokens are [0, 5], but must be 0 to 4": lambda: score_copying(FEWER_OUT, [0, 5]),
    "tokens are [-1], but must be 0 to 6": lambda: score_copying(MODEL, [-1]),
    "tokens are [], but must be 0 to 6": lambda: score_copying(MODEL, []),
    "part is 'o', but a head is read by 'q', 'k' or 'v'": lambda: score_composition(MODEL, "o"),
    "draws is 0, but must be at least 1": lambda: score_random_composition(MODEL, draws=0),
}
NEURONS = {
    "an MLP in layer 2 was asked for, but this model has 2 layers, each": lambda: read_neurons(
        MODEL, 2
    ),
    "an MLP in layer 0 was asked for, but this model has 2 layers, none": lambda: (
        measure_excitation(NO_MLP, 0, TOKENS)
    ),
    "tokens are (0, 3), but a mean needs at least one prompt": lambda: measure_excitation(
        MODEL, 0, NONE
    ),
    "tokens are torch.int64 (3,), expected a tensor of": lambda: measure_excitation(
        MODEL, 0, TOKENS[0]
    ),
}
ATTRIBUTION = {
    "this model has no MLPs, so there are no neurons": lambda: attribute(
        attribute_logits_to_neurons, NO_MLP
    ),
    "this model has no layers, so there are no heads": lambda: attribute(
        attribute_logits_to_sources, NO_LAYERS
    ),
    "the cache is of a run without prompts": lambda: attribute(
        attribute_logits, tokens=NONE, answer=NONE[:, 0]
    ),
    "the cache is of a run without prompts, but": lambda: attribute(
        attribute_logits_to_sources, tokens=NONE, answer=NONE[:, 0]
    ),
    "answer runs from 7 to 7, but must be 0 to 6": lambda: attribute(
        attribute_logits_to_neurons, answer=7 * ONE
    ),
    "wrong is torch.float32 (1,), but": lambda: attribute(
        attribute_logits_to_sources, wrong=ONE.float()
    ),
    "position runs from 3 to 3, but must be -3 to 2": lambda: attribute(
        attribute_logits_to_sources, position=3
    ),
}
EVERYTHING = CIRCUITS | NEURONS | ATTRIBUTION


@pytest.mark.parametrize("sentence", EVERYTHING)
def test_bad_input_is_answered_with_its_sentence(sentence):
    before = (
        torch.random.get_rng_state(),
        torch.get_num_threads(),
        [p.clone() for p in MODEL.parameters()],
    )
    with pytest.raises((ValueError, KeyError), match=re.escape(sentence)) as raised:
        EVERYTHING[sentence]()
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 250, message
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert all(
        torch.equal(new, old) for new, old in zip(MODEL.parameters(), before[2], strict=True)
    )
    assert not any(point.on for point in MODEL.hook_points.values())
