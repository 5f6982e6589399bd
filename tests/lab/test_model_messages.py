"""What the model answers to input that does not fit: one sentence with what was given and what
is expected.
"""

import re

import pytest
import torch

from mini_transformer import Config, Transformer

FINE = {"d_vocab": 10, "n_ctx": 8, "d_model": 16, "n_layers": 2, "n_heads": 4}


@pytest.fixture
def model() -> Transformer:
    return Transformer(Config(**FINE, d_mlp=8))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"d_vocab": 0}, "d_vocab is 0, but must be a whole number, at least 1"),
        ({"n_ctx": -1}, "n_ctx is -1, but must be a whole number, at least 1"),
        ({"d_model": 2.5}, "d_model is 2.5, but must be a whole number, at least 1"),
        ({"window": -1}, "window is -1, but must be a whole number, at least 0"),
        (
            {"window": 2, "causal": False},
            "window=2 needs causal attention: give causal=True, or window=0",
        ),
        ({"n_heads": 0}, "n_heads is 0, but must be a whole number, at least 1"),
        ({"n_layers": -1}, "n_layers is -1, but must be a whole number, at least 0"),
        ({"n_layers": "2"}, "n_layers is '2', but must be a whole number, at least 0"),
        ({"d_head": -4}, "d_head is -4, but must be a whole number, at least 0"),
        ({"d_mlp": None}, "d_mlp is None, but must be a whole number, at least 0"),
        ({"d_vocab_out": -2}, "d_vocab_out is -2, but must be a whole number, at least 0"),
        ({"attn_scale": -1.0}, "attn_scale is -1.0, but must be positive, or 0 for sqrt(d_head)"),
        (
            {"attn_scale": float("nan")},
            "attn_scale is nan, but must be positive, or 0 for sqrt(d_head)",
        ),
        ({"act": "tanh"}, "act is 'tanh', but must be one of ('relu', 'gelu')"),
        ({"norm": "batch"}, "norm is 'batch', but must be one of ('none', 'layer', 'rms')"),
        (
            {"positions": "rotary"},
            "positions is 'rotary', but must be one of ('learned', 'sinusoidal', 'none')",
        ),
        ({"positions_to": "v"}, "positions_to is 'v', but must be one of ('stream', 'qk')"),
        ({"n_heads": 5}, "d_model 16 is not divisible by 5 heads: give d_head"),
        (
            {"positions_to": "qk", "positions": "none"},
            "positions_to='qk' needs positions ('learned' or 'sinusoidal') and at least one layer",
        ),
        (
            {"positions_to": "qk", "n_layers": 0},
            "positions_to='qk' needs positions ('learned' or 'sinusoidal') and at least one layer",
        ),
        (
            {"tied": True, "d_vocab_out": 4},
            "a tied unembedding has d_vocab_out 10, not 4: drop one",
        ),
    ],
    ids=str,
)
def test_an_impossible_configuration(options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Config(**FINE | options)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (torch.tensor([[1, 10]]), "tokens run from 1 to 10, but the vocabulary from 0 to 9"),
        (torch.tensor([[-1, 3]]), "tokens run from -1 to 3, but the vocabulary from 0 to 9"),
        (
            torch.zeros(1, 9, dtype=torch.int64),
            "the sequence has 9 tokens, but the context holds 8",
        ),
        (
            torch.zeros(2, 3),
            "tokens are torch.float32 (2, 3), "
            "expected a tensor of integers with shape (batch, pos)",
        ),
        (
            torch.zeros(2, 3, dtype=torch.bool),
            "tokens are torch.bool (2, 3), expected a tensor of integers with shape (batch, pos)",
        ),
        (
            torch.tensor([1, 2]),
            "tokens are torch.int64 (2,), expected a tensor of integers with shape (batch, pos)",
        ),
        ([[1, 2]], "tokens are list, expected a tensor of integers with shape (batch, pos)"),
        (None, "give either tokens, or the stream `resid` that enters block start_at_layer"),
    ],
    ids=str,
)
def test_tokens_that_do_not_fit(model: Transformer, tokens, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        model(tokens)


def test_an_index_error_inside_a_hook_is_not_blamed_on_the_tokens(model: Transformer) -> None:
    with pytest.raises(IndexError, match="list index out of range"):
        model.run_with_hooks(torch.tensor([[1]]), fwd_hooks=[("embed", lambda x, hook: [][0])])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 15), (2, 9, 16)])
def test_a_residual_stream_that_does_not_fit(model: Transformer, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"resid is {shape}, expected (batch, at most 8, 16)")
    ):
        model(resid=torch.zeros(shape))


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (3, None), (0, 3), (0, -1), (2, 1)])
def test_layers_that_do_not_exist(model: Transformer, start: int, stop: int | None) -> None:
    with pytest.raises(
        ValueError,
        match=rf"^layers {start} to {stop or 2} were asked for, but the model has 0 to 2$",
    ):
        model(resid=torch.zeros(1, 3, 16), start_at_layer=start, stop_at_layer=stop)


def test_resuming_at_a_layer_needs_its_residual_stream_and_no_tokens(model: Transformer) -> None:
    tokens, resid = torch.tensor([[1, 2]]), torch.zeros(1, 2, 16)
    for bad in (
        {"tokens": tokens, "start_at_layer": 1},
        {"tokens": tokens, "resid": resid},
        {"start_at_layer": 1},
    ):
        with pytest.raises(ValueError, match="give either tokens, or the stream `resid`"):
            model(**bad)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_sum_of_writers_at_a_layer_that_does_not_exist(model: Transformer, layer: int) -> None:
    _, cache = model.run_with_cache(torch.tensor([[1, 2]]))
    with pytest.raises(
        ValueError,
        match=rf"layer {layer} was asked for, but the stream enters blocks 0 to 2 \(the end\)",
    ):
        model.decompose(cache, layer)


def test_weights_that_this_model_does_not_have(model: Transformer) -> None:
    with pytest.raises(AttributeError, match=r"b_Q does not exist in this model: Config\("):
        model.b_Q  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'W_X'"):
        model.W_X  # noqa: B018
