"""Superposition: shapes of the shipped models, the batched ensemble against one model at a time, the phase diagram."""

import copy
import dataclasses
import time

import pytest
import torch
from damaging import list_broken

from mini_transformer import toys
from mini_transformer.toys import superposition as sup
from mini_transformer.toys import superposition_phases as phases
from mini_transformer.toys import superposition_shapes as shapes
from mini_transformer.toys.planted_features import read_codes
from mini_transformer.toys.shipped import list_seeds, load_shipped
from mini_transformer.train import Recipe, train

SETTINGS = [shapes.PENTAGON, shapes.DIGONS, shapes.TETRAHEDRON, shapes.FORTY]
EACH = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)


@EACH
def test_every_signature_holds_on_five_shipped_seeds(setting):
    assert list_seeds(setting.name) == [0, 1, 2, 3, 4]
    assert [list_broken(toys.load(setting.name, seed)) for seed in range(5)] == [[]] * 5


@EACH
def test_a_feature_turned_onto_its_neighbour_is_noticed(setting):
    case = toys.load(setting.name)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.W_U[:, 0] = model.W_U[:, 1]
    assert "deviation of D" in list_broken(dataclasses.replace(case, model=model))


@EACH
def test_the_transformer_computes_what_the_autoencoder_does(setting):
    case = toys.load(setting.name, seed=1)
    weights = load_shipped(setting.name, 1, lambda config: sup.Autoencoders(**config))
    tokens = case.truth.features.draw(200, 3)
    with torch.no_grad():
        rebuilt = weights(read_codes(tokens, setting.n_features)[None])[0]
        torch.testing.assert_close(
            torch.relu(case.model(tokens)[:, -1]), rebuilt, rtol=1e-4, atol=1e-5
        )


@EACH
def test_the_stream_is_the_sum_of_the_stored_features(setting):
    case = toys.load(setting.name, seed=2)
    features = case.truth.features
    tokens = features.draw(200, 3)
    with torch.no_grad():
        stream = case.model.run_with_cache(tokens)[1][features.site][:, features.position]
    torch.testing.assert_close(features.directions.norm(dim=1), torch.ones(setting.stored))
    slack = (
        0.2 if setting.stored < setting.n_features else 1e-5
    )  # what is left of the feature given up
    torch.testing.assert_close(
        stream, features.activations(tokens) @ features.directions, rtol=1e-4, atol=slack
    )


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


@pytest.mark.slow
@EACH
def test_training_from_scratch_meets_every_signature(setting):
    trained = shapes.train(setting, 0, progress=False)
    assert list_broken(shapes.make_case(setting, trained.model)) == []
