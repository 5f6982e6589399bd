"""What is given wrong to a technique that finds circuits is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import (
    attribute_edges,
    divergence_from,
    find_circuit_acdc,
    patch_edges,
    score_nodes,
    sweep_acdc,
    train_edge_mask,
)

MODEL = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5))
CLEAN, CORRUPT, LONGER = (
    torch.tensor([[1, 2, 3]]),
    torch.tensor([[4, 2, 5]]),
    torch.tensor([[1, 2, 3, 4]]),
)
NONE = CLEAN[:0]
FINDERS = {
    "patch_edges": patch_edges,
    "attribute_edges": attribute_edges,
    "find_circuit_acdc": find_circuit_acdc,
    "sweep_acdc": sweep_acdc,
    "train_edge_mask": train_edge_mask,
}


def metric(logits):
    return logits[:, -1, 2]


def one_number(logits):
    return logits.mean()


def accuracy(logits):
    return (logits[:, -1].argmax(dim=-1) == 2).float()


def nothing(logits):
    return 0 * logits[:, -1, 2]


with torch.no_grad():
    MIDDLE = (metric(MODEL(CLEAN)) + metric(MODEL(CORRUPT))) / 2


SHARED = {
    "clean prompts are (1, 3) and corrupt ones (1, 4), but": lambda f: f(
        MODEL, CLEAN, LONGER, metric
    ),
    "the batch holds no prompts, but a mean needs at least one": lambda f: f(
        MODEL, NONE, NONE, metric
    ),
    "the metric returned torch.float32 () for logits (1, 3, 7)": lambda f: f(
        MODEL, CLEAN, CORRUPT, one_number
    ),
    "ablation is 'median', but must be": lambda f: f(MODEL, CLEAN, CORRUPT, metric, "median"),
}
OWN = {
    "direction is 'back', but must be": lambda: patch_edges(
        MODEL, CLEAN, CORRUPT, metric, direction="back"
    ),
    "ablation is 'zero', but denoising puts clean": lambda: patch_edges(
        MODEL, CLEAN, CORRUPT, metric, "zero", "denoise"
    ),
    "batch_size is 0, but must be at least 1": lambda: patch_edges(
        MODEL, CLEAN, CORRUPT, metric, batch_size=0
    ),
    "batch_size is -1, but must": lambda: find_circuit_acdc(
        MODEL, CLEAN, CORRUPT, metric, batch_size=-1
    ),
    "scores are (3,), expected (46,): one per edge": lambda: score_nodes(MODEL, torch.zeros(3)),
    "steps is -1, but must be 0": lambda: attribute_edges(MODEL, CLEAN, CORRUPT, metric, steps=-1),
    "along is 'paths', but must be": lambda: attribute_edges(
        MODEL, CLEAN, CORRUPT, metric, along="paths"
    ),
    "the metric has no gradient: use": lambda: attribute_edges(MODEL, CLEAN, CORRUPT, accuracy),
    "the metric has no gradient": lambda: attribute_edges(
        MODEL, CLEAN, CORRUPT, accuracy, steps=2, along="masks"
    ),
    "tau is 0, but must be positive": lambda: find_circuit_acdc(
        MODEL, CLEAN, CORRUPT, divergence_from(MODEL, CLEAN), tau=0
    ),
    "tau is nan, but must be": lambda: sweep_acdc(
        MODEL, CLEAN, CORRUPT, divergence_from(MODEL, CLEAN), taus=[float("nan")]
    ),
    "the metric is 0 with all edges on and 0 with all off, but must be lower then": lambda: (
        find_circuit_acdc(MODEL, CLEAN, CORRUPT, nothing)
    ),
    "with all edges on and 0 with all off, but it must differ": lambda: train_edge_mask(
        MODEL, CLEAN, CORRUPT, nothing
    ),
    "the metric has no gradient: use a logit": lambda: train_edge_mask(
        MODEL, CLEAN, CORRUPT, lambda logits: (metric(logits) > MIDDLE).float()
    ),
    "draws is 0 and penalty 0.1, but both must": lambda: train_edge_mask(
        MODEL, CLEAN, CORRUPT, metric, penalty=0.1, draws=0
    ),
    "draws is 1 and penalty -1, but both": lambda: train_edge_mask(
        MODEL, CLEAN, CORRUPT, metric, penalty=-1, draws=1
    ),
    "steps is 0 and lr 0.1, but both": lambda: train_edge_mask(
        MODEL, CLEAN, CORRUPT, metric, steps=0
    ),
    "position 3 was asked for, but the prompts have positions -3 to 2": lambda: divergence_from(
        MODEL, CLEAN, 3
    ),
}


def check(sentence, call):
    before = (
        torch.random.get_rng_state(),
        torch.get_num_threads(),
        [p.clone() for p in MODEL.parameters()],
    )
    with pytest.raises((ValueError, KeyError), match=re.escape(sentence)) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 250, message
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert all(
        torch.equal(new, old) for new, old in zip(MODEL.parameters(), before[2], strict=True)
    )
    assert not any(point.on for point in MODEL.hook_points.values())


@pytest.mark.parametrize("sentence", SHARED)
@pytest.mark.parametrize("name", FINDERS)
def test_every_finder_answers_the_same_bad_input_with_the_same_sentence(name, sentence):
    check(sentence, lambda: SHARED[sentence](FINDERS[name]))


@pytest.mark.parametrize("sentence", OWN)
def test_bad_input_of_its_own_is_answered_with_its_sentence(sentence):
    check(sentence, OWN[sentence])
