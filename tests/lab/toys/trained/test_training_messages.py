"""What training a toy and loading a trained one say to what they do not know: one sentence, with
the fix.
"""

import pytest

from mini_transformer.toys.trained.training import train_toy


def test_training_an_unknown_toy_names_the_nearest():
    with pytest.raises(
        KeyError, match="no trained toy is called 'max_of_lists'; nearest: 'max_of_list'"
    ):
        train_toy("max_of_lists")


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_training_takes_a_whole_seed(seed):
    with pytest.raises(ValueError, match="must be a whole number from 0"):
        train_toy("max_of_list", seed)


def test_a_shipped_model_is_not_overwritten_unasked():
    with pytest.raises(
        ValueError, match=r"facts with seed 0 is there already, facts-0.safetensors"
    ):
        train_toy("facts", 0)
