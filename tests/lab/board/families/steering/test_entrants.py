"""Steering by means and by a probe: the hook where classes lie apart, and a vector between them."""

import pytest
import torch

from mini_transformer.board.families.steering.entrants import (
    follow_gradient,
    measure_separation,
    steer_by_means,
    steer_by_probe,
)
from mini_transformer.board.families.steering.problems import build


def draw(distance):
    """Two classes that lie apart along the first axis, at a hook that is far and at one that is
    near.
    """
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(60, 4, generator=generator) for _ in range(4)]
    shift = torch.tensor([distance, 0.0, 0.0, 0.0])
    return {"far": noise[0] + shift, "near": noise[1]}, {"far": noise[2], "near": noise[3]}


def test_the_difference_in_means_is_taken_where_it_is_largest_for_the_spread():
    positive, negative = draw(6.0)
    vector, hook = steer_by_means(positive, negative)
    assert hook == "far"
    assert torch.equal(vector, positive["far"].mean(dim=0) - negative["far"].mean(dim=0))
    louder = (
        {**positive, "near": 100 * positive["near"]},
        {**negative, "near": 100 * negative["near"]},
    )
    assert steer_by_means(*louder)[1] == "far"


def test_the_probe_s_direction_is_as_long_as_the_difference_and_points_the_same_way():
    positive, negative = draw(6.0)
    (by_means, _), (by_probe, hook) = (
        steer(positive, negative) for steer in (steer_by_means, steer_by_probe)
    )
    assert hook == "far"
    assert by_probe.norm() == pytest.approx(by_means.norm().item(), rel=1e-5)
    assert torch.nn.functional.cosine_similarity(by_probe, by_means, dim=0) > 0.8


def test_separation_is_squared_distance_over_spread():
    positive, negative = torch.tensor([[4.0], [6.0]]), torch.tensor([[0.0], [2.0]])
    assert measure_separation(positive, negative) == pytest.approx(16 / 2)


def test_the_gradient_points_at_what_the_model_reads():
    for seed in range(3):
        problem = build("planted/many", seed)
        vector, hook = follow_gradient(*problem.arguments, **problem.options)
        plain, _ = steer_by_means(*problem.arguments)
        assert vector.norm() == pytest.approx(plain.norm().item(), rel=1e-5)
        assert problem.measure((vector, hook))["specificity"] > 0.8
    assert torch.equal(follow_gradient(*problem.arguments)[0], plain)  # nobody to ask
