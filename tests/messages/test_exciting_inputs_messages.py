"""What is given wrong to a technique that asks which inputs matter is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import (
    climb_by_swaps,
    describe_unit,
    find_max_activating,
    integrate_gradients,
    measure_saliency,
    measure_shapley,
    measure_units,
    multiply_gradient,
    occlude_each,
    read_units,
    sample_bands,
    sample_shapley,
    synthesise_input,
)

MODEL = Transformer(Config(d_vocab=7, n_ctx=16, d_model=8, n_layers=2, n_heads=2, d_mlp=5))
CLEAN, ZERO, NONE = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor(0), torch.zeros(0, 3).long()
LONG, PROMPTS = (
    torch.zeros(1, 15).long(),
    torch.tensor([[i, j] for i in range(3) for j in range(3)]),
)
POST, VALUES = ("post", 0), PROMPTS.float()
LOW = {"low": lambda tokens: tokens < 1}


def metric(logits):
    return logits[:, -1, 2]


def one_number(logits):
    return logits.mean()


def accuracy(logits):
    return (logits[:, -1].argmax(dim=-1) == 2).float()


def logit(prompts):
    return MODEL(prompts)[:, -1, 2]


def deaf(prompts):
    return prompts.sum(dim=1).float()


UNITS = {
    "blocks.0.attn.hook_pattern has the axes head, query, key, but units need": lambda: read_units(
        MODEL,
        PROMPTS,
        ("pattern", 0),  # as many positions as heads
    ),
    "no hook is called ('posts', 0); nearest: ('post', 0)": lambda: measure_units(
        MODEL, CLEAN, ("posts", 0)
    ),
    "the basis is (3, 8), but blocks.0.mlp.hook_post needs (unit, 5)": lambda: measure_units(
        MODEL, CLEAN, POST, torch.eye(8)[:3]
    ),
    "the batch holds no prompts, but at least one is needed": lambda: measure_units(
        MODEL, NONE, POST
    ),
    "the batch holds no prompts, but at least one is": lambda: read_units(MODEL, NONE, POST),
    "levels are [0.5, 1.5] and keep is 10000, but": lambda: measure_units(
        MODEL, CLEAN, POST, levels=[0.5, 1.5]
    ),
    "keep is 0, but levels go from 0 to 1, and at least 1": lambda: measure_units(
        MODEL, CLEAN, POST, keep=0
    ),
    "position 3 was asked for, but the prompts have positions -3 to 2": lambda: measure_units(
        MODEL, CLEAN, POST, position=3
    ),
    "batch_size is 0, but must be at least 1": lambda: measure_units(
        MODEL, CLEAN, POST, batch_size=0
    ),
}
EXAMPLES = {
    "7 examples were asked for, but there are 6 places": lambda: find_max_activating(
        MODEL, CLEAN, POST, k=7
    ),
    "3 examples were asked for, but there are 2 places": lambda: sample_bands(
        MODEL, CLEAN, POST, k=3, position=0
    ),
    "0 examples were asked for": lambda: find_max_activating(MODEL, CLEAN, POST, k=0),
    "the batch holds no prompts": lambda: find_max_activating(MODEL, NONE, POST),
    "the window has -1 tokens before and 0 after": lambda: find_max_activating(
        MODEL, CLEAN, POST, before=-1
    ),
    "levels are (0.5, 0.5), but must rise": lambda: sample_bands(
        MODEL, CLEAN, POST, levels=(0.5, 0.5)
    ),
    "levels are (0.5,), but must rise from 0 to 1, at least two": lambda: sample_bands(
        MODEL, CLEAN, POST, levels=(0.5,)
    ),
}
SYNTHESIS = {
    "start is (2, 3), restarts 8: expected one prompt": lambda: synthesise_input(
        MODEL, CLEAN, logit
    ),
    "start is (3,), restarts 0: expected one prompt, and at least 1": lambda: synthesise_input(
        MODEL, CLEAN[0], logit, restarts=0
    ),
    "steps is 0 and lr 0.3, but both must be positive": lambda: synthesise_input(
        MODEL, CLEAN[0], logit, steps=0
    ),
    "positions [3] were asked for, but give at least one, from 0 to 2": lambda: synthesise_input(
        MODEL, CLEAN[0], logit, free=[3]
    ),
    "tokens [] were asked for, but give at least one, from 0 to 6": lambda: climb_by_swaps(
        MODEL, CLEAN, logit, allowed=[]
    ),
    "tokens [7] were asked for": lambda: climb_by_swaps(MODEL, CLEAN, logit, allowed=[7]),
    "the batch holds no prompts, but at least one": lambda: climb_by_swaps(MODEL, NONE, logit),
    "shortlist is 0, but at least one swap": lambda: climb_by_swaps(
        MODEL, CLEAN, logit, shortlist=0
    ),
    "excite returned torch.float32 () for 2 prompts": lambda: climb_by_swaps(
        MODEL, CLEAN, lambda p: MODEL(p).mean()
    ),
    "excite returned torch.float32 (8, 8) for 8 prompts, but": lambda: synthesise_input(
        MODEL, CLEAN[0], lambda p: logit(p).expand(8, 8)
    ),
    "hook_embed was never reached": lambda: climb_by_swaps(MODEL, CLEAN, deaf),
    "excite has no gradient: return an activation or a logit": lambda: climb_by_swaps(
        MODEL, CLEAN, lambda p: logit(p).detach()
    ),
}
ATTRIBUTION = {
    "the metric returned torch.float32 () for logits (2, 3, 7)": lambda: measure_saliency(
        MODEL, CLEAN, one_number
    ),
    "the metric returned torch.float32 () for logits (2": lambda: occlude_each(
        MODEL, CLEAN, one_number, ZERO
    ),
    "the metric has no gradient: use a logit": lambda: multiply_gradient(
        MODEL, CLEAN, accuracy, ZERO
    ),
    "the batch holds no prompts, but at least": lambda: measure_saliency(MODEL, NONE, metric),
    "the batch holds no prompts, but at": lambda: occlude_each(MODEL, NONE, metric, ZERO),
    "the baseline is torch.int64 (), but its tokens must be from 0 to 6": lambda: occlude_each(
        MODEL, CLEAN, metric, torch.tensor(7)
    ),
    "the baseline is torch.float32 (5,), but must be tokens or embeddings that fit (2, 3, 8)": lambda: (
        occlude_each(MODEL, CLEAN, metric, torch.zeros(5))
    ),
    "the baseline is torch.int64 (4, 3), but must be tokens": lambda: integrate_gradients(
        MODEL, CLEAN, metric, torch.zeros(4, 3).long()
    ),
    "the baseline is torch.float32 (1, 2, 3, 8), but must": lambda: multiply_gradient(
        MODEL, CLEAN, metric, torch.zeros(1, 2, 3, 8)
    ),
    "steps is 0 and tolerance 0.05, but both": lambda: integrate_gradients(
        MODEL, CLEAN, metric, ZERO, steps=0
    ),
    "give more steps than 1, or a higher tolerance than 1e-06": lambda: integrate_gradients(
        MODEL, CLEAN, metric, ZERO, steps=1, tolerance=1e-6
    ),
    "batch_size is -1, but must be": lambda: occlude_each(
        MODEL, CLEAN, metric, ZERO, batch_size=-1
    ),
}
SHAPLEY = {
    "15 positions have 2^15 coalitions, but exact values take at most 14": lambda: measure_shapley(
        MODEL, LONG, metric, ZERO
    ),
    "position 3 was asked for, but the prompts have positions": lambda: measure_shapley(
        MODEL, CLEAN, metric, ZERO, [3]
    ),
    "positions are [0, -3], but must be at least one, and each once": lambda: measure_shapley(
        MODEL, CLEAN, metric, ZERO, [0, -3]
    ),
    "positions are [], but must be": lambda: sample_shapley(
        MODEL, CLEAN, metric, ZERO, positions=[]
    ),
    "draws is 1, but a standard error needs at least 2": lambda: sample_shapley(
        MODEL, CLEAN, metric, ZERO, draws=1
    ),
    "the batch holds no prompts, but": lambda: sample_shapley(MODEL, NONE, metric, ZERO),
}
DESCRIPTION = {
    "activations are torch.float32 (9,) for tokens (9, 2), but": lambda: describe_unit(
        PROMPTS, VALUES[:, 0], LOW
    ),
    "activations are torch.int64 (9, 2)": lambda: describe_unit(PROMPTS, PROMPTS, LOW),
    "activations are torch.float32 (0, 2) for tokens (0, 2)": lambda: describe_unit(
        PROMPTS[:0], VALUES[:0], LOW
    ),
    "no predicates were given": lambda: describe_unit(PROMPTS, VALUES, {}),
    "predicate 'low' gave torch.bool (9,), but must give torch.bool (9, 2)": lambda: describe_unit(
        PROMPTS, VALUES, {"low": lambda tokens: tokens[:, 0] < 1}
    ),
    "predicate 'token' gave torch.int64 (9, 2), but": lambda: describe_unit(
        PROMPTS, VALUES, {"token": lambda tokens: tokens}
    ),
    "there are 3 different prompts, but at least 4": lambda: describe_unit(
        PROMPTS[:3], VALUES[:3], LOW
    ),
    "the unit's activation is 0 in all of one half, but must vary": lambda: describe_unit(
        PROMPTS, 0 * VALUES, LOW
    ),
    "max_size 0, beam 64, shuffles 5, penalty 0.01 were given": lambda: describe_unit(
        PROMPTS, VALUES, LOW, max_size=0
    ),
    "penalty -1 were given": lambda: describe_unit(PROMPTS, VALUES, LOW, penalty=-1),
    "position 2 was asked for": lambda: describe_unit(PROMPTS, VALUES, LOW, position=2),
}
EVERYTHING = UNITS | EXAMPLES | SYNTHESIS | ATTRIBUTION | SHAPLEY | DESCRIPTION


@pytest.mark.parametrize("sentence", EVERYTHING)
def test_bad_input_about_inputs_is_answered_with_its_sentence(sentence):
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


def test_no_sentence_hides_another():
    assert len(EVERYTHING) == sum(
        map(len, (UNITS, EXAMPLES, SYNTHESIS, ATTRIBUTION, SHAPLEY, DESCRIPTION))
    )
