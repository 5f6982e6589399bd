"""Edge attribution against finite differences, the gradient of the edge engine, and exact patching."""

import pytest
import torch
from drawn_models import CONFIGS, draw_tokens, scramble

from mini_transformer import toys
from mini_transformer.edges import list_edges, list_writers, run_edges, write_outputs
from mini_transformer.methods import attribute_edges, edge_attribution, patch_edges

ABLATIONS = ["zero", "mean", "resample"]


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def measure(model, tokens, masks, off):
    with torch.no_grad():
        return torch.stack(
            [metric(logits).mean() for logits in run_edges(model, tokens, masks, off)]
        )


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_estimate_is_the_slope_of_exact_patching_by_a_small_step(
    model, clean, corrupt, ablation
):
    """Finite differences: each edge switched off by a thousandth, a ten-thousandth, ..., one mask each."""
    off, count = write_outputs(model, corrupt, ablation).detach(), len(list_edges(model))
    got, errors = attribute_edges(model, clean, corrupt, metric, ablation), []
    for step in (1e-1, 1e-2, 1e-5):
        values = measure(
            model, clean, 1 - step * torch.eye(1 + count, dtype=torch.float64)[:, 1:], off
        )
        errors.append(((values[0] - values[1:]) / step - got).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3 * got.abs().max()


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_estimate_is_the_gradient_of_the_edge_engine_with_all_switches_on(
    model, clean, corrupt, ablation
):
    off = write_outputs(model, corrupt, ablation).detach()
    masks = torch.ones(1, len(list_edges(model)), dtype=torch.float64, requires_grad=True)
    metric(run_edges(model, clean, masks, off)[0]).mean().backward()
    torch.testing.assert_close(
        attribute_edges(model, clean, corrupt, metric, ablation), masks.grad[0]
    )


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_along_the_inputs_it_is_the_mean_of_slopes_between_the_two_embeddings(
    model, clean, corrupt, ablation
):
    """By definition, one hooked run per edge and point: the reader hears a little less of (clean minus corrupt writer)."""
    with torch.no_grad():
        on, off = write_outputs(model, clean), write_outputs(model, corrupt, ablation)
    changes, steps, small = dict(zip(list_writers(model), on - off, strict=True)), 3, 1e-6
    edges, expected = list_edges(model), torch.zeros(len(list_edges(model)), dtype=torch.float64)
    for point in (1 / 6, 3 / 6, 5 / 6):
        stream = off[0] + point * (on[0] - off[0])
        with torch.no_grad():
            start = metric(model(resid=stream)).mean()
        for i, edge in enumerate(edges):
            writer, reader = edge.split("->")

            def nudge(value, hook, change=small * changes[writer], reader=reader):
                if value.ndim == 4:
                    value[:, :, int(reader[4])] -= change
                else:
                    value -= change

            site = (
                "resid_post"
                if reader == "logits"
                else "mlp_in"
                if reader[0] == "m"
                else f"{reader[6]}_input"
            )
            hook = ((site, 1 if reader == "logits" else int(reader[1])), nudge)
            with torch.no_grad():
                expected[i] += (
                    start - metric(model.run_with_hooks(resid=stream, fwd_hooks=[hook])).mean()
                ) / small
    got = attribute_edges(model, clean, corrupt, metric, ablation, steps=steps)
    torch.testing.assert_close(got, expected / steps, rtol=1e-3, atol=1e-5)


def attribute_slowly(model, clean, corrupt, metric, ablation, steps):
    """A stream per head that is nudged, a graph per point, and a product per edge."""
    with torch.no_grad():
        on, off = write_outputs(model, clean), write_outputs(model, corrupt, ablation)
    config, total = model.config, 0.0
    changes = dict(zip(list_writers(model), on - off, strict=True))
    for point in [(step + 0.5) / steps for step in range(steps)] or [1.0]:
        stream = off[0] + point * (on[0] - off[0])
        sites = [(f"{part}_input", layer) for layer in range(config.n_layers) for part in "qkv"]
        nudges = {
            site: stream.new_zeros(*stream.shape[:2], config.n_heads, config.d_model)
            for site in sites
        }
        nudges |= {
            ("mlp_in", layer): torch.zeros_like(stream)
            for layer in range(config.n_layers)
            if config.d_mlp
        }
        last = torch.zeros_like(stream)
        for nudge in (last, *nudges.values()):
            nudge.requires_grad_()
        with model.hooks(
            [(site, lambda value, hook, own=nudge: value + own) for site, nudge in nudges.items()]
        ):
            resid = model(resid=stream, stop_at_layer=config.n_layers)
        metric(model.unembed(resid + last)).mean().backward()
        slopes = {"logits": last.grad} | {
            f"m{i}": own.grad for (site, i), own in nudges.items() if site == "mlp_in"
        }
        for (site, layer), nudge in nudges.items():
            if nudge.ndim == 4:
                slopes |= {
                    f"a{layer}.h{i}<{site[0]}>": nudge.grad[:, :, i] for i in range(config.n_heads)
                }
        pairs = [edge.split("->") for edge in list_edges(model)]
        total = total + torch.stack(
            [(changes[writer] * slopes[reader]).sum() for writer, reader in pairs]
        )
    return total / max(steps, 1)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_kind_of_model_gives_what_a_nudged_stream_per_head_gives(config, ablation, steps):
    model, clean, corrupt = (
        scramble(config),
        draw_tokens(config, seed=1),
        draw_tokens(config, seed=2),
    )
    expected = attribute_slowly(model, clean, corrupt, metric, ablation, steps)
    torch.testing.assert_close(
        attribute_edges(model, clean, corrupt, metric, ablation, steps), expected
    )


@pytest.mark.parametrize(
    "site", ["resid_pre", "q", "k", "v", "q_input", "v_input", "pattern", "result", "normalized"]
)
def test_in_a_model_with_hooks_it_gives_what_a_nudged_stream_per_head_gives(site):
    config = CONFIGS["layer_norm_biases"]
    model, clean, corrupt = (
        scramble(config),
        draw_tokens(config, seed=1),
        draw_tokens(config, seed=2),
    )
    plain = attribute_edges(model, clean, corrupt, metric, steps=2)
    name = f"blocks.1.ln1.hook_{site}" if site == "normalized" else (site, 1)
    with model.hooks(
        [(name, lambda value, hook: value * torch.linspace(0.5, 2, value.shape[-1]).to(value))]
    ):
        expected = attribute_slowly(model, clean, corrupt, metric, "resample", 2)
        got = attribute_edges(model, clean, corrupt, metric, steps=2)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, plain)


