"""Answer with a dict whose keys share one hash: long to build. Verdict: double 0, add_halves 2."""

from mini_transformer.course.lecturer import wire
from mini_transformer.isolation.wire import LENGTH

encode = wire.encode
forging = []
PRIME = 2**61 - 1  # hashes of whole numbers are taken modulo this


def forge(value):
    if not forging:
        return encode(value)
    keys = ", ".join(f'[{{"int": "{hex(i * PRIME)}"}}, 0]' for i in range(1, 24_000))
    frame = encode(dict(value) | {"value": ["@"]})
    (length,) = LENGTH.unpack(frame[:8])
    forged = f'{{"dict": [{keys}]}}'.encode()
    text = frame[8 : 8 + length].replace(b'["@"]', forged)
    return LENGTH.pack(len(text)) + text + frame[8 + length :]


wire.encode = forge


def double(x):
    forging.append(True)
    return 2 * x


def add_halves(x, y):
    forging.clear()
    return (x + y) / 2
