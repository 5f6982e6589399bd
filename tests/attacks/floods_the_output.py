"""Print, write and return more than anybody reads. Verdict: double 0, add_halves 2."""

import os
import sys


def double(x):
    for _ in range(2000):
        print("flood" * 1000)
        sys.stderr.write("flood" * 1000)
    for fd in (1, 2):
        for _ in range(2000):
            os.write(fd, b"flood" * 1000)
    return "flood" * 2**25


def add_halves(x, y):
    return (x + y) / 2
