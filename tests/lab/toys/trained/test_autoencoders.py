"""Autoencoders trained side by side are those trained alone."""

import torch

from mini_transformer.toys.trained import autoencoders as sup
from mini_transformer.train import Recipe, train


def test_dimensionality_is_its_definition_by_slow_loops():
    W = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for i, found in enumerate(sup.measure_dimensionality(W)):
        unit = W[:, i] / W[:, i].norm()
        slow = W[:, i].norm() ** 2 / sum((unit @ W[:, j]) ** 2 for j in range(4))
        torch.testing.assert_close(found, slow)


def test_training_side_by_side_is_training_alone():
    density, importance = (
        torch.tensor([0.1, 0.5, 0.9]),
        torch.tensor([[1.0, 0.3], [1.0, 1.0], [1.0, 3.0]]),
    )
    start, recipe = sup.Autoencoders(3, 2, 1, seed=4), Recipe(steps=100, lr=1e-2, weight_decay=0.0)
    together = train(
        start, sup.make_objective(density, importance, 64), recipe, progress=False
    ).model
    for i in range(3):
        alone = sup.Autoencoders(1, 2, 1)
        with torch.no_grad():
            alone.W[0], alone.b[0] = start.W[i], start.b[i]
        objective = sup.make_objective(density[i : i + 1], importance[i : i + 1], 64)
        alone = train(alone, objective, recipe, progress=False).model
        torch.testing.assert_close(alone.W[0], together.W[i], rtol=1e-3, atol=1e-4)


def test_features_are_as_dense_and_as_large_as_asked():
    x = sup.draw_features(
        torch.tensor([0.1, 0.6]), 20_000, 3, torch.Generator().manual_seed(0), lowest=0.5
    )
    torch.testing.assert_close(
        (x > 0).float().mean(dim=(1, 2)), torch.tensor([0.1, 0.6]), atol=0.01, rtol=0
    )
    assert 0.5 <= x[x > 0].min() < 0.51
    assert 0.99 < x.max() <= 1
