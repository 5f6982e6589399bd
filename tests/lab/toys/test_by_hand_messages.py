"""What the building blocks say to a direction or a layer that is not there."""

import pytest
import torch

from mini_transformer import Config
from mini_transformer.toys import by_hand


def test_directions_and_neurons_that_are_not_there():
    with pytest.raises(
        KeyError, match=r"no directions are called 'tokens'; this stream has \['token'\]"
    ):
        by_hand.Stream(token=3)["tokens"]
    blank = by_hand.make_blank(Config(d_vocab=3, n_ctx=2, d_model=3, n_layers=1))
    with pytest.raises(ValueError, match="layer 0 has no MLP, or no biases, to look something up"):
        by_hand.look_up(blank, 0, 0, reads=torch.zeros(3), bias=0.0, writes=torch.zeros(3))