@pytest.mark.parametrize("at_once", [1, 2])
def test_points_in_several_graphs_give_what_they_give_in_one(
    model, clean, corrupt, monkeypatch, at_once
):
    expected, shapes = attribute_edges(model, clean, corrupt, metric, steps=3), []
    monkeypatch.setattr(edge_attribution, "choose_points", lambda model, tokens: at_once)
    with model.hooks(
        [
            (
                ("mlp_out" if model.config.d_mlp else "z", 0),
                lambda value, hook: shapes.append(len(value)),
            )
        ]
    ):
        got = attribute_edges(model, clean, corrupt, metric, steps=3)
    torch.testing.assert_close(got, expected)
    assert max(shapes[1:]) == at_once * len(clean)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_along_the_masks_the_scores_add_up_to_what_all_edges_together_do(
    model, clean, corrupt, ablation
):
    if ablation == "zero" and model.ln_final is not None:
        pytest.skip(
            "near zero a norm magnifies the stream without bound: 200 points are not enough"
        )
    off, count = write_outputs(model, corrupt, ablation).detach(), len(list_edges(model))
    low, high = measure(model, clean, torch.tensor([[0.0], [1.0]]).expand(2, count).double(), off)
    errors = [
        (
            attribute_edges(model, clean, corrupt, metric, ablation, steps, "masks").sum()
            - (high - low)
        )
        .abs()
        .item()
        for steps in (1, 5, 40)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03 * (high - low).abs()  # measured: up to .025 of it, in the ReLU model


def test_edges_to_the_logits_of_a_model_without_norm_are_exact(model, clean, corrupt):
    if model.ln_final is not None:
        pytest.skip("this model has a norm, which is not linear")

    def linear(logits):
        return logits[:, -1, 2] - logits[:, 1, 3]

    exact, last = patch_edges(model, clean, corrupt, linear), len(list_writers(model))
    for steps in (0, 3):
        got = attribute_edges(model, clean, corrupt, linear, steps=steps)
        torch.testing.assert_close(got[-last:], exact[-last:])
        assert not torch.allclose(got[:-last], exact[:-last], rtol=1e-2)


def test_frozen_weights_and_a_callers_no_grad_change_nothing(model, clean, corrupt):
    runs = model, clean, corrupt, metric
    expected = [attribute_edges(*runs), attribute_edges(*runs, steps=2, along="masks")]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        got = [attribute_edges(*runs), attribute_edges(*runs, steps=2, along="masks")]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_saturated_attention_hides_an_edge_from_the_gradient_and_not_from_its_integral(seed):
    """The match in the hand-set model is saturated: its key carries everything, and its slope is zero."""
    case = toys.load("induction_by_hand", seed)
    batch, roles = case.task.draw(16, corrupt="fresh"), case.truth.roles
    edge = list_edges(case.model).index(f"{roles['previous']}->{roles['match']}<k>")
    runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    exact = patch_edges(*runs)[edge].item()
    assert exact > 15
    assert abs(attribute_edges(*runs)[edge]) < 1e-4 * exact
    assert attribute_edges(*runs, steps=10)[edge] > 0.2 * exact
    assert attribute_edges(*runs, steps=10, along="masks")[edge] > 0.1 * exact
