"""Wrong shapes, empty batches, and numbers that are not finite: what each technique says, in one sentence."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer, methods

MODEL = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5))
CLEAN, CORRUPT, LONGER = (
    torch.tensor([[1, 2, 3]]),
    torch.tensor([[4, 2, 3]]),
    torch.tensor([[1, 2, 3, 4]]),
)
FLAT, NONE, FLOATS = CLEAN[0], CLEAN[:0], CLEAN.float()
SITE, VECTOR, ROWS = ("resid_post", 0), torch.ones(8), torch.eye(8)
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
Y, NAN = torch.tensor([0, 1, 0, 1, 0, 1]), float("nan")
AXES = methods.Dictionary(ROWS, 0 * VECTOR, ROWS, 0 * VECTOR, 0 * VECTOR, 0 * VECTOR)
PAIRS = torch.arange(125.0).view(25, 5) ** 2  # logits of all pairs of numbers modulo 5
BLUR = torch.tensor([[True, False, False]])


def metric(logits):
    return logits[:, -1, 2]


def one_number(logits):
    return logits.mean()


ONE_PROMPT_AXIS = {  # tokens without a batch
    "ablate": lambda: methods.ablate(MODEL, FLAT, ["a0"]),
    "ablate_each": lambda: methods.ablate_each(MODEL, FLAT, metric, "z", "head"),
    "ablate_each_head": lambda: methods.ablate_each_head(MODEL, FLAT, metric),
    "ablate_pairs": lambda: methods.ablate_pairs(MODEL, FLAT, metric, ["a0"]),
    "ablate_directions": lambda: methods.ablate_directions(MODEL, FLAT, ROWS[:1]),
    "patch_activations": lambda: methods.patch_activations(MODEL, FLAT, FLAT, metric),
    "patch_path": lambda: methods.patch_path(MODEL, FLAT, FLAT, "a0.h0->logits"),
    "patch_senders": lambda: methods.patch_senders(MODEL, FLAT, FLAT, metric, ["logits"]),
    "split_effects": lambda: methods.split_effects(MODEL, FLAT, FLAT, metric),
    "estimate_patches": lambda: methods.estimate_patches(MODEL, FLAT, FLAT, metric),
    "share_recovered": lambda: methods.share_recovered(VECTOR, MODEL, FLAT, FLAT, metric),
    "trace_causally": lambda: methods.trace_causally(MODEL, FLAT, metric, BLUR[0]),
    "run_with_noise": lambda: methods.run_with_noise(MODEL, FLAT, BLUR[0]),
    "steer": lambda: methods.steer(MODEL, FLAT, VECTOR, SITE),
    "measure_doses": lambda: methods.measure_doses(MODEL, FLAT, metric, VECTOR, SITE, [1.0]),
    "find_value": lambda: methods.find_value(MODEL, FLAT, FLAT, 0, -1),
    "write_scratchpad": lambda: methods.write_scratchpad(MODEL, FLAT, 1),
    "answer_early": lambda: methods.answer_early(MODEL, FLAT, slice(0, 1), 0),
    "score_reliance": lambda: methods.score_reliance(MODEL, FLAT, slice(0, 1), CLEAN[None, :, :1]),
    "scale_features": lambda: methods.scale_features(MODEL, FLAT, SITE, AXES, [0]),
    "previous_token_scores": lambda: methods.previous_token_scores(MODEL, FLAT),
}


@pytest.mark.parametrize("name", ONE_PROMPT_AXIS)
def test_tokens_without_a_batch_axis(name):
    with pytest.raises(ValueError, match=re.escape("are torch.int64 (3,), expected")):
        ONE_PROMPT_AXIS[name]()


EMPTY = {
    "ablate": lambda: methods.ablate(MODEL, NONE, ["a0"]),
    "ablate_each_head": lambda: methods.ablate_each_head(MODEL, NONE, metric, "mean", CLEAN),
    "ablate without a reference": lambda: methods.ablate(MODEL, CLEAN, ["a0"], "mean", NONE),
    "ablate_directions": lambda: methods.ablate_directions(
        MODEL, CLEAN, ROWS[:1], ablation="mean", reference=NONE
    ),
    "patch_senders": lambda: methods.patch_senders(MODEL, NONE, NONE, metric, ["logits"]),
    "share_recovered": lambda: methods.share_recovered(VECTOR, MODEL, NONE, NONE, metric),
    "trace_causally": lambda: methods.trace_causally(MODEL, NONE, metric, BLUR[:0]),
    "steer": lambda: methods.steer(MODEL, NONE, VECTOR, SITE),
    "write_scratchpad": lambda: methods.write_scratchpad(MODEL, NONE, 1),
    "scale_features": lambda: methods.scale_features(MODEL, NONE, SITE, AXES, [0]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_batch_without_prompts(name):
    with pytest.raises(ValueError, match="the batch holds no prompts, but"):
        EMPTY[name]()


SHAPES = {
    "tokens are torch.float32 (1, 3), expected a tensor of integers": lambda: methods.ablate(
        MODEL, FLOATS, ["a0"]
    ),
    "reference prompts are torch.int64 (3,), expected": lambda: methods.ablate(
        MODEL, CLEAN, ["a0"], "mean", FLAT
    ),
    "tokens are torch.float32 (1, 3)": lambda: methods.patch_activations(
        MODEL, FLOATS, FLOATS, metric
    ),
    "clean prompts are (1, 3) and corrupt ones (1, 4)": lambda: methods.share_recovered(
        VECTOR, MODEL, CLEAN, LONGER, metric
    ),
    "batch_size is 0, but must be at least 1": lambda: methods.estimate_patches(
        MODEL, CLEAN, CORRUPT, metric, steps=2, batch_size=0
    ),
    "batch_size is -1, but must": lambda: methods.trace_causally(
        MODEL, CLEAN, metric, BLUR, batch_size=-1
    ),
    "window is 0 and severed None, but must be from 1": lambda: methods.trace_causally(
        MODEL, CLEAN, metric, BLUR, window=0
    ),
    "window is 1 and severed 'z', but": lambda: methods.trace_causally(
        MODEL, CLEAN, metric, BLUR, severed="z"
    ),
    "the metric returned torch.float32 () for": lambda: methods.trace_causally(
        MODEL, CLEAN, one_number, BLUR, window=2
    ),
    "no receivers were given": lambda: methods.patch_senders(MODEL, CLEAN, CORRUPT, metric, []),
    "('pattern', 0) is (1, 2, 3, 3), but steering needs": lambda: methods.steer(
        MODEL, CLEAN, torch.ones(3), ("pattern", 0), position=0
    ),
    "the directions (1, 8) hold numbers that are not finite": lambda: methods.orthogonalise_weights(
        MODEL, NAN * ROWS[:1]
    ),
    "answers run to 9, but must be from 0 to 6": lambda: methods.find_value(
        MODEL, CLEAN, torch.tensor([9]), 0, -1
    ),
    "answers torch.float32 (1,), but there must": lambda: methods.find_value(
        MODEL, CLEAN, FLOATS[:, 0], 0, -1
    ),
    "steps is 0, but must be at least 1": lambda: methods.find_value(
        MODEL, CLEAN, CLEAN[:, 0], 0, -1, steps=0
    ),
    "or a number is not finite": lambda: methods.edit_rank_one(
        MODEL, 0, NAN * ROWS[0, :5], VECTOR, torch.eye(5)
    ),
    "the subspace is torch.int64 (8, 8), but": lambda: methods.swap_subspace(
        MODEL, CLEAN, CORRUPT, ROWS.long(), SITE
    ),
    "the subspace is torch.float32 (8,), but": lambda: methods.swap_subspace(
        MODEL, CLEAN, CORRUPT, VECTOR, SITE
    ),
    "activations (6, 8) hold numbers that are not finite": lambda: methods.train_probe(NAN * X, Y),
    "positive activations (6, 8) hold numbers": lambda: methods.find_consistent_direction(
        NAN * X, X
    ),
    "codes (6, 8) hold numbers that are not": lambda: methods.fit_supervised_dictionary(X, NAN * X),
    "there are 6 activations, but labels are (5,)": lambda: methods.train_probe(X, Y).accuracy(
        X, Y[:5]
    ),
    "activations are torch.float32 (0, 8), but must": lambda: methods.train_probe(X, Y).accuracy(
        X[:0], Y[:0]
    ),
    "codes are (6, 3), but the dictionary has (..., 8)": lambda: AXES.decode(X[:, :3]),
    "('mlp_out', 0) comes after ('mlp_in', 0), but": lambda: methods.scale_features(
        MODEL, CLEAN, ("mlp_in", 0), AXES, [0], reads=("mlp_out", 0)
    ),
    "targets (5, 8) for activations (6, 8), but must be (6, 8)": lambda: AXES.explained_variance(
        X, X[:5]
    ),
    "targets (1, 8) for activations (1, 8), but must be (1, 8), and not all the same": lambda: (
        AXES.explained_variance(X[:1])
    ),
}
FOURIER = {
    "p is 4, but must be odd and at least 3; nearest: 5": lambda: methods.write_fourier_basis(4),
    "p is 1, but must be odd and at least 3; nearest: 3": lambda: methods.write_fourier_basis(1),
    "frequency 7 was asked for, but p = 13 has 1 to 6": lambda: methods.keep_frequencies(
        torch.zeros(13, 1), [2, 7]
    ),
    "frequency 3 was asked for, but p = 5 has 1 to 2": lambda: methods.measure_progress(
        PAIRS, [1, 3]
    ),
    "frequency 0 was asked for": lambda: methods.exclude_logits(PAIRS, [0]),
    "x is torch.float32 (8,), expected floats of shape (p, column)": lambda: (
        methods.measure_frequency_shares(VECTOR)
    ),
    "x is torch.int64 (3, 1), expected floats": lambda: methods.keep_frequencies(CLEAN.T, [1]),
    "x (5, 1) is zero everywhere": lambda: methods.measure_frequency_shares(torch.zeros(5, 1)),
    "logits are torch.float32 (24, 5), but must be floats with a row for each of 5 x 5 pairs: (25, ...)": (
        lambda: methods.restrict_logits(PAIRS[1:], [1])
    ),
    "logits are torch.float32 (0, 5), but": lambda: methods.share_explained_by_sum(PAIRS[:0]),
    "the logits (25, 5) are the same for all pairs": lambda: methods.share_explained_by_sum(
        0 * PAIRS
    ),
    "activations are torch.float32 (25, 5), but must be floats with a row for each of 7 x 7": (
        lambda: methods.share_of_best_frequency(PAIRS, 7)
    ),
    "seen holds 1 numbers of pairs, but needs at least one, from 0 to 24": lambda: (
        methods.measure_progress(PAIRS, [1], torch.tensor([25]))
    ),
    "seen holds 0 numbers": lambda: methods.measure_progress(PAIRS, [1], Y[:0]),
    "the correct logit is 0 for all pairs": lambda: methods.measure_distance_irrelevance(0 * PAIRS),
    "logits are torch.float32 (25, 4)": lambda: methods.measure_distance_irrelevance(PAIRS[:, :4]),
    "tokens are (1, 3) and targets torch.int64 (3,), but": lambda: (
        methods.measure_gradient_symmetry(MODEL, CLEAN, FLAT)
    ),
    "tokens are (0, 3) and targets torch.int64 (0,), but": lambda: (
        methods.measure_gradient_symmetry(MODEL, NONE, NONE[:, 0])
    ),
    "targets run from 7 to 7, but must be 0 to 6": lambda: methods.measure_gradient_symmetry(
        MODEL, CLEAN, torch.tensor([7])
    ),
    "position 3 was asked for, but the prompts have positions -3 to 2": lambda: (
        methods.measure_gradient_symmetry(MODEL, CLEAN, CLEAN[:, 0], second=3)
    ),
}
EVERYTHING = SHAPES | FOURIER


@pytest.mark.parametrize("sentence", EVERYTHING)
def test_bad_input_is_answered_with_its_sentence(sentence):
    before = torch.random.get_rng_state(), [p.clone() for p in MODEL.parameters()]
    with pytest.raises((ValueError, KeyError), match=re.escape(sentence)) as raised:
        EVERYTHING[sentence]()
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 250, message
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert all(
        torch.equal(new, old) for new, old in zip(MODEL.parameters(), before[1], strict=True)
    )
    assert not any(point.on for point in MODEL.hook_points.values())
