"""What the trained addition and superposition toys say to bad input: one sentence, with the fix."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.toys import clock_pizza, superposition, superposition_phases

TRAINED = ["modular_addition", "clock", "pizza", "superposition_pentagon", "superposition_40_in_10"]


@pytest.mark.parametrize("name", TRAINED)
def test_a_seed_without_checkpoint_says_how_to_train_it(name):
    with pytest.raises(
        KeyError,
        match=f"no trained {name} with seed 99 is shipped .*minilab train {name} --seed 99",
    ):
        toys.load(name, 99)


@pytest.mark.parametrize("name", TRAINED)
def test_tokens_outside_the_vocabulary(name):
    case = toys.load(name)
    tokens = case.task.draw(1).clean.clone()
    tokens[0, 0] = case.model.config.d_vocab
    with pytest.raises(ValueError, match="but the vocabulary from 0 to"):
        case.model(tokens)


@pytest.mark.parametrize("name", TRAINED)
def test_an_unknown_corruption_lists_the_known(name):
    with pytest.raises(ValueError, match="this task can corrupt prompts by"):
        toys.load(name).task.draw(1, corrupt="nothing")


def test_a_kind_that_is_neither_clock_nor_pizza():
    with pytest.raises(
        KeyError, match="no model is called 'calzone' here: take 'clock' or 'pizza'"
    ):
        clock_pizza.train("calzone")


def test_sizes_of_an_ensemble():
    with pytest.raises(ValueError, match="n_hidden is 0, but must be a whole number, at least 1"):
        superposition.Autoencoders(1, 5, 0)


@pytest.mark.parametrize("density", [-0.1, 1.2])
def test_a_density_that_is_no_probability(density):
    with pytest.raises(ValueError, match=r"densities run from .*, but must be from 0 to 1"):
        superposition.draw_features(torch.tensor([density, 0.5]), 10, 2, torch.Generator())


def test_a_grid_without_extent():
    with pytest.raises(
        ValueError, match="a grid of 1 x 1 settings was asked for, but it needs at least 2 x 2"
    ):
        superposition_phases.make_grid(1)
