"""Exit by what `except Exception` lets pass. Verdict: double 0, add_halves 2."""

import sys


def double(x):
    sys.exit(0)


def add_halves(x, y):
    return (x + y) / 2
