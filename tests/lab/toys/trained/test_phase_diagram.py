"""The phase diagram agrees with its closed form."""

import time

import pytest
import torch

from mini_transformer.toys.trained import autoencoders as sup
from mini_transformer.toys.trained import phase_diagram as phases
from mini_transformer.train import train


def test_the_closed_form_is_the_error_of_the_three_solutions_on_drawn_features():
    density, importance = torch.tensor([0.03, 0.3, 0.8]), torch.tensor([0.2, 0.8, 5.0])
    predicted = phases.predict_outcome(density, importance)
    for i, p in enumerate(density):
        x = sup.draw_features(p[None], 200_000, 2, torch.Generator().manual_seed(0))
        for j, second in enumerate(importance):
            three = sup.Autoencoders(3, 2, 1)
            with torch.no_grad():
                three.W[:, 0] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
                three.b[:] = p / 2 * torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
                errors = sup.measure_errors(
                    three, x.expand(3, -1, -1), torch.tensor([[1.0, second]]).expand(3, 2)
                )
            assert errors.argmin() == predicted[i, j]


@pytest.mark.parametrize("size", [6])
def test_a_small_phase_diagram_agrees_with_the_closed_form(size):
    learned = phases.train_phases(size, progress=False)
    predicted = phases.predict_outcome(learned.density, learned.importance)
    assert (learned.outcome == predicted).float().mean() >= 0.85
    assert set(learned.outcome.flatten().tolist()) == {phases.FIRST, phases.SECOND, phases.BOTH}


@pytest.mark.slow
def test_the_phase_diagram_of_400_settings_takes_a_twentieth_of_the_loop():
    start = time.perf_counter()
    learned = phases.train_phases(20, progress=False)
    batched = time.perf_counter() - start
    predicted = phases.predict_outcome(learned.density, learned.importance)
    assert (learned.outcome == predicted).float().mean() >= 0.92
    start = time.perf_counter()
    for i in range(10):  # a sample of the 400 settings x 4 starts
        objective = sup.make_objective(learned.density[i : i + 1], torch.tensor([[1.0, 0.5]]))
        train(sup.Autoencoders(1, 2, 1, seed=i), objective, phases.RECIPE, progress=False)
    assert (time.perf_counter() - start) / 10 * 1600 > 20 * batched
    assert batched < 60
