"""Models cross to the worker by their weights, and back not at all; the rest is the wire's."""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.course.grading.values import NamedModel
from mini_transformer.course.lecturer.wire import WireError, decode, encode


def test_a_model_is_rebuilt_from_its_weights_and_the_frame_names_neither_toy_nor_seed():
    case = toys.load("induction_by_hand", seed=123456)
    frame = encode((case.model,))
    (model,) = decode(frame, models=True)
    tokens = case.task.draw(4, seed=0).clean
    assert model.config == case.model.config
    assert torch.equal(model(tokens), case.model(tokens))
    assert b"induction" not in frame
    assert b"123456" not in frame
    assert b"seed" not in frame


def test_a_random_model_crosses_without_its_seed():
    named = NamedModel("random", seed=3, d_vocab=7, n_ctx=4, d_model=6, n_layers=1, norm="layer")
    frame = encode([named])
    (model,) = decode(frame, models=True)
    assert all(map(torch.equal, model.state_dict().values(), named.build().state_dict().values()))
    assert b"seed" not in frame


def test_models_of_strangers_are_not_built():
    model = Transformer(Config(d_vocab=3, n_ctx=2, d_model=2, n_layers=1))
    with pytest.raises(WireError, match="unknown kind"):
        decode(encode(model))


def test_a_model_crosses_with_the_mask_that_its_toy_has_narrowed():
    case = toys.load("facts")
    tokens = case.task.draw(4).clean
    with torch.no_grad():
        assert torch.equal(decode(encode(case.model), models=True)(tokens), case.model(tokens))
