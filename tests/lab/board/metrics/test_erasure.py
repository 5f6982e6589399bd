"""What erasers are judged by: on activations whose label is planted along known axes."""

import pytest
import torch
from torch.nn.functional import one_hot

from mini_transformer.board.metrics.erasure import (
    balance,
    check_rows,
    measure_change,
    measure_leakage,
    measure_share,
)


def plant(n=600, share=0.5, seed=0):
    """The label shifts the first axis; the product of the second and the third gives it away, too,
    but not to a line.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < share).long()
    x = torch.randn(n, 4, generator=generator)
    x[:, 0] += 6 * labels
    x[:, 2] = x[:, 2].abs() * torch.where(labels == 1, 1, -1) * x[:, 1].sign()
    return x, labels


def leak(x, labels, nonlinear=False):
    half = len(x) // 2
    known = one_hot(labels[half:], 2).double()
    return measure_leakage(x[:half], labels[:half], x[half:], known, nonlinear)


def test_all_leaks_before_and_nothing_linear_after_the_axis_is_gone():
    x, labels = plant()
    blind = x * torch.tensor([0.0, 1, 1, 1])
    assert leak(x, labels) > 0.98
    assert leak(blind, labels) < 0.15
    assert leak(blind, labels, nonlinear=True) > 0.5  # the product is still there


def test_nothing_hides_in_being_small():
    x, labels = plant()
    x[:, 0] = 1e-2 * (labels + 0.01 * x[:, 0])  # a variance of 2e-5 beside one of 1
    assert leak(x, labels) > 0.98


def test_a_label_hidden_in_the_length_is_read_by_the_probe_that_is_not_linear():
    x, labels = plant()
    longer = torch.nn.functional.normalize(x[:, 1:2], dim=1) * (1 + labels[:, None])
    assert leak(longer, labels) < 0.2
    assert leak(longer, labels, nonlinear=True) > 0.9


def test_leakage_counts_from_the_majority_on():
    x, labels = plant(share=0.9)
    constant = torch.zeros_like(x)
    assert leak(constant, labels) == 0
    assert leak(x, labels) > 0.9


def test_leakage_is_judged_on_the_rows_for_the_test():
    x, labels = plant()
    half = len(x) // 2
    swapped = one_hot(1 - labels[half:], 2).double()
    assert measure_leakage(x[:half], labels[:half], x[half:], swapped) == 0


def test_the_change_is_the_squared_distance_over_the_variance():
    x, _ = plant()
    moved = x + torch.tensor([0.0, 0.3, 0.0, 0.0])
    by_hand = 0.09 * len(x) / sum(((row - x.mean(0)) ** 2).sum().item() for row in x)
    assert measure_change(x, moved) == pytest.approx(by_hand, rel=1e-4)
    assert measure_change(x, x) == 0
    assert measure_change(x, x.mean(dim=0).expand_as(x)) == pytest.approx(1)


def test_erasing_nothing_and_erasing_everything_are_worth_nothing():
    assert balance(erased=0.0, kept=1.0) == balance(erased=1.0, kept=0.0) == balance(0.0, 0.0) == 0
    assert balance(1.0, 1.0) == 1
    assert (
        balance(0.3, 0.7) == balance(0.3, 0.6) == 0
    )  # as much of everything, and more of the rest
    steps = [balance(1 - step / 10, 1 - step / 20) for step in range(11)]
    assert steps == sorted(steps, reverse=True)


def test_shares_stay_between_0_and_1():
    assert [
        measure_share(*pair)
        for pair in ((1.0, 2.0), (3.0, 2.0), (-1.0, 2.0), (0.0, 0.0), (-0.1, 0.0))
    ] == [
        0.5,
        1,
        0,
        1,
        1,
    ]


def test_an_eraser_must_not_look_at_the_rows_beside():
    x, _ = plant()
    assert torch.equal(check_rows(lambda rows: 2 * rows, x), 2 * x)
    seen = []

    def remember(rows):
        """Fit to the first whole batch, and stay with that."""
        seen.append(rows.mean(dim=0))
        return rows - seen[min(1, len(seen) - 1)]

    def halve(rows):
        return torch.cat([rows[: len(rows) // 2], 0 * rows[len(rows) // 2 :]])

    for erase in (lambda rows: rows - rows.mean(dim=0), halve, remember):
        with pytest.raises(ValueError, match="must treat each row for itself"):
            check_rows(erase, x)
