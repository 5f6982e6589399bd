"""Intervals hold the mean, shrink with more models, and resample models, not values."""

import torch

from mini_transformer.intervals import combine, find_interval


def test_the_interval_is_about_two_standard_errors_to_each_side() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).tolist()
    found = find_interval(values)
    error = torch.tensor(values).std().item() / 20
    assert abs(found.high - found.mean - 1.96 * error) < 0.2 * error
    assert abs(found.mean - found.low - 1.96 * error) < 0.2 * error


def test_one_model_has_no_interval_and_equal_ones_a_point() -> None:
    assert find_interval([0.3]) == (0.3, None, None)
    assert find_interval([0.3] * 5) == (0.3, 0.3, 0.3)


def test_parts_are_drawn_by_themselves_and_weighted() -> None:
    values = [0.0, 1.0] * 20
    one, both = find_interval(values), combine([(0.5, values), (0.5, values)])
    assert both.mean == one.mean == 0.5
    ratio = (both.high - both.low) / (one.high - one.low)
    assert 0.6 < ratio < 0.85  # 1 / sqrt(2): two independent halves


def test_a_generator_decides_the_draw() -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(1)).tolist()
    first, second = (find_interval(values, torch.Generator().manual_seed(i)) for i in (1, 2))
    assert first.mean == second.mean
    assert first != second
