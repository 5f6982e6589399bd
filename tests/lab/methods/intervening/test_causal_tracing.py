"""Causal tracing against one hooked run per draw and entry, and on facts of which the store is
known.

Checked against: hooks written out in loops, one run per draw of the noise and entry (windows and
severed runs too), and the trained store of facts.
"""

import itertools

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import causal_trace, run_with_noise
from mini_transformer.toys.trained.facts import list_everything


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


@pytest.fixture
def blurred() -> torch.Tensor:
    return torch.tensor(
        [[True, True, False, False, False], [False, False, False, True, False], [True] * 5]
    )


@pytest.mark.parametrize(
    ("site", "per"), [("resid_post", "pos"), ("attn_out", "pos"), ("z", "head pos"), ("q", "")]
)
def test_each_entry_is_the_mean_over_noisy_runs_with_that_entry_restored(
    model, clean, blurred, site, per
):
    noise, generator = 0.7, torch.Generator().manual_seed(4)
    draws = [
        torch.randn(3, 5, 8, generator=generator, dtype=torch.float32).double() for _ in range(2)
    ]
    got = causal_trace(model, clean, metric, blurred, site, per, noise, draws=2, seed=4)
    with torch.no_grad():
        _, cache = model.run_with_cache(clean)
    expected = torch.zeros_like(got)
    for layer in range(2):
        for entry in range(expected[layer].numel()):
            index = torch.unravel_index(torch.tensor(entry), expected[layer].shape)
            where = {
                "pos": (slice(None), *index),
                "head pos": (slice(None), *index[::-1]),
                "": (slice(None),),
            }[per]

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


@pytest.mark.parametrize(
    ("site", "per", "window", "severed"),
    [
        ("attn_out", "pos", 2, None),
        ("attn_out", "", 3, None),
        ("z", "head pos", 2, None),
        ("pattern", "head", 2, None),
        ("resid_pre", "pos", 1, "attn_out"),
        ("resid_post", "pos", 1, "attn_out"),
        ("attn_out", "pos", 1, "attn_out"),
        ("attn_out", "pos", 2, "attn_out"),
        ("resid_pre", "", 1, "mlp_out"),
        ("resid_pre", "pos", 1, "mlp_out"),
        ("z", "head", 2, "mlp_out"),
        ("q", "pos head", 2, "mlp_out"),
    ],
)
def test_windows_and_severed_runs_are_hooks_in_the_order_of_computation(
    model, clean, blurred, site, per, window, severed
):
    """Written from the clean and the noisy run's own caches, with one loop per axis."""
    if severed == "mlp_out" and not model.config.d_mlp:
        pytest.skip("this model has no MLP")
    noise, generator = 0.7, torch.Generator().manual_seed(4)
    draw = torch.randn(3, 5, 8, generator=generator, dtype=torch.float32).double()

    def blur(value, hook):
        return value + noise * draw * blurred[:, :, None]

    with torch.no_grad():
        _, restored = model.run_with_cache(clean)
        with model.hooks([("embed", blur)]):
            _, noisy = model.run_with_cache(clean)
    got = causal_trace(model, clean, metric, blurred, site, per, noise, 1, 4, window, severed)
    for layer, index in itertools.product(
        range(2), itertools.product(*(range(n) for n in got.shape[1:]))
    ):
        at = dict(zip(per.split(), index, strict=True))
        pos, everything = at.get("pos", slice(None)), slice(None)
        where = {
            "pattern": (everything, at.get("head", everything)),
            "z": (everything, pos, at.get("head", everything)),
            "q": (everything, pos, at.get("head", everything)),
        }.get(site, (everything, pos))

        def freeze(value, hook, pos=pos):
            value[:, pos] = noisy[hook.name][:, pos]

        def restore(value, hook, where=where):
            value[where] = restored[hook.name][where]

        hooks = [((severed, i), freeze) for i in range(2)] if severed else []
        hooks += [
            ((site, i), restore)
            for i in range(2)
            if layer - window // 2 <= i < layer + (window + 1) // 2
        ]
        with torch.no_grad():
            expected = metric(
                model.run_with_hooks(clean, fwd_hooks=[("embed", blur), *hooks])
            ).mean()
        torch.testing.assert_close(got[(layer, *index)], expected)


def test_batch_size_changes_no_number(model, clean, blurred):
    for settings in ({}, {"window": 2}, {"severed": "attn_out"}):
        expected = causal_trace(model, clean, metric, blurred, draws=2, **settings)
        got = causal_trace(model, clean, metric, blurred, draws=2, batch_size=2, **settings)
        torch.testing.assert_close(got, expected)


def test_restoring_the_whole_stream_restores_the_clean_run_and_nothing_else_is_touched(
    model, clean, blurred
):
    restored = causal_trace(model, clean, metric, blurred, per="", draws=3)
    torch.testing.assert_close(restored, metric(model(clean)).mean().expand(2).detach())
    noisy = run_with_noise(model, clean, blurred[1:2].expand(3, -1), draws=3)
    if model.config.causal:
        torch.testing.assert_close(
            noisy[:, :, :3], model(clean)[:, :3].expand(3, -1, -1, -1).detach()
        )
    assert not torch.allclose(noisy[0], noisy[1])


def test_noise_is_drawn_from_the_seed_and_by_default_three_times_the_spread_of_the_embedding(
    model, clean, blurred
):
    runs = [run_with_noise(model, clean, blurred, draws=2, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])
    spread = 3 * model.W_E.std().item()
    torch.testing.assert_close(runs[0], run_with_noise(model, clean, blurred, spread, 2, 0))


def test_tracing_finds_where_facts_are_stored_and_fetched():
    """With the first name blurred: MLP 0 at the last name brings the answer back, and attention 1
    at the relation.
    """
    case = toys.load("facts")
    batch = list_everything().distinct()
    first = torch.zeros_like(batch.clean, dtype=torch.bool)
    first[:, 0] = True

    def right(logits):
        return batch.correct(logits).float()

    noisy = torch.stack(
        [right(logits) for logits in run_with_noise(case.model, batch.clean, first, draws=3)]
    ).mean()
    store = causal_trace(case.model, batch.clean, right, first, "mlp_out", draws=3)
    fetch = causal_trace(case.model, batch.clean, right, first, "attn_out", draws=3)
    assert noisy < 0.8  # measured: .66
    assert store[0, 1] > 0.95
    assert fetch[1, 2] > 0.99
    for value in (store[0, 0], store[0, 2], fetch[1, 0], fetch[1, 1]):
        torch.testing.assert_close(value, noisy, rtol=0, atol=0.02)


def test_severing_tells_what_a_restored_stream_still_has_to_pass_through():
    """The whole stream restored: without attention nothing is fetched; without MLPs it works from
    layer 1 on, after the store.
    """
    case = toys.load("facts")
    batch = list_everything().distinct()
    first = torch.zeros_like(batch.clean, dtype=torch.bool)
    first[:, 0] = True

    def right(logits):
        return batch.correct(logits).float()

    def trace(severed):
        return causal_trace(
            case.model, batch.clean, right, first, "resid_pre", "", draws=1, severed=severed
        )

    noisy = right(run_with_noise(case.model, batch.clean, first, draws=1)[0]).mean()  # .64
    torch.testing.assert_close(trace(None), torch.ones(2))
    torch.testing.assert_close(trace("attn_out"), noisy.expand(2))
    torch.testing.assert_close(
        trace("mlp_out"), torch.stack([noisy, torch.tensor(1.0)]), rtol=0, atol=0.05
    )
