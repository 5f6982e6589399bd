"""What the disguise says to a model that it cannot hide."""

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.toys.hand_set.disguise import rotate_model


@pytest.mark.parametrize(
    "change",
    [{"norm": "rms"}, {"biases": True}, {"d_mlp": 4}, {"positions_to": "qk"}, {"tied": True}],
)
def test_models_that_cannot_be_rotated(change):
    model = Transformer(Config(d_vocab=3, n_ctx=2, d_model=4, n_layers=1, **change))
    with pytest.raises(ValueError, match="only attention-only models without norm, biases, tying"):
        rotate_model(model, torch.Generator())
