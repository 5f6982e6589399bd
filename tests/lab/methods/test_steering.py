"""Steering against loops, against what a linear readout must show, and on a hand-set refusal direction."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import find_steering_vector, measure_doses, steer
from mini_transformer.toys.policy import LAST, PROMPTS, REFUSE, make_policy
from mini_transformer.toys.refusal_with_trigger import REFUSAL, STRENGTH


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


@pytest.mark.parametrize("position", [None, 0, 2, -1])
def test_a_steering_vector_is_the_difference_of_two_means_taken_in_a_loop(
    model, clean, corrupt, position
):
    hook = ("resid_post", 0)
    sums = []
    for tokens in (clean, corrupt[:2]):
        rows = [model.run_with_cache(row[None])[1][hook][0] for row in tokens]
        picked = [row[t] for row in rows for t in (range(5) if position is None else [position])]
        sums.append(sum(picked) / len(picked))
    got = find_steering_vector(model, clean, corrupt[:2], hook, position)
    torch.testing.assert_close(got, (sums[0] - sums[1]).detach())


@pytest.mark.parametrize("position", [None, 0, 2, -1])
@pytest.mark.parametrize("strength", [2.5, -1.0])
def test_steering_adds_strength_times_the_vector_where_it_is_told_to(
    model, clean, position, strength
):
    vector = torch.randn(8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def put(value, hook):
        for t in range(5):
            if position is None or t == position % 5:
                value[:, t] = value[:, t] + strength * vector

    expected = model.run_with_hooks(clean, fwd_hooks=[(("attn_out", 0), put)]).detach()
    got = steer(model, clean, vector, ("attn_out", 0), strength, position)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, model(clean))


def test_strength_zero_is_the_plain_run_and_a_curve_is_one_run_per_strength(model, clean):
    hook, strengths = ("resid_pre", 1), [0.0, 0.5, -2.0]
    vector = torch.randn(8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    curve = measure_doses(model, clean, metric, vector, hook, strengths, position=3)
    torch.testing.assert_close(curve[0], metric(model(clean)).mean().detach())
    for value, strength in zip(curve, strengths, strict=True):
        torch.testing.assert_close(
            value, metric(steer(model, clean, vector, hook, strength, 3)).mean()
        )
    assert len(set(curve.tolist())) == 3


def test_the_difference_in_means_steers_the_hand_set_model_to_refuse_and_back():
    """The effect on the logit of REFUSE is strength times what the vector has of the refusal direction, times twice STRENGTH."""
    case, policy = toys.load("refusal_with_trigger", seed=1), make_policy(1)
    quiet = policy.find_trigger(PROMPTS) == 0
    flagged, harmless = (PROMPTS[quiet & (policy.find_harm(PROMPTS) == harm)] for harm in (1, 0))
    vector = find_steering_vector(case.model, flagged, harmless, ("resid_post", 1))
    along = (vector @ REFUSAL).item()
    assert along == pytest.approx(1.0, abs=1e-4)
    for strength in (-1.0, 0.3, 1.0):
        steered = steer(case.model, harmless, vector, ("resid_post", 1), strength)[:, LAST]
        shift = steered[:, REFUSE] - case.model(harmless)[:, LAST, REFUSE].detach()
        torch.testing.assert_close(
            shift, torch.full_like(shift, 2 * STRENGTH * strength * along), rtol=1e-3, atol=1e-3
        )
    said = [
        steer(case.model, flagged, vector, ("resid_post", 1), s)[:, LAST].argmax(dim=1)
        for s in (0.0, -1.0)
    ]
    assert (said[0] == REFUSE).all()
    assert not (said[1] == REFUSE).any()
