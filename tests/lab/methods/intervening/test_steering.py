"""Steering against loops, against what a linear readout must show, and on a hand-set refusal
direction.

Checked against: hooks written out in loops, linear models in which the effect is known, and a
hand-set refusal direction.
"""

import itertools

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import fit_steering_vector, measure_doses, steer
from mini_transformer.toys.hand_set.refusal_with_trigger import (
    LAST,
    PROMPTS,
    REFUSAL,
    REFUSE,
    STRENGTH,
    make_policy,
)


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def list_places(position):
    """The position of each of three prompts."""
    return [position] * 3 if isinstance(position, int) else [int(place) for place in position]


@pytest.mark.parametrize("position", [None, 0, 2, -1, [1, -1, 1], torch.tensor([4, 0, 2])])
def test_a_steering_vector_is_the_difference_of_two_means_taken_in_a_loop(
    model, clean, corrupt, position
):
    hook = ("resid_post", 0)
    sums = []
    some = corrupt[:2] if position is None or isinstance(position, int) else corrupt
    for tokens in (clean, some):
        rows = [model.run_with_cache(row[None])[1][hook][0] for row in tokens]
        places = [range(5)] * 3 if position is None else [[t] for t in list_places(position)]
        picked = [row[t] for row, where in zip(rows, places, strict=False) for t in where]
        sums.append(sum(picked) / len(picked))
    got = fit_steering_vector(model, clean, some, hook, position)
    torch.testing.assert_close(got, (sums[0] - sums[1]).detach())


@pytest.mark.parametrize("position", [None, 0, 2, -1, [1, -1, 1], torch.tensor([4, 0, 2])])
@pytest.mark.parametrize("strength", [2.5, -1.0])
def test_steering_adds_strength_times_the_vector_where_it_is_told_to(
    model, clean, position, strength
):
    vector = torch.randn(8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def put(value, hook):
        for row, t in itertools.product(range(3), range(5)):
            if position is None or t == list_places(position)[row] % 5:
                value[row, t] = value[row, t] + strength * vector

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
    """The effect on the logit of REFUSE is strength times what the vector has of the refusal
    direction, times twice STRENGTH.
    """
    case, policy = toys.load("refusal_with_trigger", seed=1), make_policy(1)
    quiet = policy.find_trigger(PROMPTS) == 0
    flagged, harmless = (PROMPTS[quiet & (policy.find_harm(PROMPTS) == harm)] for harm in (1, 0))
    vector = fit_steering_vector(case.model, flagged, harmless, ("resid_post", 1))
    along = (vector @ REFUSAL).item()
    assert along == pytest.approx(1.0, abs=1e-4)
    for strength in (-1.0, 0.3, 1.0):
        steered = steer(case.model, harmless, vector, ("resid_post", 1), strength, position=None)[
            :, LAST
        ]
        shift = steered[:, REFUSE] - case.model(harmless)[:, LAST, REFUSE].detach()
        torch.testing.assert_close(
            shift, torch.full_like(shift, 2 * STRENGTH * strength * along), rtol=1e-3, atol=1e-3
        )
    said = [
        steer(case.model, flagged, vector, ("resid_post", 1), s, position=None)[:, LAST].argmax(
            dim=1
        )
        for s in (0.0, -1.0)
    ]
    assert (said[0] == REFUSE).all()
    assert not (said[1] == REFUSE).any()
