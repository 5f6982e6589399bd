"""Checked against each program's meaning, written again, and against RASP's own interpreter."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mini_transformer.toys.tracr.programs import PROGRAMS, list_strings

STORED = dict(np.load(Path(__file__).parent / "reference" / "tracr_streams.npz"))


def is_balanced(symbols, opening, closing):
    depth = 0
    for symbol in symbols:
        depth += (symbol == opening) - (symbol == closing)
        if depth < 0:
            return False
    return depth == 0


def weigh(symbols):
    seen = Counter()
    for n, symbol in enumerate(symbols, start=1):
        seen[symbol] += 1
        yield (seen["("] - seen[")"]) / n


def share(symbols):
    seen = Counter()
    for n, symbol in enumerate(symbols, start=1):
        seen[symbol] += 1
        yield seen["x"] / n


MEANINGS = {
    "reverse": lambda symbols: [symbols[-1 - i] for i in range(len(symbols))],
    "length": lambda symbols: [sum(1 for _ in symbols)] * len(symbols),
    "hist": lambda symbols: [Counter(symbols)[symbol] for symbol in symbols],
    "sort": sorted,
    "sort_unique": sorted,
    "frac_prevs": lambda symbols: [*share(symbols)],
    "pair_balance": lambda symbols: [*weigh(symbols)],
    "shuffle_dyck2": lambda symbols: (
        [is_balanced(symbols, *"()") and is_balanced(symbols, *"{}")] * len(symbols)
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_what_it_means_on_every_string(name):
    program = PROGRAMS[name]
    strings = list_strings(program)
    assert len(strings) == {"sort_unique": 40, "shuffle_dyck2": 340}.get(name, 120)
    for string in strings:
        assert program.run(string)[program.output] == pytest.approx(MEANINGS[name](string))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_what_rasps_interpreter_says(name):
    program = PROGRAMS[name]
    numbers = {"True": 1.0, "False": 0.0}
    for string, said in zip(list_strings(program), STORED[f"{name} said"].tolist(), strict=True):
        own = program.run(string)[program.output]
        if name in ("frac_prevs", "pair_balance"):
            expected = [numbers.get(x) or float(x not in numbers and x) for x in said if x]
            assert [float(x) for x in own] == pytest.approx(expected)
        else:
            assert [str(x) for x in own] == [x for x in said if x]
