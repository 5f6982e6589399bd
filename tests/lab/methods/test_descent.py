"""Descent is Adam with a rate that falls at the end, and leaves no trace in what the loss runs
through.

Checked against: the same steps with torch.optim in a plain loop.
"""

import pytest
import torch

from mini_transformer.methods.descent import descend

TARGET = torch.tensor([1.0, -2.0, 0.5])


def test_it_is_adam_whose_rate_falls_linearly_over_the_last_half():
    fitted = torch.zeros(3, requires_grad=True)
    plain = torch.zeros(3, requires_grad=True)
    seen = []
    optimizer = torch.optim.Adam([plain], lr=0.1)
    for step in range(20):
        optimizer.param_groups[0]["lr"] = 0.1 if step <= 10 else 0.1 * (20 - step) / 10
        optimizer.zero_grad()
        last = (plain - TARGET).square().sum()
        last.backward()
        optimizer.step()

    def after(step):
        seen.append((step, torch.is_grad_enabled()))

    loss = descend(lambda step: (fitted - TARGET).square().sum(), [fitted], 20, 0.1, after)
    torch.testing.assert_close(fitted, plain)
    assert loss == pytest.approx(last.item())
    assert seen == [(step, False) for step in range(20)]


def test_gradients_do_not_pile_up_in_the_model_and_are_found_without_grad_mode():
    model = torch.nn.Linear(3, 1)
    fitted = torch.zeros(3, requires_grad=True)
    with torch.no_grad():
        descend(lambda step: (model(fitted) - 1).square().sum(), [fitted], 200, 0.1)
        assert (model(fitted) - 1).abs() < 0.1
    assert all(weight.grad is None for weight in model.parameters())
