"""What is given wrong to a technique that intervenes is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import (
    ablate,
    ablate_directions,
    ablate_each,
    ablate_pairs,
    answer_early,
    edit_rank_one,
    estimate_patches,
    find_steering_vector,
    find_value,
    measure_doses,
    orthogonalise_weights,
    patch_path,
    patch_senders,
    run_with_noise,
    score_reliance,
    split_effects,
    steer,
    trace_causally,
    write_scratchpad,
)

SIZES = {"d_vocab": 7, "n_ctx": 6, "d_model": 8, "n_layers": 2, "n_heads": 2}
MODEL = Transformer(Config(**SIZES, d_mlp=5))
NO_MLP = Transformer(Config(**SIZES))
TIED, FIXED = (
    Transformer(Config(**SIZES, tied=True)),
    Transformer(Config(**SIZES, positions="sinusoidal")),
)
CLEAN, CORRUPT, LONGER = (
    torch.tensor([[1, 2, 3]]),
    torch.tensor([[4, 2, 3]]),
    torch.tensor([[1, 2, 3, 4]]),
)
NONE, BLUR = CLEAN[:0], torch.tensor([[True, False, False]])
SITE, VECTOR, ROWS, KEYS = ("resid_pre", 1), torch.ones(8), torch.eye(8), torch.eye(5)


def metric(logits):
    return logits[:, -1, 2]


def one_number(logits):
    return logits.mean()


def accuracy(logits):
    return (logits[:, -1].argmax(dim=-1) == 2).float()


def edit(key=KEYS[0], value=VECTOR, keys=KEYS, layer=0, **options):
    return edit_rank_one(MODEL, layer, key, value, keys, **options)


ABLATION = {
    "no component is called 'm0.n5'; nearest: m0.n": lambda: ablate(MODEL, CLEAN, ["m0.n5"]),
    "no component is called 'a2'; nearest: a": lambda: ablate(MODEL, CLEAN, "a2"),
    "position 3 was asked for, but the prompts have positions -3 to 2": lambda: ablate(
        MODEL, CLEAN, "a1", positions=[3]
    ),
    "site is 'heads', but must be one of": lambda: ablate_each(
        MODEL, CLEAN, metric, "heads", "head"
    ),
    "post has the axes pos, neuron, but per asks for 'head'": lambda: ablate_each(
        MODEL, CLEAN, metric, "post", "head"
    ),
    "the batch holds no prompts, but at least": lambda: ablate_each(
        MODEL, NONE, metric, "post", "neuron"
    ),
    "no parts were given": lambda: ablate_pairs(MODEL, CLEAN, metric, []),
    "the metric returned torch.float32 ()": lambda: ablate_pairs(MODEL, CLEAN, one_number, ["a0"]),
    "resample needs reference prompts of shape (1, 3), but was given none": lambda: ablate_pairs(
        MODEL, CLEAN, metric, ["a0"], "resample"
    ),
}
DIRECTIONS = {
    "9 directions were given, but there are only 8 dimensions": lambda: ablate_directions(
        MODEL, CLEAN, torch.ones(9, 8)
    ),
    "the 2 directions span fewer than 2 dimensions": lambda: orthogonalise_weights(
        MODEL, torch.ones(2, 8)
    ),
    "directions are torch.float32 (8,), expected floats": lambda: ablate_directions(
        MODEL, CLEAN, VECTOR
    ),
    "directions are torch.float32 (0, 8), expected floats": lambda: ablate_directions(
        MODEL, CLEAN, ROWS[:0]
    ),
    "directions have width 5, but blocks.0.hook_resid_pre has 8": lambda: ablate_directions(
        MODEL, CLEAN, KEYS
    ),
    "directions have width 5, but the stream has 8": lambda: orthogonalise_weights(MODEL, KEYS),
    "no hook is called ('resid', 0)": lambda: ablate_directions(
        MODEL, CLEAN, ROWS[:1], ("resid", 0)
    ),
    "ablation is 'median', but": lambda: ablate_directions(
        MODEL, CLEAN, ROWS[:1], ablation="median"
    ),
    "reference prompts are (1, 4), but the prompts (1, 3)": lambda: ablate_directions(
        MODEL, CLEAN, ROWS[:1], ablation="mean", reference=LONGER
    ),
    "the batch holds no prompts, but at least one is needed": lambda: ablate_directions(
        MODEL, NONE, ROWS[:1]
    ),
    "this model has a tied unembedding, which": lambda: orthogonalise_weights(TIED, ROWS[:1]),
    "this model has fixed positions in the stream, which": lambda: orthogonalise_weights(
        FIXED, ROWS[:1]
    ),
}
STEERING = {
    "there are no negative prompts": lambda: find_steering_vector(MODEL, CLEAN, NONE, SITE),
    "there are no positive prompts": lambda: find_steering_vector(MODEL, NONE, CLEAN, SITE),
    "but steering needs a hook with axes (batch, pos, width)": lambda: find_steering_vector(
        MODEL, CLEAN, CORRUPT, ("pattern", 0)
    ),
    "position 4 was asked for, but the prompts have positions -3 to 2": lambda: (
        find_steering_vector(MODEL, CLEAN, CORRUPT, SITE, 4)
    ),
    "position -4 was asked for": lambda: steer(MODEL, CLEAN, VECTOR, SITE, position=-4),
    "the vector is (5,), but blocks.1.hook_resid_pre has width 8": lambda: steer(
        MODEL, CLEAN, KEYS[0], SITE
    ),
    "no hook is called ('stream', 1)": lambda: steer(MODEL, CLEAN, VECTOR, ("stream", 1)),
    "no strengths were given": lambda: measure_doses(MODEL, CLEAN, metric, VECTOR, SITE, []),
    "the batch holds no prompts": lambda: measure_doses(MODEL, NONE, metric, VECTOR, SITE, [1.0]),
    "the metric returned torch.float32 () for": lambda: measure_doses(
        MODEL, CLEAN, one_number, VECTOR, SITE, [1.0]
    ),
}
PATHS = {
    "the path is 'a0.h0', but must have at least one edge": lambda: patch_path(
        MODEL, CLEAN, CORRUPT, "a0.h0"
    ),
    "no edge is called 'a1.h0->a0.h0<k>'": lambda: patch_path(
        MODEL, CLEAN, CORRUPT, "a1.h0->a0.h0<k>"
    ),
    "no edge is called 'a0.h0->a1.h0'": lambda: patch_path(
        MODEL, CLEAN, CORRUPT, "a0.h0->a1.h0->logits"
    ),
    "clean prompts are (1, 3) and corrupt ones (1, 4)": lambda: patch_path(
        MODEL, CLEAN, LONGER, "input->logits"
    ),
    "the batch holds no prompts, but a mean": lambda: patch_path(
        MODEL, NONE, NONE, "input->logits"
    ),
    "no receiver is called 'a1.h0'; they look like 'a0.h0<q>', or 'logits'": lambda: patch_senders(
        MODEL, CLEAN, CORRUPT, metric, ["a1.h0"]
    ),
    "no receiver is called 'm2'": lambda: patch_senders(MODEL, CLEAN, CORRUPT, metric, "m2"),
    "the metric returned torch.float32 () for logits": lambda: split_effects(
        MODEL, CLEAN, CORRUPT, one_number
    ),
    "clean prompts are (1, 3) and corrupt ones (1, 4), but": lambda: split_effects(
        MODEL, CLEAN, LONGER, metric
    ),
    "ablation is 'median', but must be": lambda: split_effects(
        MODEL, CLEAN, CORRUPT, metric, "median"
    ),
}
ESTIMATES = {
    "steps is -1, but must be 0": lambda: estimate_patches(MODEL, CLEAN, CORRUPT, metric, steps=-1),
    "the metric has no gradient": lambda: estimate_patches(MODEL, CLEAN, CORRUPT, accuracy),
    "the metric has no gradient: use": lambda: estimate_patches(
        MODEL, CLEAN, CORRUPT, accuracy, steps=2
    ),
    "clean prompts are (1, 3) and corrupt": lambda: estimate_patches(MODEL, CLEAN, LONGER, metric),
    "site is 'post', but must be one of": lambda: estimate_patches(
        NO_MLP, CLEAN, CORRUPT, metric, "post", "neuron"
    ),
    "z has the axes pos, head, d_head, but per": lambda: estimate_patches(
        MODEL, CLEAN, CORRUPT, metric, "z", "neuron"
    ),
    "direction is 'back', but must": lambda: estimate_patches(
        MODEL, CLEAN, CORRUPT, metric, direction="back"
    ),
    "the metric returned torch.float32 () for logits (1, 3, 7)": lambda: estimate_patches(
        MODEL, CLEAN, CORRUPT, one_number
    ),
    "the batch holds no prompts, but at least one is": lambda: estimate_patches(
        MODEL, NONE, NONE, metric
    ),
}
TRACING = {
    "blurred is torch.bool (3,), expected torch.bool (1, 3)": lambda: run_with_noise(
        MODEL, CLEAN, BLUR[0]
    ),
    "blurred is torch.int64 (1, 3), expected": lambda: trace_causally(MODEL, CLEAN, metric, CLEAN),
    "blurred marks no token": lambda: trace_causally(MODEL, CLEAN, metric, BLUR & False),
    "draws is 0, but must be at least 1": lambda: run_with_noise(MODEL, CLEAN, BLUR, draws=0),
    "noise is -1.0, but must be a positive": lambda: trace_causally(
        MODEL, CLEAN, metric, BLUR, noise=-1.0
    ),
    "site is 'head', but must be one of": lambda: trace_causally(
        MODEL, CLEAN, metric, BLUR, "head"
    ),
    "the metric returned torch.float32 () for logits (1": lambda: trace_causally(
        MODEL, CLEAN, one_number, BLUR
    ),
}
EDITS = {
    "an MLP in layer 2 was asked for, but this model has 2 layers, each with an MLP": lambda: edit(
        layer=2
    ),
    "an MLP in layer 0 was asked for, but this model has 2 layers, none": lambda: find_value(
        NO_MLP, CLEAN, CLEAN[:, 0], 0, -1
    ),
    "key, value and keys are (8,), (8,) and (5, 5), expected (5,), (8,) and (at least 1, 5)": lambda: (
        edit(key=VECTOR)
    ),
    "key, value and keys are (5,), (8,) and (0, 5), expected": lambda: edit(keys=KEYS[:0]),
    "the key is zero, or a number is not finite": lambda: edit(key=0 * KEYS[0]),
    "ridge is 0, but must be positive": lambda: edit(ridge=0),
    "prompts are (1, 3) and answers torch.int64 (2,), but there must be one answer": lambda: (
        find_value(MODEL, CLEAN, torch.tensor([1, 2]), 0, -1)
    ),
    "the batch holds no prompts, but at least one": lambda: find_value(
        MODEL, NONE, NONE[:, 0], 0, -1
    ),
    "position 3 was asked for, but the prompts have 3 positions": lambda: find_value(
        MODEL, CLEAN, CLEAN[:, 0], 0, 3
    ),
}
SCRATCHPADS = {
    "5 tokens were asked for, but after 3 the context has room for 0 to 4": lambda: (
        write_scratchpad(MODEL, CLEAN, 5)
    ),
    "edits are (1, 1, 2), expected (edit, 1, 1)": lambda: score_reliance(
        MODEL, CLEAN, slice(1, 2), CLEAN[None, :, :2]
    ),
    "prompt 0 has no edit that differs": lambda: score_reliance(
        MODEL, CLEAN, slice(1, 2), CLEAN[None, :, 1:2]
    ),
    "the scratchpad slice(5, 6, None) holds no tokens": lambda: answer_early(
        MODEL, CLEAN, slice(5, 6), 0
    ),
    "the batch holds no prompts, but": lambda: answer_early(MODEL, NONE, slice(1, 2), 0),
    "the answer is read at position 0 of 3": lambda: answer_early(
        MODEL, CLEAN, slice(1, 2), 0, position=0
    ),
    "filler is 7, but the vocabulary runs from 0 to 6": lambda: answer_early(
        MODEL, CLEAN, slice(1, 2), 7
    ),
}
EVERYTHING = ABLATION | DIRECTIONS | STEERING | PATHS | ESTIMATES | TRACING | EDITS | SCRATCHPADS


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
