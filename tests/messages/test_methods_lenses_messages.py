"""What is given wrong to lenses, patchscopes and principal directions is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer, methods
from mini_transformer.methods.logit_lens import list_streams

MODEL = Transformer(Config(d_vocab=7, n_ctx=6, d_model=4, n_layers=2, n_heads=2))
NO_LAYERS = Transformer(Config(d_vocab=7, n_ctx=6, d_model=4, n_layers=0))
CLEAN, OTHERS, ONE = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 2], [5, 3]]), torch.tensor([1])
LOGITS = MODEL(CLEAN).detach().unsqueeze(0)
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LENS = methods.TunedLens(torch.zeros(3, 5, 5), torch.zeros(3, 5))
SHORT_LENS = methods.TunedLens(torch.zeros(2, 4, 4), torch.zeros(2, 4))


def patch(source=CLEAN, target=CLEAN, layer=1, **changed):
    return methods.apply_patchscope(MODEL, source, target, layer, **changed)


LENSES = {
    "the model has no layers, but a lens needs at least one": lambda: list_streams(NO_LAYERS),
    "the model has no layers, but a lens": lambda: methods.apply_logit_lens(NO_LAYERS, CLEAN),
    "the model has no layers": lambda: methods.train_tuned_lens(NO_LAYERS, CLEAN),
    "tokens are (0, 3), but a lens needs at least one prompt": lambda: methods.apply_logit_lens(
        MODEL, CLEAN[:0]
    ),
    "tokens are (1, 0), but a lens needs at least one prompt and position": (
        lambda: methods.train_tuned_lens(MODEL, CLEAN[:, :0])
    ),
    "tokens run from 1 to 9": lambda: methods.apply_logit_lens(MODEL, torch.tensor([[1, 9]])),
    "tokens are torch.int64 (3,), expected": lambda: methods.apply_logit_lens(MODEL, CLEAN[0]),
    "answer is torch.int64 (2,), but must be one integer per prompt: (1,)": (
        lambda: methods.rank_answer(LOGITS, torch.tensor([1, 2]))
    ),
    "answer runs from 7 to 7, but must be 0 to 6": lambda: methods.read_probability(
        LOGITS, 7 * ONE
    ),
    "position runs from 3 to 3, but must be -3 to 2": lambda: methods.read_probability(
        LOGITS, ONE, 3
    ),
    "position is torch.float32 (1,)": lambda: methods.rank_answer(LOGITS, ONE, torch.ones(1)),
    "the logits hold no prompts": lambda: methods.rank_answer(LOGITS[:, :0], ONE[:0]),
    "logits are (1, 0, 3, 7), but a mean needs at least one prompt": (
        lambda: methods.measure_divergence(LOGITS[:, :0])
    ),
    "rows is 0, but each step needs at least one": lambda: methods.train_tuned_lens(
        MODEL, CLEAN, rows=0
    ),
    "steps is 0 and lr 0.01, but both must be positive": lambda: methods.train_tuned_lens(
        MODEL, CLEAN, steps=0
    ),
    "the streams are (3, 1, 3, 4), but this lens is for 3 of width 5": (
        lambda: methods.apply_tuned_lens(MODEL, CLEAN, LENS)
    ),
    "the streams are (3, 1, 3, 4), but this lens is for 2 of width 4": (
        lambda: methods.apply_tuned_lens(MODEL, CLEAN, SHORT_LENS)
    ),
}
PATCHSCOPES = {
    "the source is (0, 3), but must hold at least one prompt and position": lambda: patch(
        source=CLEAN[:0]
    ),
    "the target is (2, 2), but must hold one prompt or 1, like the source": lambda: patch(
        target=OTHERS
    ),
    "the target is (1, 0), but must hold": lambda: patch(target=CLEAN[:, :0]),
    "target_layer is 3, but the stream enters blocks 0 to 2 (the end)": lambda: patch(layer=3),
    "target_position is 3, but the target has positions -3 to 2": lambda: patch(target_position=3),
    "read_position is -4, but the target has positions -3 to 2": lambda: patch(read_position=-4),
    "position 0 is read, but a state put in at position 1 of layer 1 cannot reach it": (
        lambda: patch(target_position=1, read_position=0)
    ),
    "position 2 is read, but a state put in at position 1 of layer 2 cannot": (
        lambda: patch(layer=2, target_position=1)
    ),
    "source layers are [0, 3], but must be at least one, from 0 to 2": lambda: patch(layers=[0, 3]),
    "source layers are [-1], but": lambda: patch(layers=[-1]),
    "source positions are [3], but must be at least one, from -3 to 2": lambda: patch(
        positions=[3]
    ),
    "source positions are [], but must be at least one": lambda: patch(positions=[]),
    "the transform made (3, 3, 1, 2) of states (3, 3, 1, 4): keep the shape": (
        lambda: patch(transform=lambda states: states[..., :2])
    ),
    "batch_size is 0, but must be at least 1, or None": lambda: patch(batch_size=0),
    "the sequence has 7 tokens, but the context holds 6": lambda: patch(
        target=torch.ones(1, 7, dtype=torch.int64)
    ),
}
DIRECTIONS = {
    "activations are torch.float32 (0, 4), but must be floats of shape (n, d)": (
        lambda: methods.find_principal_directions(X[:0], 1)
    ),
    "activations are torch.int64 (1, 3), but": lambda: methods.find_principal_directions(CLEAN, 1),
    "k is 5, but must be from 1 to 4: the 6 rows of width 4 vary along no more directions": (
        lambda: methods.find_principal_directions(X, 5)
    ),
    "k is 3, but must be from 1 to 2: the 3 rows": lambda: methods.find_principal_directions(
        X[:3], 3
    ),
    "k is 1, but must be from 1 to 0": lambda: methods.find_principal_directions(X[:1], 1),
    "k is 1, but must be from 1 to 0: the 3 rows": (
        lambda: methods.find_principal_directions(torch.full((3, 4), 0.1).double(), 1)
    ),
    "k is 0, but": lambda: methods.find_principal_directions(X, 0),
    "k is 2, but must be from 1 to 1: the 6 rows": lambda: methods.find_contrast_directions(
        X + torch.ones(4), X, 2
    ),
    "positive and negative activations are (6, 4) and (5, 4), but must be pairs": (
        lambda: methods.find_contrast_directions(X, X[:5])
    ),
    "negative activations are torch.float32 (0, 4)": lambda: methods.find_mean_difference(X, X[:0]),
    "positive and negative activations have width 4 and 3, but must have the same": (
        lambda: methods.find_mean_difference(X, X[:, :3])
    ),
    "both sets have the same mean": lambda: methods.find_mean_difference(X, X),
    "activations are (6, 3), but the directions are of width 4": (
        lambda: methods.find_principal_directions(X, 1).project(X[:, :3])
    ),
}
EVERYTHING = LENSES | PATCHSCOPES | DIRECTIONS


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
