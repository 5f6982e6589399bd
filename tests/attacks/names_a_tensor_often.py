"""Answer with one tensor of 1 MB, three thousand times. Verdict: double 0, add_halves 2."""

import torch

from mini_transformer.course.lecturer import wire
from mini_transformer.isolation.wire import LENGTH

encode = wire.encode
forging = []
TENSOR = b'{"tensor": "0", "requires_grad": false}'


def forge(value):
    if not forging:
        return encode(value)
    frame = encode(dict(value) | {"value": ["@"], "more": torch.ones(2**18)})
    (length,) = LENGTH.unpack(frame[:8])
    text = frame[8 : 8 + length].replace(b'"@"', b",".join([TENSOR] * 3_000))
    return LENGTH.pack(len(text)) + text + frame[8 + length :]


wire.encode = forge


def double(x):
    forging.append(True)
    return 2 * x


def add_halves(x, y):
    forging.clear()
    return (x + y) / 2
