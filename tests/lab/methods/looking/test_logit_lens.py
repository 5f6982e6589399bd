"""The logit lens against the formulas of the norms, written out per prompt and position, and its
summaries against loops.

Checked against: the model's own logits, on every use; the formulas of the norms in loops over
prompts and positions; the published logit lens (tuned-lens 0.2.0) on the same weights.
"""

import math

import pytest
import torch
from drawn_models import add_up_streams

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import (
    apply_logit_lens,
    measure_answer_probability,
    measure_answer_rank,
    measure_divergence,
)
from mini_transformer.methods.looking.lenses import list_streams


def unembed_one(model, x):
    """Logits of one vector by the formula of the norm."""
    if model.config.norm == "layer":
        x = (x - x.mean()) / (
            x.var(correction=0) + 1e-5
        ).sqrt() * model.ln_final.w + model.ln_final.b
    elif model.config.norm == "rms":
        x = x / (x.square().mean() + 1e-5).sqrt() * model.ln_final.w
    return x @ model.W_U + (0 if model.b_U is None else model.b_U)


def test_every_stream_is_read_by_the_final_norm_and_the_unembedding(model, clean):
    logits, streams = (
        apply_logit_lens(model, clean),
        add_up_streams(model, model.run_with_cache(clean)[1]),
    )
    assert len(logits) == len(streams) == len(list_streams(model))
    for site, stream in enumerate(streams):
        for i in range(3):
            for t in range(5):
                torch.testing.assert_close(
                    logits[site, i, t], unembed_one(model, stream[i, t]).detach()
                )


def test_the_last_stream_gives_the_logits_of_the_model(model, clean):
    torch.testing.assert_close(apply_logit_lens(model, clean)[-1], model(clean).detach())


def test_a_lens_on_a_hooked_run_reads_the_changed_streams(model, clean):
    with model.hooks([(("attn_out", 0), lambda value, hook: value * 0)]):
        logits, own = apply_logit_lens(model, clean), model(clean)
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[-1], own.detach())


def test_a_run_whose_final_norm_was_changed_is_refused(clean):
    model = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=1, norm="rms"))
    hook = ("ln_final.hook_normalized", lambda value, hook: 2 * value)
    with (
        model.hooks([hook]),
        pytest.raises(ValueError, match="does not give the model's own logits"),
    ):
        apply_logit_lens(model, clean)


def test_in_the_hand_set_model_the_answer_appears_with_the_last_head_only():
    case = toys.load("induction_by_hand")
    batch = case.task.draw(64)
    logits = apply_logit_lens(case.model, batch.clean)
    assert measure_answer_rank(logits, batch.answer, batch.position).tolist() == [
        [16] * 64,
        [16] * 64,
        [1] * 64,
    ]
    assert measure_answer_probability(logits, batch.answer, batch.position)[-1].min() > 0.99


def test_in_its_disguise_early_ranks_are_those_of_chance_since_all_tokens_are_equally_likely():
    case = toys.load("induction_rotated")
    batch = case.task.draw(512)
    logits = apply_logit_lens(case.model, batch.clean)
    ranks, probability = (
        read(logits, batch.answer, batch.position)
        for read in (measure_answer_rank, measure_answer_probability)
    )
    torch.testing.assert_close(probability[:2], torch.full((2, 512), 1 / 16), atol=1e-5, rtol=0)
    assert ranks[:2].float().mean(dim=1).tolist() == pytest.approx([8.5, 8.5], abs=1)
    assert ranks[2].tolist() == [1] * 512


def test_probability_and_rank_are_those_of_a_loop_over_all_tokens():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(4, (2, 3, 5, 6), generator=generator).double()  # with ties
    answer, position = torch.tensor([5, 0, 3]), torch.tensor([1, -1, 4])
    for at, places in ((position, [1, 4, 4]), (2, [2, 2, 2]), (-1, [4, 4, 4])):
        probability, rank = (
            measure_answer_probability(logits, answer, at),
            measure_answer_rank(logits, answer, at),
        )
        for stream in range(2):
            for i, (token, place) in enumerate(zip(answer.tolist(), places, strict=True)):
                row = logits[stream, i, place].tolist()
                expected = math.exp(row[token]) / sum(math.exp(value) for value in row)
                assert probability[stream, i].item() == pytest.approx(expected)
                assert rank[stream, i] == 1 + sum(
                    row[v] >= row[token] for v in range(6) if v != token
                )


def test_logits_of_one_run_can_be_ranked_too():
    logits = torch.tensor([[[0.0, 1.0, 2.0]], [[5.0, 1.0, 2.0]]])
    assert measure_answer_rank(logits, torch.tensor([1, 1])).tolist() == [2, 3]


def test_divergence_is_the_mean_kl_to_the_last_stream():
    logits = torch.randn(
        3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    p = logits.softmax(dim=-1)
    for stream, value in enumerate(measure_divergence(logits).tolist()):
        total = 0.0
        for i in range(2):
            for t in range(4):
                pairs = zip(p[-1, i, t].tolist(), p[stream, i, t].tolist(), strict=True)
                total += sum(last * math.log(last / here) for last, here in pairs)
        assert value == pytest.approx(total / 8, abs=1e-12)
