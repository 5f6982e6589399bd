"""What students return: the same value whichever dtype, mode or memory it came from, in this process and in another."""

import numpy as np
import pytest
import torch

from mini_transformer.course.student import InProcessStudent, StudentError
from mini_transformer.course.values import receive, send
from mini_transformer.course.wire import decode, encode

X = torch.arange(9.0).view(3, 3)


def make_inference() -> torch.Tensor:
    with torch.inference_mode():
        return (X * 2).T


def make_read_only() -> torch.Tensor:
    array = np.ones(3)
    array.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        return torch.from_numpy(array)


VALUES = {
    "inference": make_inference,
    "bfloat16": X.bfloat16,
    "float16": X.half,
    "float8": lambda: X.to(torch.float8_e4m3fn),
    "uint16": lambda: X.to(torch.uint16),
    "bool": lambda: X > 3,
    "minus zero": lambda: X * -0.0,
    "not a number": lambda: X / 0 - X / 0,
    "a view": lambda: X.T[:, 1:],
    "expanded": lambda: X[:1].expand(3, 3),
    "a conjugate": lambda: torch.complex(X, X).conj(),
    "the negative of a view": lambda: torch.complex(X, X).conj().imag,
    "empty": lambda: torch.zeros(0, 3),
    "read-only": make_read_only,
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_a_tensor_is_the_same_after_the_way_through_a_frame(make):
    value = make()
    got = receive(value)
    sent = decode(encode({"value": got}))["value"]
    for copy in (got, sent):
        assert (copy.dtype, copy.shape, copy.is_inference(), copy.requires_grad) == (
            value.dtype,
            value.shape,
            False,
            False,
        )
        assert torch.equal(
            copy.double().nan_to_num(7) if not copy.is_complex() else copy,
            value.double().nan_to_num(7) if not value.is_complex() else value.clone(),
        )
    before = sent.clone()
    if value.dtype not in (torch.uint16, torch.float8_e4m3fn):
        got.zero_()
        assert torch.equal(sent.isnan(), before.isnan())


def test_numbers_keep_their_kind_and_their_sign():
    values = [-0.0, True, 1, 1.0, np.bool_(True), np.float32(1.5), 10**400]
    got = decode(encode(receive(values)))
    assert [type(value) for value in got] == [float, bool, int, float, bool, float, int]
    assert np.copysign(1, got[0]) == -1
    assert got[-1] == 10**400


def test_an_input_is_laid_out_in_this_process_as_in_another():
    turned = X.T.requires_grad_()
    here, there = send(turned), decode(encode(turned))
    assert here.is_contiguous() == there.is_contiguous() is True
    assert here.requires_grad == there.requires_grad is True
    assert torch.equal(here, there)


def test_a_quantized_tensor_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "ex01.py").write_text(
        "import torch\ndef f(x):\n    return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)\n"
    )
    with pytest.raises(
        StudentError, match=r"^f returned a quantized tensor: return its dequantize\(\)$"
    ):
        InProcessStudent(tmp_path / "ex01.py").call("f", X)
