"""What is given wrong to probes, erasers, interchanges and dictionaries is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer, methods
from mini_transformer.methods.descent import descend
from mini_transformer.methods.dictionaries import Dictionary

MODEL = Transformer(Config(d_vocab=7, n_ctx=6, d_model=4, n_layers=2, n_heads=2))
CLEAN, CORRUPT, LONGER = (
    torch.tensor([[1, 2, 3]]),
    torch.tensor([[4, 2, 3]]),
    torch.tensor([[1, 2, 3, 4]]),
)
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 0, 1, 0, 1])
ONE = torch.tensor([1])
SITE = ("resid_post", 0)
AXES = Dictionary(
    torch.eye(4), torch.zeros(4), torch.eye(4), torch.zeros(4), torch.zeros(4), torch.zeros(4)
)
WIDE = Dictionary(
    torch.eye(5), torch.zeros(5), torch.eye(5), torch.zeros(5), torch.zeros(5), torch.zeros(5)
)


def align(**changed):
    given = {
        "model": MODEL,
        "base": CLEAN,
        "source": CORRUPT,
        "answers": ONE,
        "hook": SITE,
        "dim": 2,
        "steps": 1,
    }
    return methods.align_subspace(**given | changed)


PROBES = {
    "activations are torch.float32 (0, 4), but must be floats of shape (n, d)": lambda: (
        methods.train_probe(X[:0], Y[:0])
    ),
    "activations are torch.int64 (6,), but must be floats": lambda: methods.train_probe(Y, Y),
    "labels are torch.int64 (5,), but must be one integer per row of the activations: (6,)": (
        lambda: methods.train_probe(X, Y[:5])
    ),
    "labels are torch.float32 (6,)": lambda: methods.train_probe(X, Y.float()),
    "all labels are 1, but at least two classes are needed": lambda: methods.train_probe(
        X, Y * 0 + 1
    ),
    "the labels are [0, 2], but must count from 0": lambda: methods.train_probe(X, Y * 2),
    "hidden is 'mlp', but must be None (linear) or a width": lambda: methods.train_probe(
        X, Y, "mlp"
    ),
    "hidden is 0, but must be None (linear) or a width of at least 1": lambda: methods.train_probe(
        X, Y, 0
    ),
    "penalty is 0, but must be positive and finite": lambda: methods.train_probe(X, Y, penalty=0),
    "activations are (6, 3), but the probe reads (n, 4)": lambda: methods.train_probe(X, Y).score(
        X[:, :3]
    ),
    "this probe has 2 layers, but only a linear one has directions": (
        lambda: methods.train_probe(X, Y, hidden=32).directions
    ),
    "types are (5,) and labels (6,), but must be one per row": lambda: methods.draw_control_labels(
        Y[:5], Y
    ),
    "the control task came out with one class only": lambda: methods.measure_selectivity(
        X, Y, Y * 0
    ),
    "positive and negative activations are (6, 4) and (5, 4), but must be pairs": (
        lambda: methods.find_consistent_direction(X, X[:5])
    ),
    "tries is 0, but must be at least 1": lambda: methods.find_consistent_direction(X, -X, tries=0),
    "the direction is (3,), but the activations are (6, 4)": lambda: methods.answer_pairs(
        torch.ones(3), X, -X
    ),
    "positive activations are torch.float32 (0, 4)": lambda: methods.answer_pairs(
        torch.ones(4), X[:0], X[:0]
    ),
    "steps is 0 and lr 0.1, but both must be positive": lambda: descend(
        lambda step: ONE, [], 0, 0.1
    ),
    "the loss is nan at step 0, but must be finite: try a lower lr than 0.1": (
        lambda: descend(
            lambda step: torch.tensor(float("nan")), [X.clone().requires_grad_()], 1, 0.1
        )
    ),
}
ERASURE = {
    "all labels are 0": lambda: methods.fit_leace(X, Y * 0),
    "all labels are 0, but at least two": lambda: methods.fit_projection(X, Y * 0),
    "labels are torch.int64 (4,)": lambda: methods.fit_inlp(X, Y[:4]),
    "5 rounds take out 5 directions, but there are 4 dimensions": lambda: methods.fit_inlp(
        X, Y, rounds=5
    ),
    "activations are (6, 3), but the eraser takes (..., 4)": lambda: methods.fit_leace(X, Y)(
        X[:, :3]
    ),
}
INTERCHANGE = {
    "base and source prompts are (1, 3) and (1, 4), but must be pairs of one shape": lambda: align(
        source=LONGER
    ),
    "base and source prompts are (0, 3) and (0, 3)": (
        lambda: methods.swap_subspace(MODEL, CLEAN[:0], CLEAN[:0], torch.eye(4), SITE)
    ),
    "dim is 5, but must be from 1 to the hook's width 4": lambda: align(dim=5),
    "answers are torch.int64 (2,), but must be one token per pair: (1,)": lambda: align(
        answers=torch.tensor([1, 2])
    ),
    "answers run to 7, but must be from 0 to 6": lambda: align(answers=7 * ONE),
    "position is 3, but the prompts have 3 tokens": lambda: align(position=3),
    "answer_position is -4, but the prompts have 3 tokens": lambda: align(answer_position=-4),
    "no hook is called ('resid', 0)": lambda: align(hook=("resid", 0)),
    "('pattern', 0) is (1, 2, 3, 3), but a hook with axes (batch, pos, width) is needed": lambda: (
        align(hook=("pattern", 0))
    ),
    "the subspace has 5 rows, but there are only 4 dimensions": (
        lambda: methods.swap_subspace(MODEL, CLEAN, CORRUPT, torch.ones(5, 4), SITE)
    ),
    "the rows of the subspace are not orthonormal": (
        lambda: methods.swap_subspace(MODEL, CLEAN, CORRUPT, torch.ones(2, 4), SITE)
    ),
    "the subspace is torch.float32 (2, 3), but the hook's width is 4": (
        lambda: methods.measure_interchange(MODEL, CLEAN, CORRUPT, ONE, torch.eye(3)[:2], SITE)
    ),
    "answers are torch.float32 (1,)": (
        lambda: methods.align_subspace_boundless(MODEL, CLEAN, CORRUPT, ONE.float(), SITE, steps=1)
    ),
}
DICTIONARIES = {
    "architecture is 'pca', but must be one of: l1, topk": lambda: methods.train_dictionary(
        X, 8, "pca"
    ),
    "n_latents is 3 and k is 4, but k must be from 1 to n_latents": lambda: (
        methods.train_dictionary(X, 3)
    ),
    "penalty is -1 and batch 512": lambda: methods.train_dictionary(X, 8, penalty=-1),
    "activations are torch.float32 (0, 4), but": lambda: methods.train_dictionary(X[:0], 8),
    "there are 6 activations and 5 targets, but each needs one": lambda: methods.train_transcoder(
        X, X[:5], 8
    ),
    "there are 6 rows of the first and 5 of the second": lambda: methods.train_crosscoder(
        X, X[:5], 8
    ),
    "parts are (1, 2), but must add up to the targets' width 4": lambda: methods.train_dictionary(
        X, 8, parts=(1, 2)
    ),
    "d_first is 4, but must be from 1 to 3": lambda: methods.share_of_second(AXES, 4),
    "activations are (6, 3), but the dictionary takes (..., 4)": lambda: AXES.encode(X[:, :3]),
    "latent 4 does not exist in this dictionary: it has 0 to 3": (
        lambda: methods.scale_features(MODEL, CLEAN, SITE, AXES, [0, 4])
    ),
    "blocks.0.hook_resid_post is (1, 3, 4), but the dictionary maps vectors of width 5 to 5": (
        lambda: methods.scale_features(MODEL, CLEAN, SITE, WIDE, [0])
    ),
    "position is 3, but the prompts have 3": lambda: methods.scale_features(
        MODEL, CLEAN, SITE, AXES, [0], position=3
    ),
    "there are 5 rows of codes for 6 of activations": lambda: methods.fit_supervised_dictionary(
        X, X[:5]
    ),
    "the codes of the 8 latents depend on each other": (
        lambda: methods.fit_supervised_dictionary(X, torch.cat([X, X], dim=1))
    ),
}
EVERYTHING = PROBES | ERASURE | INTERCHANGE | DICTIONARIES


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
