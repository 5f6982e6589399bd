"""One seed is one draw, one unit is as good as another, and half precision is widened before it
is summed.
"""

import pytest
import torch

from mini_transformer.methods import numerics

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("draw", [numerics.draw_normal, numerics.draw_uniform])
def test_a_draw_is_the_same_in_every_dtype_and_default_dtype(draw):
    def look(dtype, default=torch.float32):
        torch.set_default_dtype(default)
        try:
            generator = torch.Generator().manual_seed(3)
            return draw(2, 3, generator=generator, like=torch.zeros(1, dtype=dtype))
        finally:
            torch.set_default_dtype(torch.float32)

    expected = look(torch.float32)
    for dtype in FLOATS:
        drawn = look(dtype, torch.float64)
        assert drawn.dtype == dtype
        assert torch.equal(drawn, expected.to(dtype))


def test_what_meets_is_computed_in_the_widest_dtype_float32_at_least():
    for dtype in FLOATS:
        x, y = numerics.meet(torch.ones(1, dtype=dtype), torch.ones(1, dtype=torch.float16))
        assert x.dtype == y.dtype == max(dtype, torch.float32, key=lambda d: torch.finfo(d).bits)
        assert numerics.widen(torch.ones(1, dtype=dtype)).dtype == x.dtype
    with torch.inference_mode():
        made = torch.ones(1)
    assert not numerics.meet(made)[0].is_inference()


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_scale_is_a_power_of_two_that_makes_the_largest_about_one(size):
    x = size * torch.tensor([[1.0, -3.0], [0.5, 0.25]])
    scaled = x / numerics.find_scale(x, dim=(1,))
    assert ((scaled.abs().amax(dim=1) >= 0.5) & (scaled.abs().amax(dim=1) <= 1)).all()
    assert torch.equal(scaled * numerics.find_scale(x, dim=(1,)), x)
    assert torch.equal(scaled[:, 0] / scaled[:, 1], x[:, 0] / x[:, 1])


def test_axes_beside_a_loud_column_are_found_and_rounding_is_none():
    generator = torch.Generator().manual_seed(0)
    quiet = torch.randn(50, 2, generator=generator)
    loud = 1e6 + torch.zeros(50, 1)
    rows = torch.cat([quiet, loud, quiet[:, :1] + quiet[:, 1:]], dim=1)
    centred = (rows - rows.mean(dim=0)).double()
    _, axes = numerics.find_axes(centred, numerics.measure_rounding(rows))
    assert axes.shape == (4, 2)
    assert axes[2].abs().max() < 1e-4


def test_rounding_is_that_of_the_columns_own_size():
    rows = torch.tensor([[3e-200, 0.0], [4e-200, 0.0]], dtype=torch.float64)
    small, none = numerics.measure_rounding(rows).tolist()
    assert small == pytest.approx(12.5**0.5 * 1e-200 * torch.finfo(torch.float64).eps, abs=0)
    assert none == 1
    assert numerics.find_epsilon(rows, rows.half()) == torch.finfo(torch.float16).eps


def test_autocast_does_not_reach_inside():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with numerics.without_autocast():
            assert (x @ x).dtype == torch.float32


def test_gradients_are_found_under_no_grad_and_refused_in_inference_mode():
    with torch.no_grad():
        numerics.check_gradients(torch.nn.Linear(1, 1))
    with torch.inference_mode():
        made = torch.nn.Linear(1, 1)
        with pytest.raises(ValueError, match=r"which torch\.inference_mode rules out"):
            numerics.check_gradients()
    with pytest.raises(ValueError, match="the model was made under"):
        numerics.check_gradients(made)
