"""Eight programs in RASP, in plain Python: what they say, and all that they compute on the way.

The programs are those of Tracr's library (Lindner et al. 2023, 2301.05062); some of them, such as
`shuffle_dyck2`, stand in Weiss et al. 2021 (2106.06981). Variables have the names that Tracr gives
to directions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any

Values = dict[str, list[Any]]  # what each variable is at each position
LONGEST = 4


@dataclass(frozen=True)
class Program:
    """What a program computes, for strings of up to `longest` symbols.

    `output` is the variable that is read off.
    """

    description: str
    alphabet: tuple[Any, ...]
    run: Callable[[Sequence[Any]], Values]
    output: str
    longest: int = LONGEST
    repeats: bool = True  # whether a symbol may come twice


@cache
def list_strings(program: Program) -> list[tuple[Any, ...]]:
    """List all strings of a program, the shortest first."""
    lengths = range(1, program.longest + 1)
    strings = [string for n in lengths for string in product(program.alphabet, repeat=n)]
    return [each for each in strings if program.repeats or len(set(each)) == len(each)]


def count(name: str, widths: list[int]) -> Values:
    """Count by attention: how many positions are looked at, from what is left for the first."""
    shares = [Fraction(1, 1 + width) for width in widths]
    return {f"{name}_selector_width_attn_output": shares, name: widths}


def reverse(symbols: Sequence[str]) -> Values:
    n = len(symbols)
    return {
        **count("length", [n] * n),
        "opp_idx": [n - i for i in range(n)],
        "opp_idx-1": [n - i - 1 for i in range(n)],
        "reverse": [*reversed(symbols)],
    }


def length(symbols: Sequence[str]) -> Values:
    return count("length", [len(symbols)] * len(symbols))


def hist(symbols: Sequence[str]) -> Values:
    return count("hist", [symbols.count(symbol) for symbol in symbols])


def sort_unique(symbols: Sequence[int | float]) -> Values:
    smaller = [sum(other < own for other in symbols) for own in symbols]
    return {**count("target_pos", smaller), "sort": sorted(symbols)}


def sort(symbols: Sequence[int]) -> Values:
    keys = [symbol + i / LONGEST for i, symbol in enumerate(symbols)]  # all different
    return {"sequence_map": keys, **sort_unique(keys), "sort": sorted(symbols)}


def share_before(symbols: Sequence[str], wanted: str) -> list[Fraction]:
    """Return the share of a symbol among the first ones, up to each position."""
    return [Fraction(symbols[: i + 1].count(wanted), i + 1) for i in range(len(symbols))]


def frac_prevs(symbols: Sequence[str]) -> Values:
    return {
        "map": [int(symbol == "x") for symbol in symbols],
        "frac_prevs": share_before(symbols, "x"),
    }


def pair_balance(symbols: Sequence[str], opening: str = "(", closing: str = ")") -> Values:
    opens = share_before(symbols, opening)
    closes = share_before(symbols, closing)
    return {
        "bools_open": [int(symbol == opening) for symbol in symbols],
        "bools_close": [int(symbol == closing) for symbol in symbols],
        "opens": opens,
        "closes": closes,
        "pair_balance": [o - c for o, c in zip(opens, closes, strict=True)],
    }


def shuffle_dyck2(symbols: Sequence[str]) -> Values:
    n = len(symbols)
    values = count("length", [n] * n) | {"map 1": [n - 1] * n}
    balances = []
    for i, pair in enumerate(("()", "{}")):
        own = pair_balance(symbols, *pair)
        balances.append(own.pop("pair_balance"))
        values |= {f"{name} {i + 1}": each for name, each in own.items()}
        values |= {
            f"balance_{pair}": balances[i],
            f"map {i + 2}": [balance == 0 for balance in balances[i]],
            f"map {i + 4}": [balance < 0 for balance in balances[i]],
        }
    zero = [not any(pair) for pair in zip(*balances, strict=True)]
    negative = [min(pair) < 0 for pair in zip(*balances, strict=True)]
    # Padding is looked at here, too, and has the balance of the last symbol.
    share = Fraction(sum(negative) + negative[-1] * (LONGEST - n), LONGEST)
    return values | {
        "sequence_map 1": zero,
        "sequence_map 2": negative,
        "any_negative": [int(is_negative) for is_negative in negative],
        "last_zero": [zero[-1]] * n,
        "has_neg": [share] * n,
        "not_has_neg": [not share] * n,
        "shuffle_dyck2": [zero[-1] and not share] * n,
    }


PROGRAMS = {
    "reverse": Program("reverse a string", ("a", "b", "c"), reverse, "reverse"),
    "length": Program("say a string's length at each symbol", ("a", "b", "c"), length, "length"),
    "hist": Program("say at each symbol how many are the same", ("a", "b", "c"), hist, "hist"),
    "sort": Program("sort numbers", (1, 2, 3), sort, "sort"),
    "sort_unique": Program(
        "sort different numbers", (1, 2, 3, 4), sort_unique, "sort", longest=3, repeats=False
    ),
    "frac_prevs": Program(
        "say at each symbol which share of those so far is x",
        ("x", "y", "z"),
        frac_prevs,
        "frac_prevs",
    ),
    "pair_balance": Program(
        "say at each symbol by how much ( outweighs ) so far, as a share",
        ("(", ")", "a"),
        pair_balance,
        "pair_balance",
    ),
    "shuffle_dyck2": Program(
        "say at each bracket whether ( ) and { } are balanced in the whole string, each by itself",
        ("(", ")", "{", "}"),
        shuffle_dyck2,
        "shuffle_dyck2",
    ),
}
