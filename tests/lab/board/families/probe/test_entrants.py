"""The probe without training: it predicts the nearest mean, and its directions are centred."""

import torch

from mini_transformer.board.families.probe.entrants import find_class_means


def test_the_nearest_mean_is_predicted():
    x = torch.tensor([[0.0, 0.0], [0.0, 2.0], [8.0, 0.0], [8.0, 2.0]])
    probe = find_class_means(x, torch.tensor([0, 0, 1, 1]))
    assert probe.means.tolist() == [[0, 1], [8, 1]]
    assert probe.predict(torch.tensor([[3.9, 50.0], [4.1, -50.0]])).tolist() == [0, 1]
    assert probe.directions.tolist() == [[-4, 0], [4, 0]]
