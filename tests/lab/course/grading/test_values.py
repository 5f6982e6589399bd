"""Test that students' values compare alike, whatever dtype, mode or memory they are from.

This holds in this process and in another.
"""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from mini_transformer import Config, Transformer, toys
from mini_transformer.course.grading.comparing import find_difference
from mini_transformer.course.grading.student import (
    InProcessStudent,
    StudentError,
)
from mini_transformer.course.grading.values import receive, send
from mini_transformer.course.lecturer.wire import decode, encode

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


def test_numpy_numbers_become_python_numbers():
    assert [type(receive(value)) for value in (np.float64(1), np.int64(1), np.bool_(True))] == [
        float,
        int,
        bool,
    ]


def test_a_parameter_is_received_as_a_tensor():
    assert type(receive([nn.Parameter(torch.ones(1))])[0]) is torch.Tensor


@pytest.mark.parametrize(
    ("given", "received"),
    [
        (np.array([1.5, 2.0]), torch.tensor([1.5, 2.0], dtype=torch.float64)),
        (np.array(["a", "b"]), ["a", "b"]),
        ({torch.tensor(1), 2}, frozenset({1, 2})),
        ({frozenset("ab"), "c"}, frozenset({frozenset("ab"), "c"})),
        ({torch.tensor(3): "x"}.items(), [(3, "x")]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (OrderedDict(a=np.int64(3)), {"a": 3}),
        ((np.float32(0.5), [torch.tensor(1)]), (0.5, [torch.tensor(1)])),
    ],
)
def test_usual_containers_become_values_and_cross_the_wire(given, received):
    got = receive(given)
    assert find_difference(got, received) is None or got == received
    there = receive(decode(encode(got)))
    assert find_difference(there, received) is None or there == received
