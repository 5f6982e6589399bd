"""Patching maps against one hooked forward per entry, and against what must be true of any model.

Checked against: one hooked forward per entry of the map, for every site; the maps of
TransformerLens 3.9 on the same weights.
"""

import itertools

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import measure_share_recovered, patch_activations
from mini_transformer.methods.sites import SITES

SWEEPS = [
    ("resid_pre", "pos"),
    ("resid_mid", "pos"),
    ("resid_post", "pos"),
    ("attn_out", "pos"),
    ("mlp_in", "pos"),
    ("mlp_out", "pos"),
    ("z", "head"),
    ("z", "head pos"),
    ("z", "pos head"),
    ("q", "head"),
    ("k", "head pos"),
    ("v", "d_head head"),
    ("q_input", "head"),
    ("k_input", "head pos"),
    ("v_input", "head"),
    ("result", "head"),
    ("attn_scores", "head query"),
    ("pattern", "head"),
    ("pattern", "key head"),
    ("pre", "neuron"),
    ("post", "neuron pos"),
    ("resid_pre", ""),
]


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def patch_slowly(model, base, source, site, per):
    """One full hooked forward per layer and entry."""
    _, cache = model.run_with_cache(
        source, names_filter=[(site, layer) for layer in range(model.config.n_layers)]
    )
    axes, per = SITES[site], per.split()
    sizes = [cache[site, 0].shape[1 + axes.index(axis)] for axis in per]
    values = torch.zeros(model.config.n_layers, *sizes, dtype=torch.float64)
    for layer in range(model.config.n_layers):
        for entry in itertools.product(*(range(size) for size in sizes)):
            where = tuple(entry[per.index(axis)] if axis in per else slice(None) for axis in axes)

            def put(value, hook, where=(slice(None), *where), layer=layer):
                value[where] = cache[site, layer][where]

            values[(layer, *entry)] = metric(
                model.run_with_hooks(base, fwd_hooks=[((site, layer), put)])
            ).mean()
    return values.detach()


@pytest.mark.parametrize(
    ("site", "per", "direction"),
    [(*sweep, ("denoise", "noise")[i % 2]) for i, sweep in enumerate(SWEEPS)],
)
def test_a_sweep_equals_one_hooked_forward_per_entry(model, clean, corrupt, site, per, direction):
    if not model.config.d_mlp and site in ("resid_mid", "mlp_in", "mlp_out", "pre", "post"):
        pytest.skip("this model has no MLP")
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    got = patch_activations(model, clean, corrupt, metric, site, per, direction=direction)
    torch.testing.assert_close(
        got, patch_slowly(model, base, source, site, per), rtol=1e-9, atol=1e-9
    )


def test_every_site_of_a_block_is_swept_here():
    model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, d_mlp=8, norm="layer"))
    in_a_block = {
        name.rpartition("hook_")[2]
        for name in model.hook_points
        if name.startswith("blocks.") and "ln" not in name
    }
    assert set(SITES) == in_a_block == {site for site, _ in SWEEPS}


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
def test_the_map_does_not_depend_on_how_much_goes_through_one_forward(
    model, clean, corrupt, batch_size
):
    for site, per in (("resid_pre", "pos"), ("z", "head pos"), ("resid_post", "pos")):
        whole = patch_activations(model, clean, corrupt, metric, site, per, direction="denoise")
        split = patch_activations(
            model, clean, corrupt, metric, site, per, batch_size=batch_size, direction="denoise"
        )
        torch.testing.assert_close(split, whole, rtol=1e-9, atol=1e-9)


def test_no_forward_takes_more_prompts_than_batch_size(model, clean, corrupt):
    seen = []
    with model.hooks(
        [
            (
                "ln_final.hook_normalized" if model.ln_final else ("resid_post", -1),
                lambda value, hook: seen.append(len(value)),
            )
        ]
    ):
        patch_activations(model, clean, corrupt, metric, batch_size=2, direction="denoise")
    assert max(seen[1:]) == 2  # after the one run that reads the activations of all six prompts
    seen.clear()


def test_patching_the_whole_residual_stream_restores_the_clean_run(model, clean, corrupt):
    for site in ("resid_pre", "resid_post"):
        restored = patch_activations(
            model, clean, corrupt, metric, site, per="", direction="denoise"
        )
        torch.testing.assert_close(restored, metric(model(clean)).mean().expand(2).detach())


def test_patching_a_run_with_itself_changes_nothing(model, clean):
    for site in SITES if model.config.d_mlp else ("resid_pre", "attn_out", "z", "pattern"):
        same = patch_activations(
            model, clean, clean, metric, site, SITES[site][0], direction="denoise"
        )
        torch.testing.assert_close(same, metric(model(clean)).mean().expand_as(same).detach())


def test_recovered_shares_are_zero_for_the_corrupt_run_and_one_for_the_clean_run(
    model, clean, corrupt
):
    with torch.no_grad():
        values = torch.stack([metric(model(corrupt)).mean(), metric(model(clean)).mean()])
    shares = measure_share_recovered(values, model, clean, corrupt, metric)
    torch.testing.assert_close(shares, torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_information_moves_from_the_first_a_to_the_token_after_it_to_the_end():
    """In the hand-set model with the earlier A replaced. The 1/16: with no match a1.h0 looks at all
    16 tokens evenly, so it copies a sixteenth of the token that replaced A, which is the wrong
    answer, and patching A back takes it away.
    """
    case = toys.load("induction_by_hand")
    batch = case.task.draw(256, seed=3, corrupt="source")
    source = (batch.clean != batch.corrupt).float().argmax(dim=1)
    for position in source.unique().tolist():
        same = source == position
        clean, corrupt, answer, wrong = (
            x[same] for x in (batch.clean, batch.corrupt, batch.answer, batch.wrong)
        )

        def difference(logits, answer=answer, wrong=wrong):
            return (logits[:, -1] * (torch.eye(16)[answer] - torch.eye(16)[wrong])).sum(dim=1)

        pre = patch_activations(
            case.model, clean, corrupt, difference, "resid_pre", direction="denoise"
        )
        shares = measure_share_recovered(pre, case.model, clean, corrupt, difference)
        expected = torch.zeros(2, clean.shape[1])
        expected[0, position] = expected[1, position + 1] = 1.0
        expected[1, position] = 1 / 16
        torch.testing.assert_close(shares, expected, rtol=0, atol=1e-3)


def test_denoising_and_noising_disagree_about_two_copies_of_one_result():
    """OR computed twice: one copy is enough to say 1, so each restores the answer and neither is
    needed for it.
    """
    case = toys.load("boolean_redundant_or")
    batch = case.task.draw(64, corrupt="both")
    ones = (batch.clean[:, 0] == 1) & (batch.clean[:, 1] == 1)
    runs = (
        case.model,
        batch.clean[ones],
        batch.corrupt[ones],
        lambda logits: (logits[:, -1].argmax(dim=1) == 1).float(),
    )
    assert patch_activations(*runs, "mlp_out", "", direction="denoise").tolist() == [1.0, 1.0]
    assert patch_activations(*runs, "mlp_out", "", direction="noise").tolist() == [1.0, 1.0]
    assert runs[3](case.model(runs[2])).mean() == 0.0
