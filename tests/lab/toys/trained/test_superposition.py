"""Superposition: the shapes of the shipped models, and damage that is noticed."""

import copy
import dataclasses

import pytest
import torch
from damaging import list_broken

from mini_transformer import toys
from mini_transformer.toys.hand_set.planted_features import read_codes
from mini_transformer.toys.trained import autoencoders as sup
from mini_transformer.toys.trained import superposition as shapes
from mini_transformer.toys.trained.shipped import list_seeds, load_shipped

SETTINGS = [shapes.PENTAGON, shapes.DIGONS, shapes.TETRAHEDRON, shapes.FORTY]
EACH = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)


@EACH
def test_five_seeds_are_shipped(setting):
    assert list_seeds(setting.name) == [0, 1, 2, 3, 4]


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


@pytest.mark.slow
@EACH
def test_training_from_scratch_meets_every_signature(setting):
    trained = shapes.train(setting, 0, progress=False)
    assert list_broken(shapes.make_case(setting, trained.model)) == []
