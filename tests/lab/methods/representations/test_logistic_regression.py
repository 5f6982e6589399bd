"""The optimum of a logistic regression, by the conditions that define it."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mini_transformer.methods.representations.logistic_regression import (
    run_layers,
    solve,
    solve_conjugate,
)


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1e3, 1e-2), (-5.0, 1e4)])
def test_at_the_optimum_the_gradient_of_the_loss_is_zero(n_classes, offset, scale):
    x = offset + scale * draw(200, 4)
    labels = (draw(200, n_classes, seed=1) + draw(200, 1)).argmax(dim=1)
    n_scores = n_classes - (n_classes == 2)
    ((W, b),) = solve(x, labels, n_scores, 0.7)
    W, b = W.requires_grad_(), b.requires_grad_()
    loss = cross_entropy(run_layers([(W, b)], x), labels, reduction="sum")
    loss = loss + 0.35 * W.square().sum()
    on_W, on_b = torch.autograd.grad(loss, [W, b])
    size = x.abs().sum(dim=0).max()
    assert on_W.abs().max() < 1e-6 * size
    assert on_b.abs().max() < 1e-6 * len(x)


def test_two_classes_have_a_zero_beside_their_only_score():
    x, W = draw(3, 2), draw(2, 1, seed=1)
    scores = run_layers([(W, torch.zeros(1, dtype=torch.float64))], x)
    torch.testing.assert_close(scores, torch.cat([torch.zeros_like(x[:, :1]), x @ W], dim=1))


def test_conjugate_gradients_solve_a_positive_definite_system():
    root = draw(6, 6)
    matrix = root @ root.T + torch.eye(6, dtype=torch.float64)
    target = draw(6, 2, seed=1)
    found = solve_conjugate(lambda step: matrix @ step, target, 1e-12)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target))
