"""What the autoencoders say to sizes and densities that are none."""

import pytest
import torch

from mini_transformer.toys.trained import autoencoders as superposition


def test_sizes_of_an_ensemble():
    with pytest.raises(ValueError, match="n_hidden is 0, but must be a whole number, at least 1"):
        superposition.Autoencoders(1, 5, 0)


@pytest.mark.parametrize("density", [-0.1, 1.2])
def test_a_density_that_is_no_probability(density):
    with pytest.raises(ValueError, match=r"densities run from .*, but must be from 0 to 1"):
        superposition.draw_features(torch.tensor([density, 0.5]), 10, 2, torch.Generator())
