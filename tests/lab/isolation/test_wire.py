"""Values come back from the wire as they were sent, and no frame from outside is more than a
value or a WireError.
"""

import contextlib
import json
import math
import pickle
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mini_transformer.isolation import wire
from mini_transformer.isolation.wire import Kind, WireError, decode, encode

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
]
DTYPES += [torch.float32, torch.float64, torch.complex64, torch.complex128]


def is_same(a: object, b: object) -> bool:
    """Same kinds, same shapes, same dtypes, same numbers; nan is the same as nan, and -0.0 is
    not 0.0.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        same = (a.dtype, a.shape, a.requires_grad) == (b.dtype, b.shape, b.requires_grad)
        return same and torch.equal(
            *(x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (a, b))
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return is_same(list(a.items()), list(b.items()))
    if isinstance(a, complex):
        return is_same((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    return a == b


def draw_tensor(
    shape: list[int], dtype: torch.dtype, seed: int, requires_grad: bool, transpose: bool
) -> Tensor:
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    values = values.transpose(0, -1) if transpose and shape else values
    return values.requires_grad_(requires_grad and (dtype.is_floating_point or dtype.is_complex))


tensors = st.builds(
    draw_tensor,
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(DTYPES),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text()
keys = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
values = st.recursive(
    plain | tensors,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=12,
)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@unhurried
@given(values)
def test_every_value_comes_back_as_it_was_sent(value):
    assert is_same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("-inf"),
        -0.0,
        2**53,
        -(10**5000),
        "\ud800",
        (),
        {},
        [],
        {1: 2, "1": 3, None: 4},
        {(): ()},
    ],
    ids=range(11),
)
def test_what_json_has_no_word_for_comes_back(value):
    assert is_same(decode(encode(value)), value)


def test_a_part_of_a_tensor_is_sent_without_the_rest():
    assert len(encode(torch.zeros(1000, 1000)[3, :5])) < 500


def test_one_tensor_sent_twice_becomes_two():
    x = torch.ones(3)
    first, second = decode(encode([x, x]))
    first.zero_()
    assert torch.equal(second, x)


def test_the_tensors_of_a_frame_are_in_safetensors_format_after_the_text():
    frame = encode({"a": torch.tensor([1.5, 2.5])})
    (length,) = struct.unpack(">Q", frame[:8])
    assert json.loads(frame[8 : 8 + length]) == {
        "dict": [["a", {"tensor": "0", "requires_grad": False}]]
    }
    assert safetensors.torch.load(frame[8 + length :])["0"].tolist() == [1.5, 2.5]


def make_frame(text: object, tensors: dict[str, Tensor] | None = None) -> bytes:
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack(">Q", len(raw)) + raw + safetensors.torch.save(tensors or {})


HOSTILE = {
    "nothing": b"",
    "half a length": b"\0\0\0",
    "a length that is not there": struct.pack(">Q", 2**63) + b"1",
    "no JSON": make_frame(b"{"),
    "no UTF-8": make_frame(b'"\xff"'),
    "nested beyond all stacks": make_frame(b"[" * 200_000 + b"]" * 200_000),
    "nested too deep": make_frame(b"[" * 60 + b"]" * 60),
    "endless decimals": make_frame(b"1" * 100_000),
    "a pickle": pickle.dumps([1]),
    "a pickle as text": make_frame(pickle.dumps([1])),
    "an unknown tag": make_frame({"object": "os.system"}),
    "a tensor that is not there": make_frame({"tensor": "7", "requires_grad": False}),
    "a tensor without a name": make_frame({"tensor": [], "requires_grad": False}),
    "a gradient of integers": make_frame(
        {"tensor": "0", "requires_grad": True}, {"0": torch.ones(1).int()}
    ),
    "no pairs": make_frame({"tensor": "0c", "requires_grad": False}, {"0c": torch.ones(3)}),
    "a list as a key": make_frame({"dict": [[[1], 2]]}),
    "three of a pair": make_frame({"dict": [[1, 2, 3]]}),
    "no digits": make_frame({"int": "0xzz"}),
    "half a complex number": make_frame({"complex": [1]}),
    "tensors cut off": encode(torch.ones(100))[:-8],
    "tensors that are none": make_frame(1) + b"x",
    "a random model": make_frame({"random": {}, "seed": 1}),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE)
def test_a_frame_that_holds_no_value_is_one_sentence(frame):
    with pytest.raises(WireError) as caught:
        decode(frame)
    assert 0 < len(str(caught.value)) < 200


@unhurried
@given(values, st.data())
def test_a_damaged_frame_is_a_value_or_a_wire_error(value, data):
    frame = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode(bytes(frame))


@unhurried
@given(st.binary(max_size=200))
def test_noise_is_a_value_or_a_wire_error(noise):
    for frame in (noise, make_frame(noise)):
        with contextlib.suppress(WireError):
            decode(frame)


def nest(depth: int) -> list:
    return [nest(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), "an object cannot be sent"),
        (nest(60), "nested more than 40 deep"),
        (torch.eye(3).to_sparse(), "layout torch.sparse_coo"),
        (torch.ones(2, device="meta"), "on meta"),
        (torch.zeros(2, dtype=torch.uint8).view(torch.bits8), "ordinary dtype"),
    ],
    ids=["object", "deep", "sparse", "meta", "bits"],
)
def test_what_is_no_value_is_not_sent(value, sentence):
    with pytest.raises(WireError, match=sentence):
        encode(value)


def test_a_text_that_is_too_long_is_neither_sent_nor_read(monkeypatch):
    frame = encode("x" * 2000)
    monkeypatch.setattr(wire, "LONGEST_TEXT", 1000)
    with pytest.raises(WireError, match="2002 bytes without its tensors, at most 1000"):
        encode("x" * 2000)
    with pytest.raises(WireError, match="text has 2002 bytes, at most 1000"):
        decode(frame)


def test_a_further_kind_crosses_by_its_parts_where_both_sides_know_it():
    kind = Kind("range", lambda value: isinstance(value, range), list, lambda parts: tuple(parts))
    frame = encode({"a": [range(3)]}, [kind])
    assert decode(frame, [kind]) == {"a": [(0, 1, 2)]}
    with pytest.raises(WireError, match="unknown kind"):
        decode(frame)


def test_a_tensor_is_taken_once_and_keys_are_not_endless():
    twice = make_frame([{"tensor": "0", "requires_grad": False}] * 2, {"0": torch.ones(1)})
    with pytest.raises(WireError, match="KeyError"):
        decode(twice)
    with pytest.raises(WireError, match="10001 keys, at most 10000"):
        decode(encode(dict.fromkeys(range(10_001))))
