"""Causal tracing against one hooked run per draw and entry, and on facts of which the store is known."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import run_with_noise, trace_causally
from mini_transformer.toys.facts import list_everything


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


@pytest.fixture
def blurred() -> torch.Tensor:
    return torch.tensor([[True, True, False, False, False], [False, False, False, True, False], [True] * 5])


@pytest.mark.parametrize(("site", "per"), [("resid_post", "pos"), ("attn_out", "pos"), ("z", "head pos"), ("q", "")])
def test_each_entry_is_the_mean_over_noisy_runs_with_that_entry_restored(model, clean, blurred, site, per):
    noise, generator = 0.7, torch.Generator().manual_seed(4)
    draws = [torch.randn(3, 5, 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    got = trace_causally(model, clean, metric, blurred, site, per, noise, draws=2, seed=4)
    with torch.no_grad():
        _, cache = model.run_with_cache(clean)
    expected = torch.zeros_like(got)
    for layer in range(2):
        for entry in range(expected[layer].numel()):
            index = torch.unravel_index(torch.tensor(entry), expected[layer].shape)
            where = {"pos": (slice(None), *index), "head pos": (slice(None), *index[::-1]), "": (slice(None),)}[per]

            def restore(value, hook, where=where, layer=layer):
                value[where] = cache[site, layer][where]

            for draw in draws:

                def blur(value, hook, draw=draw):
                    for b in range(3):
                        for t in range(5):
                            if blurred[b, t]:
                                value[b, t] += noise * draw[b, t]

                with torch.no_grad():
                    hooks = [("embed", blur), ((site, layer), restore)]
                    value = metric(model.run_with_hooks(clean, fwd_hooks=hooks)).mean() / 2
                expected[(layer, *index)] += value
    torch.testing.assert_close(got, expected)


def test_restoring_the_whole_stream_restores_the_clean_run_and_nothing_else_is_touched(model, clean, blurred):
    restored = trace_causally(model, clean, metric, blurred, per="", draws=3)
    torch.testing.assert_close(restored, metric(model(clean)).mean().expand(2).detach())
    noisy = run_with_noise(model, clean, blurred[1:2].expand(3, -1), draws=3)
    if model.config.causal:
        torch.testing.assert_close(noisy[:, :, :3], model(clean)[:, :3].expand(3, -1, -1, -1).detach())
    assert not torch.allclose(noisy[0], noisy[1])


def test_noise_is_drawn_from_the_seed_and_by_default_three_times_the_spread_of_the_embedding(model, clean, blurred):
    runs = [run_with_noise(model, clean, blurred, draws=2, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])
    spread = 3 * model.W_E.std().item()
    torch.testing.assert_close(runs[0], run_with_noise(model, clean, blurred, spread, 2, 0))


def test_tracing_finds_where_facts_are_stored_and_fetched():
    """With the first name blurred: MLP 0 at the last name brings the answer back, and attention 1 at the relation."""
    case = toys.load("facts")
    batch = list_everything().distinct()
    first = torch.zeros_like(batch.clean, dtype=torch.bool)
    first[:, 0] = True

    def right(logits):
        return batch.correct(logits).float()

    noisy = torch.stack([right(logits) for logits in run_with_noise(case.model, batch.clean, first, draws=3)]).mean()
    store = trace_causally(case.model, batch.clean, right, first, "mlp_out", draws=3)
    fetch = trace_causally(case.model, batch.clean, right, first, "attn_out", draws=3)
    assert noisy < 0.8  # measured: .66
    assert store[0, 1] > 0.95
    assert fetch[1, 2] > 0.99
    for value in (store[0, 0], store[0, 2], fetch[1, 0], fetch[1, 1]):
        torch.testing.assert_close(value, noisy, rtol=0, atol=0.02)
