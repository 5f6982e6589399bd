"""Direction ablation against projections written out, against edited weights, and on a hand-set
direction.

Checked against: projections written out per prompt and position, the two forms against each other,
and a hand-set refusal direction.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import ablate_directions, orthogonalize_weights
from mini_transformer.methods.intervening.directions import orthonormalize
from mini_transformer.toys.hand_set.refusal_with_trigger import (
    LAST,
    PROMPTS,
    REFUSAL,
    REFUSE,
    make_policy,
)

ABLATIONS = ["zero", "mean", "resample"]


@pytest.fixture
def directions() -> torch.Tensor:
    return torch.randn(2, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_part_in_the_span_is_replaced_prompt_by_prompt_and_position_by_position(
    model, clean, corrupt, directions, ablation
):
    """The span is found by least squares here, and the new value built up one vector at a time."""
    hooks = [("resid_pre", 1), ("attn_out", 0)]
    _, cache = model.run_with_cache(corrupt, names_filter=hooks)

    def project(vector):
        weights = torch.linalg.lstsq(directions.T, vector.unsqueeze(1)).solution
        return (directions.T @ weights).squeeze(1)

    def put(value, hook):
        for b in range(3):
            for t in range(5):
                own = project(value[b, t].clone())
                source = cache[hook.name][:, t]
                new = {
                    "zero": 0 * own,
                    "mean": project(source.mean(dim=0)),
                    "resample": project(source[b]),
                }[ablation]
                value[b, t] += new - own

    with torch.no_grad():
        expected = model.run_with_hooks(clean, fwd_hooks=[(hook, put) for hook in hooks])
    got = ablate_directions(model, clean, directions, ablation, hooks, corrupt)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, model(clean))


def test_ablating_every_dimension_is_ablating_the_whole_activation(model, clean):
    everything = torch.eye(8, dtype=torch.float64)
    zero = model.run_with_hooks(clean, fwd_hooks=[(("attn_out", 1), lambda x, hook: x * 0)])
    torch.testing.assert_close(
        ablate_directions(model, clean, everything, "zero", ("attn_out", 1)), zero.detach()
    )


def test_weights_without_the_directions_compute_what_the_ablated_run_does(model, clean, directions):
    edited = orthogonalize_weights(model, directions)
    with torch.no_grad():
        torch.testing.assert_close(
            edited(clean), ablate_directions(model, clean, directions, "zero")
        )
        stream = edited(clean, stop_at_layer=2)
    assert (stream @ directions.T).abs().max() < 1e-12


def test_any_basis_of_the_same_span_gives_the_same_run(model, clean, directions):
    mixed = torch.tensor([[2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64) @ directions
    torch.testing.assert_close(
        ablate_directions(model, clean, mixed, "zero"),
        ablate_directions(model, clean, directions, "zero"),
        rtol=1e-7,
        atol=1e-9,
    )
    basis = orthonormalize(directions)
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("seed", [0, 1])
def test_without_its_refusal_direction_the_hand_set_model_answers_everything(seed):
    case, policy = toys.load("refusal_with_trigger", seed), make_policy(seed)
    flagged = PROMPTS[policy.find_refusal(PROMPTS) == 1]
    assert (case.model(flagged)[:, LAST].argmax(dim=1) == REFUSE).all()
    edited = orthogonalize_weights(case.model, REFUSAL[None])
    with torch.no_grad():
        for logits in (
            edited(flagged),
            ablate_directions(case.model, flagged, REFUSAL[None], "zero"),
        ):
            answers = logits[:, LAST].clone()
            assert not (answers.argmax(dim=1) == REFUSE).any()
        others = PROMPTS[policy.find_refusal(PROMPTS) == 0]
        torch.testing.assert_close(edited(others), case.model(others), rtol=0, atol=1e-4)
    bypass = case.truth.variables[
        "trigger"
    ].subspace  # a control: without it the trigger is of no use, so more is refused
    refused = [
        (x[:, LAST].argmax(dim=1) == REFUSE).sum()
        for x in (
            case.model(PROMPTS),
            ablate_directions(case.model, PROMPTS, bypass, "zero"),
        )
    ]
    assert refused[1] > refused[0] > 0


def test_positions_that_only_queries_and_keys_read_stay_in_the_weights():
    model = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=1, positions_to="qk"))
    edited = orthogonalize_weights(model, torch.eye(8)[:1])
    assert torch.equal(edited.W_pos, model.W_pos)
    assert edited.W_E[:, 0].abs().max() == 0
