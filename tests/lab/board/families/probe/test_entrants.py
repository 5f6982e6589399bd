"""Probes without training, against what they should do on rows written down here."""

import torch

from mini_transformer.board.families.probe.entrants import (
    discriminate,
    find_class_means,
    find_nearest_rows,
)

X = torch.tensor([[0.0, 0.0], [0.0, 2.0], [8.0, 0.0], [8.0, 2.0]])
LABELS = torch.tensor([0, 0, 1, 1])


def test_the_nearest_mean_is_predicted():
    probe = find_class_means(X, LABELS)
    assert probe.means.tolist() == [[0, 1], [8, 1]]
    assert probe.predict(torch.tensor([[3.9, 50.0], [4.1, -50.0]])).tolist() == [0, 1]
    assert probe.directions.tolist() == [[-4, 0], [4, 0]]
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    several = find_class_means(x, torch.arange(50) % 4)
    nearest = torch.cdist(x, several.means).argmin(dim=1)
    assert torch.equal(several.predict(x), nearest)


def test_the_discriminant_does_not_read_along_loud_noise():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    noise = torch.randn(400, 2, generator=generator) * torch.tensor([10.0, 0.5])
    x = noise + torch.stack([3.0 * labels, 3.0 * labels], dim=1)
    accuracies = [
        (method(x, labels).predict(x) == labels).double().mean()
        for method in (find_class_means, discriminate)
    ]
    assert accuracies[0] < 0.8 < 0.95 < accuracies[1]


def test_most_of_the_nearest_rows_decide():
    x = torch.tensor([0.0, 1, 2, 10, 11, 12, 13])[:, None]
    probe = find_nearest_rows(x, torch.tensor([0, 0, 0, 1, 1, 1, 1]))
    assert probe.predict(torch.tensor([[0.5], [11.5]])).tolist() == [0, 1]
