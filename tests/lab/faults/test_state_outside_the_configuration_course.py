"""A model reaches a learner's function as it is, or the grader is told that it cannot."""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.course.values import send
from mini_transformer.course.wire import decode, encode

TOKENS = torch.tensor([[1, 2, 3]])
WAYS = {"in this process": send, "to the worker": lambda model: decode(encode(model), models=True)}


@pytest.mark.parametrize("carry", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_model_crosses_in_its_dtype(carry, dtype):
    model = Transformer(
        Config(d_vocab=7, n_ctx=5, d_model=6, n_layers=2, norm="layer", positions="sinusoidal")
    ).to(dtype)
    arrived = carry(model)
    assert arrived(TOKENS).dtype == dtype
    assert torch.equal(arrived(TOKENS), model(TOKENS))


@pytest.mark.parametrize("carry", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", ["facts", "pizza"])
def test_a_toy_with_a_pattern_of_its_own_crosses_as_it_is(carry, name):
    case = toys.load(name)
    tokens = case.task.draw(8).clean
    assert torch.equal(carry(case.model)(tokens), case.model(tokens))


@pytest.mark.parametrize("carry", WAYS.values(), ids=WAYS)
def test_a_model_that_was_changed_by_hand_is_not_sent_as_another(carry):
    model = Transformer(Config(d_vocab=7, n_ctx=5, d_model=6, n_layers=2))
    model.blocks[0].attn.scale = 9.0
    with pytest.raises(
        ValueError, match="computes something else than its configuration and weights say"
    ):
        carry(model)
