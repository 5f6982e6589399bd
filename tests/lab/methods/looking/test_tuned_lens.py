"""The tuned lens where the right translator is known, on prompts that it was not trained on, and
beside the published one.

Checked against: translators that are known exactly in linear models, trained toys on held-out
prompts, and the published implementation (tuned-lens 0.2.0) on the same weights.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import (
    TunedLens,
    apply_logit_lens,
    apply_tuned_lens,
    fit_tuned_lens,
    measure_answer_probability,
    measure_answer_rank,
    measure_divergence,
)
from mini_transformer.methods.looking.lenses import list_streams
from mini_transformer.toys.trained.facts import list_prompts

PUBLISHED = dict(np.load(Path(__file__).parents[1] / "reference" / "tuned_lens.npz"))
ENTERING = [0, 2, 4]  # the streams that the published lens reads: those that enter a block


def scramble(config):
    """A float64 model with random weights, biases and gains."""
    model, generator = Transformer(config).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return model


def test_a_stream_is_translated_then_normalised_then_unembedded(model, clean):
    generator, n = torch.Generator().manual_seed(0), len(list_streams(model))
    A, b = (torch.randn(shape, generator=generator).double() for shape in ((n, 8, 8), (n, 8)))
    logits, (_, cache) = (
        apply_tuned_lens(model, clean, TunedLens(A, b)),
        model.run_with_cache(clean),
    )
    for i, site in enumerate(list_streams(model)):
        for row in range(3):
            for t in range(5):
                x = cache[site][row, t]
                y = (
                    x
                    + b[i]
                    + torch.stack([sum(x[d] * A[i, d, e] for d in range(8)) for e in range(8)])
                )
                torch.testing.assert_close(
                    logits[i, row, t], model.unembed(y.view(1, 1, 8))[0, 0].detach()
                )


@pytest.fixture(scope="module")
def linear():
    """Prompts of one token, attention to oneself alone, no norm: every layer is affine, so each
    stream has an exact translator.
    """
    return scramble(Config(d_vocab=40, n_ctx=1, d_model=6, n_layers=2, n_heads=3, biases=True))


EVERY_TOKEN = torch.arange(40).unsqueeze(1)


def test_the_exact_translators_of_a_linear_model_reproduce_its_logits_from_every_stream(linear):
    A, b = [torch.zeros(6, 6).double()], [torch.zeros(6).double()]
    for layer in (1, 0):
        attn = linear.blocks[layer].attn
        step = torch.eye(6).double() + sum(linear.OV(layer, head) for head in range(3))
        offset = attn.b_O + sum(attn.b_V[head] @ attn.W_O[head] for head in range(3))
        rest = torch.eye(6).double() + A[0]
        A.insert(0, step @ rest - torch.eye(6))
        b.insert(0, offset @ rest + b[0])
    lens = TunedLens(torch.stack(A).detach(), torch.stack(b).detach())
    own = linear(EVERY_TOKEN).detach()
    torch.testing.assert_close(
        apply_tuned_lens(linear, EVERY_TOKEN, lens), own.expand(3, -1, -1, -1)
    )


def test_training_finds_them(linear):
    lens = fit_tuned_lens(linear, EVERY_TOKEN, lr=5e-2, rows=64)
    before, after = (
        measure_divergence(x)
        for x in (
            apply_logit_lens(linear, EVERY_TOKEN),
            apply_tuned_lens(linear, EVERY_TOKEN, lens),
        )
    )
    assert before[:2].min() > 0.5
    assert after.max() < 1e-4


def test_behind_a_norm_a_constant_is_translated_by_the_bias():
    model = scramble(
        Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, norm="layer", biases=True)
    )
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_O.zero_()
    offsets = [block.attn.b_O.detach() for block in model.blocks]
    b = torch.stack([offsets[0] + offsets[1], offsets[1], torch.zeros(8).double()])
    tokens = torch.tensor([[1, 4, 2], [6, 0, 5]])
    logits = apply_tuned_lens(model, tokens, TunedLens(torch.zeros(3, 8, 8).double(), b))
    torch.testing.assert_close(logits, model(tokens).detach().expand(3, -1, -1, -1))


def test_the_last_stream_needs_no_translator_and_gets_none(model, clean):
    lens = fit_tuned_lens(model, clean, steps=20)
    assert not lens.A[-1].any()
    assert not lens.b[-1].any()
    assert all(A.any() for A in lens.A[:-1])
    torch.testing.assert_close(apply_tuned_lens(model, clean, lens)[-1], model(clean).detach())


def test_a_seed_decides_the_lens(model, clean):
    lenses = [fit_tuned_lens(model, clean, steps=5, rows=4, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(lenses[0].A, lenses[1].A)
    assert not torch.equal(lenses[0].A, lenses[2].A)


def train_on_toy(name):
    """KL by stream of the logit and the tuned lens on fresh prompts, their logits, and the
    prompts.
    """
    case = toys.load(name)
    train, fresh = case.task.draw(512, seed=1).clean, case.task.draw(256, seed=2)
    lens = fit_tuned_lens(case.model, train)
    logits = (
        apply_logit_lens(case.model, fresh.clean),
        apply_tuned_lens(case.model, fresh.clean, lens),
    )
    return (
        [
            dict(zip(list_streams(case.model), measure_divergence(x).tolist(), strict=True))
            for x in logits
        ],
        logits,
        fresh,
    )


def test_on_fresh_texts_it_is_closer_to_the_end_than_the_logit_lens_at_every_stream():
    (logit, tuned), logits, fresh = train_on_toy("style_grammar")
    assert all(tuned[site] < 0.25 * logit[site] for site in logit if site != ("resid_post", 1))
    assert logit["resid_post", 0] > 0.8
    assert tuned["resid_post", 0] < 0.05
    before, after = (
        measure_answer_probability(x, fresh.answer, fresh.position).mean(dim=1)[2] for x in logits
    )
    assert before < 0.15
    assert after > 0.4


def test_on_fresh_facts_it_is_closer_too():
    model = toys.load("facts").model
    train, fresh = list_prompts()[
        torch.randperm(256, generator=torch.Generator().manual_seed(0))
    ].chunk(2)
    lens = fit_tuned_lens(model, train)
    logit, tuned = (
        measure_divergence(x)
        for x in (apply_logit_lens(model, fresh), apply_tuned_lens(model, fresh, lens))
    )
    assert (tuned[:3] < 0.5 * logit[:3]).all()
    assert (
        tuned[3:].max() < 1e-3
    )  # nothing is written after attention 1, so there is nothing to translate


def test_no_translator_finds_an_answer_that_attention_has_yet_to_fetch():
    (logit, tuned), logits, fresh = train_on_toy("induction")
    assert (
        tuned["resid_post", 0] < logit["resid_post", 0] - 0.2
    )  # something is learned: which tokens are likely at all
    assert tuned["resid_post", 0] > 2.4
    assert measure_answer_probability(logits[1], fresh.answer)[1].mean() < 0.05
    assert measure_answer_rank(logits[1], fresh.answer)[1].float().mean() > 10
    assert measure_answer_probability(logits[1], fresh.answer)[2].mean() > 0.99


@pytest.fixture(scope="module")
def published_model():
    config = Config(9, 6, 8, n_layers=3, n_heads=2, d_mlp=10, act="gelu", norm="layer", biases=True)
    model = Transformer(config).double()
    weights = {
        name.split()[1]: torch.tensor(x)
        for name, x in PUBLISHED.items()
        if name.startswith("weight ")
    }
    model.load_state_dict(weights)
    return model


def test_the_logit_lens_is_the_published_one(published_model):
    logits = apply_logit_lens(published_model, torch.tensor(PUBLISHED["test"]))
    torch.testing.assert_close(logits[ENTERING], torch.tensor(PUBLISHED["logit lens"]))
    torch.testing.assert_close(logits[-1], torch.tensor(PUBLISHED["logits"]))


def test_the_tuned_lens_reads_as_the_published_one_with_the_same_translators(published_model):
    A, b = torch.zeros(7, 8, 8).double(), torch.zeros(7, 8).double()
    A[ENTERING], b[ENTERING] = torch.tensor(PUBLISHED["A"]), torch.tensor(PUBLISHED["b"])
    logits = apply_tuned_lens(published_model, torch.tensor(PUBLISHED["test"]), TunedLens(A, b))
    torch.testing.assert_close(logits[ENTERING], torch.tensor(PUBLISHED["given lens"]))


def test_training_comes_close_to_what_the_published_one_reaches_when_trained_to_the_end(
    published_model,
):
    train, test = torch.tensor(PUBLISHED["train"]).long(), torch.tensor(PUBLISHED["test"])
    lens = fit_tuned_lens(published_model, train)
    reached = measure_divergence(apply_tuned_lens(published_model, train, lens))[ENTERING]
    best = torch.tensor(PUBLISHED["trained KL"])
    assert measure_divergence(apply_logit_lens(published_model, train))[ENTERING].min() > 0.1
    assert (reached > best - 1e-4).all()
    assert (reached < best + 0.01).all()
    theirs = torch.tensor(PUBLISHED["trained lens"]).log_softmax(dim=-1)
    ours = apply_tuned_lens(published_model, test, lens)[ENTERING].log_softmax(dim=-1)
    assert (theirs.exp() * (theirs - ours)).sum(dim=-1).mean(dim=(1, 2)).max() < 0.02
