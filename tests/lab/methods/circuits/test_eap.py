"""Edge attribution.

Checked against: the gradient of the edge engine in its masks, exact edge patching by smaller and
smaller steps (finite differences), the sum over all edges, the saturated attention of a hand-set
model, and auto-circuit 1.0.1 on the same weights.
"""

import pytest
import torch
from drawn_models import CONFIGS, draw_tokens, scramble

from mini_transformer import toys
from mini_transformer.edges import list_edges, list_writers, run_edges, write_outputs
from mini_transformer.methods import eap, patch_edges
from mini_transformer.methods.circuits import eap as edge_attribution

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
    """Finite differences: each edge is switched off by a tenth or less, in its own mask."""
    off = write_outputs(model, corrupt, ablation).detach()
    count = len(list_edges(model))
    got = eap(model, clean, corrupt, metric, ablation).values
    errors = []
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
    torch.testing.assert_close(eap(model, clean, corrupt, metric, ablation).values, masks.grad[0])


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_along_the_inputs_it_is_the_mean_of_slopes_between_the_two_embeddings(
    model, clean, corrupt, ablation
):
    """By definition: in a hooked run per edge and point, the reader hears a little less.

    It hears less of what the writer writes in the clean minus the corrupt run.
    """
    with torch.no_grad():
        on, off = write_outputs(model, clean), write_outputs(model, corrupt, ablation)
    changes = dict(zip(list_writers(model), on - off, strict=True))
    steps = 3
    small = 1e-6
    edges = list_edges(model)
    expected = torch.zeros(len(list_edges(model)), dtype=torch.float64)
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
    got = eap(model, clean, corrupt, metric, ablation, steps=steps).values
    torch.testing.assert_close(got, expected / steps, rtol=1e-3, atol=1e-5)


def attribute_slowly(model, clean, corrupt, metric, ablation, steps):
    """Nudge a stream per head, with a graph per point and a product per edge."""
    with torch.no_grad():
        on, off = write_outputs(model, clean), write_outputs(model, corrupt, ablation)
    config = model.config
    total = 0.0
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
            [(changes[writer] * slopes[reader]).sum(dim=(0, 2)) for writer, reader in pairs]
        )
    return total / max(steps, 1)  # (edge, position)


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
    runs = model, clean, corrupt, metric, ablation, steps
    torch.testing.assert_close(eap(*runs, by_position=True).values, expected)
    torch.testing.assert_close(eap(*runs).values, expected.sum(dim=1))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_by_position_it_is_the_gradient_of_the_edge_engine_and_adds_up(
    model, clean, corrupt, ablation
):
    off = write_outputs(model, corrupt, ablation).detach()
    masks = torch.ones(1, len(list_edges(model)), clean.shape[1], dtype=torch.float64)
    masks.requires_grad_()
    metric(run_edges(model, clean, masks, off)[0]).mean().backward()
    runs = model, clean, corrupt, metric, ablation
    torch.testing.assert_close(eap(*runs, by_position=True).values, masks.grad[0])
    for kind in ((), (3,), (2, "masks")):
        found = eap(*runs, *kind, by_position=True)
        assert found.values.shape == masks.shape[1:]
        torch.testing.assert_close(found.sum().values, eap(*runs, *kind).values)


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
    plain = eap(model, clean, corrupt, metric, steps=2).values
    name = f"blocks.1.ln1.hook_{site}" if site == "normalized" else (site, 1)
    with model.hooks(
        [(name, lambda value, hook: value * torch.linspace(0.5, 2, value.shape[-1]).to(value))]
    ):
        expected = attribute_slowly(model, clean, corrupt, metric, "resample", 2).sum(dim=1)
        got = eap(model, clean, corrupt, metric, steps=2).values
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, plain)


@pytest.mark.parametrize("at_once", [1, 2])
def test_points_in_several_graphs_give_what_they_give_in_one(
    model, clean, corrupt, monkeypatch, at_once
):
    expected = eap(model, clean, corrupt, metric, steps=3).values
    shapes = []
    monkeypatch.setattr(edge_attribution, "choose_points", lambda model, tokens: at_once)
    with model.hooks(
        [
            (
                ("mlp_out" if model.config.d_mlp else "z", 0),
                lambda value, hook: shapes.append(len(value)),
            )
        ]
    ):
        got = eap(model, clean, corrupt, metric, steps=3).values
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
    off = write_outputs(model, corrupt, ablation).detach()
    count = len(list_edges(model))
    low, high = measure(model, clean, torch.tensor([[0.0], [1.0]]).expand(2, count).double(), off)
    errors = []
    for steps in (1, 5, 40):
        scores = eap(model, clean, corrupt, metric, ablation, steps, "masks")
        errors.append((scores.values.sum() - (high - low)).abs().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03 * (high - low).abs()  # measured: up to .025 of it, in the ReLU model


def test_edges_to_the_logits_of_a_model_without_norm_are_exact(model, clean, corrupt):
    if model.ln_final is not None:
        pytest.skip("this model has a norm, which is not linear")

    def linear(logits):
        return logits[:, -1, 2] - logits[:, 1, 3]

    exact = patch_edges(model, clean, corrupt, linear, direction="noise").values
    last = len(list_writers(model))
    for steps in (0, 3):
        got = eap(model, clean, corrupt, linear, steps=steps).values
        torch.testing.assert_close(got[-last:], exact[-last:])
        assert not torch.allclose(got[:-last], exact[:-last], rtol=1e-2)


def test_frozen_weights_and_a_callers_no_grad_change_nothing(model, clean, corrupt):
    runs = model, clean, corrupt, metric
    expected = [eap(*runs).values, eap(*runs, steps=2, along="masks").values]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        got = [eap(*runs).values, eap(*runs, steps=2, along="masks").values]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_saturated_attention_hides_an_edge_from_the_gradient_and_not_from_its_integral(seed):
    """The key of the hand-set match carries everything, and its slope is zero."""
    case = toys.load("induction_by_hand", seed)
    batch = case.task.draw(16, corrupt="fresh")
    roles = case.truth.roles
    edge = f"{roles['previous']}->{roles['match']}<k>"
    runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    exact = patch_edges(*runs, direction="noise")[edge].item()
    assert exact > 15
    assert abs(eap(*runs)[edge]) < 1e-4 * exact
    assert eap(*runs, steps=10)[edge] > 0.2 * exact
    assert eap(*runs, steps=10, along="masks")[edge] > 0.1 * exact
