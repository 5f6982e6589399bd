"""Test every public function on a model that is not on the CPU.

The numbers are the same, and on the device of what was given. The other device is one in software
(`other_device.py`), which refuses what CUDA refuses.
"""

import pytest
import torch
from every_call import CALLS, Setting, make_arguments, name_function, use
from odd_models import list_leaves, measure_gap, set_up, vary
from other_device import DEVICE, OtherDevice

from mini_transformer import methods

WHOLE = vary(norm="layer", biases=True, positions_to="qk", act="gelu")
# What a function makes of nothing that lies on a device, lies on the CPU.
ON_THE_CPU = {"write_fourier_basis"}


def call_on(config, call: str, device: torch.device) -> list[tuple[str, object]]:
    plain = set_up(config)
    s = Setting(plain.model.to(device), plain.clean.to(device), plain.corrupt.to(device))
    args, kwargs = make_arguments(call, s)
    found = getattr(methods, name_function(call))(*args, **kwargs)
    return list(list_leaves((found, use(found, s))))


@pytest.mark.parametrize(
    "mix", ["sum", "mask", "index", "cat", "in place", "generator", "numpy", "prompts"]
)
def test_the_other_device_refuses_what_cuda_refuses(mix):
    with OtherDevice():
        x = torch.ones(2, 3).to(DEVICE)
        mine = torch.ones(2, 3)
        mixes = {
            "sum": lambda: x + mine,
            "mask": lambda: x.masked_fill(mine > 0, 0.0),
            "index": lambda: mine[torch.tensor([0]).to(DEVICE)],
            "cat": lambda: torch.cat([x, mine]),
            "in place": lambda: mine.add_(x.sum()),
            "generator": lambda: torch.randn(3, generator=torch.Generator(), device=DEVICE),
            "numpy": lambda: x.numpy(),
            "prompts": lambda: set_up(vary()).model.to(DEVICE)(
                torch.zeros(1, 2, dtype=torch.int64)
            ),
        }
        with pytest.raises((RuntimeError, TypeError), match="device"):
            mixes[mix]()


def test_the_other_device_computes_and_allows_what_cuda_allows():
    with OtherDevice():
        x = torch.arange(6.0).view(2, 3).to(DEVICE)
        assert (x * 2 + torch.tensor(1.0))[1].tolist() == [7.0, 9.0, 11.0]
        assert x[torch.tensor([1])].device == DEVICE
        assert torch.tensor([1, 2], device=x.device).tolist() == [1, 2]
        assert x[:, [2, 0]].tolist() == [[2.0, 0.0], [5.0, 3.0]]
        x[0] += torch.zeros_like(x[0]).copy_(torch.ones(3))
        assert x.cpu()[0].tolist() == [1.0, 2.0, 3.0]
        leaf = x.clone().requires_grad_()
        (leaf[:, 1] ** 2).sum().backward()
        assert leaf.grad.sum().item() == 2 * (2.0 + 4.0)


@pytest.mark.parametrize("call", CALLS)
def test_a_function_computes_on_another_device_what_it_computes_on_the_cpu(call):
    try:
        expected = call_on(WHOLE, call, torch.device("cpu"))
    except ValueError:
        pytest.skip("refused, on any device")
    with OtherDevice():
        found = call_on(WHOLE, call, DEVICE)
        places = {path: leaf.device for path, leaf in found if isinstance(leaf, torch.Tensor)}
        values = [
            (path, leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf) for path, leaf in found
        ]
    assert [path for path, _ in values] == [path for path, _ in expected]
    for (path, value), (_, right) in zip(values, expected, strict=True):
        gap, size = measure_gap(value, right)
        assert gap <= 1e-5 * max(size, 1.0), path
    away = [path for path, place in places.items() if place != DEVICE]
    assert not away or name_function(call) in ON_THE_CPU, f"on the CPU: {away}"
