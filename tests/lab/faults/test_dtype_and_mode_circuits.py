"""Test that one rule holds for every dtype and mode.

There are half precision, autocast, torch.inference_mode, draws, and arguments of another dtype.
"""

import dataclasses

import pytest
import torch
from torch import Tensor

from mini_transformer import Config, Transformer, methods
from mini_transformer.methods.arguments import check_metric

CONFIG = Config(
    d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5, norm="layer", biases=True
)
CLEAN = torch.tensor([[1, 2, 3, 4], [4, 0, 6, 5], [2, 2, 1, 0]])
CORRUPT = CLEAN.flip(1)


def first(logits: Tensor) -> Tensor:
    return logits[:, -1, 0]


WEIGHTS = {
    "read_qk": lambda m: methods.read_qk(m, "a1.h1", key="a0.h0"),
    "read_ov": lambda m: methods.read_ov(m, "a1.h1", attended="bias"),
    "score_copying": methods.score_copying,
    "score_composition": lambda m: methods.score_composition(m, "q"),
    "split_circuit": lambda m: methods.split_circuit(m, "a0.h0").strengths,
    "read_neurons": lambda m: methods.read_neurons(m, 0).raises,
}


@pytest.mark.parametrize("read", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_read_off_weights_of_half_precision_is_computed_in_float32(read, dtype, norm):
    half = Transformer(dataclasses.replace(CONFIG, norm=norm)).to(dtype)
    found = read(half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, read(half.float()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("read", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_what_is_read_off_weights_does_not_depend_on_autocast(read):
    model = Transformer(CONFIG)
    with torch.autocast("cpu", torch.bfloat16):
        found = read(model)
    assert torch.equal(found, read(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_direction_is_taken_out_of_a_model_in_half_precision(dtype):
    model = Transformer(CONFIG).to(dtype)
    direction = torch.ones(1, 8) / 8**0.5
    edited = methods.orthogonalize_weights(model, 1e6 * direction)  # too long for float16
    assert edited.W_E.dtype == dtype
    assert (edited.W_E.float() @ direction.T).abs().max() < 0.02
    logits = methods.ablate_directions(model, CLEAN, 1e6 * direction, ablation="zero")
    assert logits.dtype == dtype
    exact = methods.ablate_directions(Transformer(CONFIG), CLEAN, direction, ablation="zero")
    torch.testing.assert_close(logits.float(), exact, atol=0.15, rtol=0.1)


def test_many_small_steps_in_half_precision_add_up():
    model = Transformer(CONFIG).bfloat16()
    scores = methods.integrate_gradients(
        model, CLEAN, first, torch.tensor(0), steps=1000, tolerance=0.2
    )
    exact = methods.integrate_gradients(Transformer(CONFIG), CLEAN, first, torch.tensor(0))
    assert (scores - exact).norm() < 0.1 * exact.norm()


def test_a_mean_metric_of_half_precision_keeps_small_differences():
    logits = torch.zeros(301, 1, 1, dtype=torch.bfloat16)
    logits[0] = -1
    assert check_metric(lambda x: 1 + x[:, 0, 0], logits).item() == pytest.approx(300 / 301)


@pytest.mark.parametrize(
    ("model_dtype", "key_dtype"), [("float32", "float64"), ("float64", "float32")]
)
def test_an_edit_takes_keys_of_another_dtype(model_dtype, key_dtype):
    model = Transformer(CONFIG).to(getattr(torch, model_dtype))
    key = torch.tensor([1.0, -2, 0, 3, 1])
    expected = methods.edit_rank_one(
        model, 0, key.to(model.W_E), torch.ones(8).to(model.W_E), torch.eye(5).to(model.W_E)
    )
    given = (x.to(getattr(torch, key_dtype)) for x in (key, torch.ones(8), torch.eye(5)))
    assert torch.equal(methods.edit_rank_one(model, 0, *given).W_out, expected.W_out)


def test_a_mask_of_a_half_precision_model_is_trained_in_float32():
    model = Transformer(CONFIG).bfloat16()
    found = methods.train_edge_mask(model, CLEAN, CORRUPT, first, steps=5).values
    assert found.dtype == torch.float32
    assert found.unique().numel() > 10


def test_an_edit_of_a_half_precision_model_takes_keys_and_values_of_float32():
    model = Transformer(CONFIG).bfloat16()
    key = torch.tensor([1.0, -2, 0, 3, 1])
    edited = methods.edit_rank_one(model, 0, key, torch.ones(8), torch.eye(5))
    mlp = edited.blocks[0].mlp
    assert mlp.W_out.dtype == torch.bfloat16
    assert (key @ mlp.W_out.float() + mlp.b_out.float() - 1).abs().max() < 0.1
    value = methods.fit_value(model, CLEAN, torch.tensor([3, 3, 3]), 1, -1)
    assert value.dtype == torch.float32


DRAWS = {
    "run_with_noise": lambda m: methods.run_with_noise(m, CLEAN, CLEAN > 2, draws=2),
    "train_edge_mask": lambda m: methods.train_edge_mask(m, CLEAN, CORRUPT, first, steps=3).values,
    "sample_shapley": lambda m: (
        methods.sample_shapley(m, CLEAN, first, torch.tensor(0), draws=3).values
    ),
    "score_random_composition": lambda m: torch.tensor(methods.score_random_composition(m)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_one_seed_is_one_draw_in_every_dtype(draw):
    expected = draw(Transformer(CONFIG))
    torch.testing.assert_close(
        draw(Transformer(CONFIG).double()).float(), expected, atol=1e-4, rtol=1e-4
    )
    model = Transformer(CONFIG)
    torch.set_default_dtype(torch.float64)
    try:
        torch.testing.assert_close(draw(model).float(), expected, atol=1e-4, rtol=1e-4)
    finally:
        torch.set_default_dtype(torch.float32)


def test_random_knockouts_do_not_depend_on_the_default_dtype():
    expected = methods.list_knockouts(list("abcdef"), most=20)
    torch.set_default_dtype(torch.float64)
    try:
        assert methods.list_knockouts(list("abcdef"), most=20) == expected
    finally:
        torch.set_default_dtype(torch.float32)


GRADIENTS = {
    "attribution_patch": lambda m, a, b: methods.attribution_patch(
        m, a, b, first, direction="denoise"
    ),
    "eap": lambda m, a, b: methods.eap(m, a, b, first).values,
    "train_edge_mask": lambda m, a, b: methods.train_edge_mask(m, a, b, first, steps=2).values,
    "measure_saliency": lambda m, a, b: methods.measure_saliency(m, a, first),
    "integrate_gradients": lambda m, a, b: methods.integrate_gradients(m, a, first, b),
    "measure_gradient_symmetry": lambda m, a, b: torch.tensor(
        methods.measure_gradient_symmetry(m, a, b[:, 0])
    ),
    "fit_value": lambda m, a, b: methods.fit_value(m, a, b[:, 0], 0, -1, steps=2),
}


@pytest.mark.parametrize("find", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_a_gradient_method_names_inference_mode_and_takes_what_was_made_there(find):
    model = Transformer(CONFIG)
    expected = find(model, CLEAN, CORRUPT)
    with torch.inference_mode():
        made_there = CLEAN.clone(), CORRUPT.clone()
        model_made_there = Transformer(CONFIG)
        with pytest.raises(ValueError, match=r"torch\.inference_mode rules out"):
            find(model, CLEAN, CORRUPT)
    with pytest.raises(ValueError, match=r"the model was made under torch\.inference_mode"):
        find(model_made_there, CLEAN, CORRUPT)
    assert torch.equal(find(model, *made_there), expected)
    with torch.no_grad():
        assert torch.equal(find(model.requires_grad_(False), CLEAN, CORRUPT), expected)


def test_targets_may_be_integers_of_any_size():
    model = Transformer(CONFIG)
    targets = torch.tensor([1, 0, 1])
    expected = methods.measure_gradient_symmetry(model, CLEAN, targets)
    for dtype in (torch.int8, torch.int16, torch.int32):
        assert methods.measure_gradient_symmetry(model, CLEAN.int(), targets.to(dtype)) == expected


def test_fourier_waves_are_exact_for_float64_and_wide_for_half_precision():
    numbers = torch.arange(113)
    wave = torch.cos(2 * torch.pi * 50 * numbers.double() / 113)[:, None]
    rest = methods.keep_frequencies(wave, [50]) - wave
    assert rest.abs().max() < 1e-12
    shares = methods.measure_frequency_shares(wave.half())
    assert shares.dtype == torch.float32
    assert shares[49] > 0.999
