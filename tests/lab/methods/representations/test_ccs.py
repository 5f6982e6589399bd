"""Contrast-consistent search on planted pairs.

Checked against: planted directions, and the same loss written out per pair.
"""

import torch

from mini_transformer.methods import answer_pairs, fit_ccs
from mini_transformer.methods.representations.ccs import compute_losses


def draw(n=300, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64), generator


def test_consistent_search_finds_the_planted_truth_without_labels():
    x, generator = draw(400, 6)
    truth = torch.randint(2, (400,), generator=generator)
    direction = torch.nn.functional.normalize(
        torch.randn(6, generator=generator, dtype=torch.float64), dim=0
    )
    is_positive = torch.nn.functional.normalize(
        torch.randn(6, generator=generator, dtype=torch.float64), dim=0
    )
    sign = (2.0 * truth - 1)[:, None] * direction * 3
    positive, negative = x + sign + 5 * is_positive, x - sign - 5 * is_positive
    found = fit_ccs(positive, negative)
    accuracy = (answer_pairs(found, positive, negative) == truth).double().mean().item()
    assert max(accuracy, 1 - accuracy) > 0.99


def test_the_loss_of_consistent_search_is_that_of_the_paper():
    x, _ = draw(4, 3)
    w, _ = draw(2, 3, seed=1)
    y, _ = draw(4, 3, seed=2)
    for i in range(2):
        total = 0.0
        for a, b in zip(x, y, strict=True):
            p, q = (1 / (1 + torch.exp(-(row * w[i]).sum())) for row in (a, b))
            total += (p - (1 - q)) ** 2 + min(p, q) ** 2
        torch.testing.assert_close(compute_losses(w, x, y)[i], total / 4)
