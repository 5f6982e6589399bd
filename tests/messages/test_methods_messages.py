"""What is given wrong to a technique, the edge engine or a plot is answered with one sentence that says what fits."""

import re

import numpy as np
import pytest
import torch
from matplotlib import pyplot

from mini_transformer import Config, Transformer, methods, plots
from mini_transformer.claims import Measurement
from mini_transformer.edges import mask_of, run_edges, write_outputs
from mini_transformer.methods import (
    ablate,
    ablate_each_head,
    attribute_logits,
    patch_activations,
    share_recovered,
)

MODEL = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2))
NO_LAYERS = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=0))
CLEAN, CORRUPT, LONGER = (
    torch.tensor([[1, 2, 3]]),
    torch.tensor([[4, 2, 3]]),
    torch.tensor([[1, 2, 3, 4]]),
)
CACHE = MODEL.run_with_cache(CLEAN)[1]
ONE = torch.tensor([1])
NONE = CLEAN[:0]


def metric(logits):
    return logits[:, -1, 2]


def patch(*args, **kwargs):
    return patch_activations(MODEL, *args, **kwargs)


PATCHING = {
    "clean prompts are (1, 3) and corrupt ones (1, 4), but they must have one shape": lambda: patch(
        CLEAN, LONGER, metric
    ),
    "direction is 'forward', but must be 'denoise'": lambda: patch(
        CLEAN, CORRUPT, metric, direction="forward"
    ),
    "site is 'resid', but must be one of: resid_pre, resid_post": lambda: patch(
        CLEAN, CORRUPT, metric, "resid"
    ),
    "site is 'mlp_out', but must be one of": lambda: patch(CLEAN, CORRUPT, metric, "mlp_out"),
    "z has the axes pos, head, d_head, but per asks for 'heads'": lambda: patch(
        CLEAN, CORRUPT, metric, "z", "heads"
    ),
    "per is 'pos pos', but must name an axis once at most": lambda: patch(
        CLEAN, CORRUPT, metric, "z", "pos pos"
    ),
    "batch_size is 0, but must be at least 1": lambda: patch(CLEAN, CORRUPT, metric, batch_size=0),
    "must be one of: none, without layers": lambda: patch_activations(
        NO_LAYERS, CLEAN, CORRUPT, metric
    ),
    "the batch holds no prompts": lambda: patch(NONE, NONE, metric),
    "the metric returned torch.float32 () for logits (1, 3, 7), but must return one float per prompt: shape (1,)": (
        lambda: patch(CLEAN, CORRUPT, lambda logits: logits.mean())
    ),
    "the metric returned torch.float32 (1, 3)": lambda: patch(
        CLEAN, CORRUPT, lambda logits: logits[..., 0]
    ),
    "the metric returned torch.int64 (1,)": lambda: patch(
        CLEAN, CORRUPT, lambda logits: logits[:, -1].argmax(dim=-1)
    ),
    "the metric returned float for logits": lambda: patch(
        CLEAN, CORRUPT, lambda logits: logits.sum().item()
    ),
    "but it must differ": lambda: share_recovered(torch.zeros(2), MODEL, CLEAN, CLEAN, metric),
}
ABLATION = {
    "no component is called 'a0.h2'; nearest: a0.h": lambda: ablate(MODEL, CLEAN, ["a0.h2"]),
    "no component is called 'm0'; nearest: a": lambda: ablate(MODEL, CLEAN, ["a0.h0", "m0"]),
    "no component is called 'a0.h0'; nearest: none, no layers": lambda: ablate(
        NO_LAYERS, CLEAN, ["a0.h0"]
    ),
    "ablation is 'median', but must be 'zero', 'mean' or 'resample'": lambda: ablate(
        MODEL, CLEAN, [], "median"
    ),
    "resample needs reference prompts of shape (1, 3), but was given none": (
        lambda: ablate(MODEL, CLEAN, ["a0.h0"], "resample")
    ),
    "resample needs reference prompts of shape (1, 3), but was given (1, 4)": (
        lambda: ablate_each_head(MODEL, CLEAN, metric, "resample", LONGER)
    ),
    "reference prompts have 4 tokens, but the prompts 3": lambda: ablate(
        MODEL, CLEAN, ["a0.h0"], "mean", LONGER
    ),
    "must be one of: none": lambda: ablate_each_head(NO_LAYERS, CLEAN, metric),
    "the metric returned": lambda: ablate_each_head(MODEL, CLEAN, lambda logits: logits),
}
LOOKING = {
    "the model has no layers": lambda: methods.previous_token_scores(NO_LAYERS, CLEAN),
    "no query has a key to look for": lambda: methods.induction_scores(MODEL, CLEAN),
    "no query has a key to look for in these tokens": lambda: methods.sink_scores(
        MODEL, CLEAN, slice(0, 1)
    ),
    "targets are torch.float32 (1, 3, 3), expected torch.bool (1, 3, 3)": (
        lambda: methods.score_heads(MODEL, CLEAN, torch.ones(1, 3, 3))
    ),
    "targets are torch.bool (3, 3), expected": (
        lambda: methods.score_heads(MODEL, CLEAN, torch.ones(3, 3, dtype=torch.bool))
    ),
    "tokens are torch.int64 (3,), expected": lambda: methods.duplicate_token_scores(
        MODEL, CLEAN[0]
    ),
    "tokens run from 1 to 9": lambda: methods.previous_token_scores(MODEL, torch.tensor([[1, 9]])),
    "answer is torch.int64 (2,), but must be one integer per prompt: (1,)": (
        lambda: attribute_logits(MODEL, CACHE, torch.tensor([1, 2]))
    ),
    "wrong is torch.float32 (1,)": lambda: attribute_logits(MODEL, CACHE, ONE, ONE.float()),
    "answer runs from 7 to 7, but must be 0 to 6": lambda: attribute_logits(MODEL, CACHE, 7 * ONE),
    "answer runs from -1 to -1": lambda: attribute_logits(MODEL, CACHE, -ONE),
    "position runs from 3 to 3, but must be -3 to 2": lambda: attribute_logits(
        MODEL, CACHE, ONE, position=3
    ),
    "was not cached": (
        lambda: attribute_logits(
            MODEL, MODEL.run_with_cache(CLEAN, names_filter="embed")[1], ONE, position=2
        )
    ),
}
EDGES = {
    "no edge is called 'a1.h0->a0.h0<k>' in this model; edges look like": lambda: mask_of(
        MODEL, ["a1.h0->a0.h0<k>"]
    ),
    "masks have shape (2, 5), expected (mask, 1): one column per edge": (
        lambda: run_edges(NO_LAYERS, CLEAN, torch.ones(2, 5), write_outputs(NO_LAYERS, CLEAN))
    ),
    "masks have shape (1,), expected": (
        lambda: run_edges(NO_LAYERS, CLEAN, torch.ones(1), write_outputs(NO_LAYERS, CLEAN))
    ),
    "off has shape (1, 1, 4, 8), expected (1, 1, 3, 8): what write_outputs returns": (
        lambda: run_edges(NO_LAYERS, CLEAN, torch.ones(1, 1), write_outputs(NO_LAYERS, LONGER))
    ),
    "ablation is 'median', but must be": lambda: write_outputs(MODEL, CLEAN, "median"),
}
SHOWING = {
    "the pattern is (3, 3), but there are 2 tokens": lambda: plots.plot_attention(
        np.eye(3), ["a", "b"]
    ),
    "the matrix is (3, 3), but it has 1 row and 3 column labels": (
        lambda: plots.plot_patching(np.eye(3), ["layer 0"], ["a", "b", "c"])
    ),
    "low is 2 and high is 1": lambda: Measurement("share", lambda: 1.0, low=2, high=1),
    "'share' has no bound": lambda: Measurement("share", lambda: 1.0),
}
EVERYTHING = PATCHING | ABLATION | LOOKING | EDGES | SHOWING


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
    pyplot.close("all")
