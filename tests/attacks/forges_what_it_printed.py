"""Claim to have printed 80,000 tensors and 200,000 lines. Verdict: double 0, add_halves 2."""

import torch

from mini_transformer.course.lecturer import wire
from mini_transformer.isolation.wire import LENGTH

encode = wire.encode
forging = []
TENSOR = b'{"tensor": "0", "requires_grad": false}'


def forge(value):
    if not forging:
        return encode(value)
    lines = ["@", *["x"] * 200_000]
    frame = encode(dict(value) | {"output": lines, "more": torch.zeros(0, *[1] * 330)})
    (length,) = LENGTH.unpack(frame[:8])
    text = frame[8 : 8 + length].replace(b'"@"', b",".join([TENSOR] * 80_000))
    return LENGTH.pack(len(text)) + text + frame[8 + length :]


wire.encode = forge


def double(x):
    forging.append(True)
    return 0 * x


def add_halves(x, y):
    forging.clear()
    return (x + y) / 2
