"""Say in words how a wrong answer relates to the right one, before any numbers.

"It is the negative", "it is right for the first prompt only", "its softmax would be right": such a
relation is a fact about the two values, and often all that a learner needs. It accuses nobody: what
is said here is what is seen. A relation that a few numbers have by accident is not looked for.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.comparing import find_difference, find_factor, make_tensor

CONSTANTS = {
    "2": 2.0,
    "log 2, as between bits and nats": math.log(2),
    "10": 10.0,
    "100": 100.0,
}

# What may stand between an answer and the right one, over the last axis or number by number.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax over the last axis": lambda x: x.softmax(-1),
    "log-softmax over the last axis": lambda x: x.log_softmax(-1),
    "exponential": torch.exp,
    "logarithm": torch.log,
    "absolute value": torch.abs,
    "positive part": lambda x: x.clamp(min=0),
    "square": torch.square,
    "square root": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "sigmoid": torch.sigmoid,
    "rounded value": torch.round,
    "difference from 1": lambda x: 1 - x,
    "difference from its mean over the last axis": lambda x: x - x.mean(-1, keepdim=True),
    "difference from its mean over the first axis": lambda x: x - x.mean(0, keepdim=True),
    "share of its sum over the last axis": lambda x: x / x.sum(-1, keepdim=True),
    "vector divided by its length": lambda x: x / x.norm(dim=-1, keepdim=True),
    "running sum along the last axis": lambda x: x.cumsum(-1),
    "lower triangle": torch.tril,
}


def diagnose(
    got: Any,
    want: Any,
    *,
    references: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> str | None:
    """Return how `got` relates to `want`, as the rest of a sentence; None if it is not known.

    `references` are other values that it may be, by their words. `sizes` says how many prompts,
    heads, ... there are: an axis of just this length, or a factor, is called by its name.

    >>> diagnose(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([1.0, 2.0, 4.0]))
    'is the negative of what it should be'
    >>> diagnose(["a1", "a0"], ["a0", "a1"])
    'has the right entries in the reverse order'
    """
    if find_difference(got, want, rtol=rtol, atol=atol) is None:
        return None
    for words, value in (references or {}).items():
        # A value that is right, too, explains nothing.
        is_other = find_difference(value, want, rtol=rtol, atol=atol) is not None
        if is_other and find_difference(got, value, rtol=rtol, atol=atol) is None:
            return f"is {words}"

    if isinstance(want, Mapping) and isinstance(got, Mapping):
        return relate_mappings(got, want, sizes or {}, rtol, atol)

    relation = relate_lists(got, want, sizes or {}, rtol, atol)
    given = make_tensor(got)
    expected = make_tensor(want)
    if relation or given is None or expected is None:
        return relation
    if given.is_complex() or expected.is_complex():
        return None
    others = [make_tensor(value) for value in (references or {}).values()]
    untouched = [
        other.detach().double()
        for other in others
        if other is not None and other.shape == expected.shape and not other.is_complex()
    ]
    pair = given.detach().double(), expected.detach().double()
    return Relation(*pair, untouched, sizes or {}, rtol, atol).find()


class Relation:
    """Two tensors of numbers, what was given and what was expected, and how they relate.

    `untouched` are values from before any work: being right where these are right is no merit.
    """

    def __init__(
        self,
        given: Tensor,
        expected: Tensor,
        untouched: list[Tensor],
        sizes: Mapping[str, int],
        rtol: float,
        atol: float,
    ) -> None:
        self.given = given
        self.expected = expected
        self.untouched = untouched
        self.sizes = sizes
        self.rtol = rtol
        self.atol = atol

    def is_same(self, one: Tensor, other: Tensor) -> bool:
        return one.shape == other.shape and torch.allclose(
            one, other, rtol=self.rtol, atol=self.atol, equal_nan=True
        )

    def find(self) -> str | None:
        if self.given.numel() == 0 or self.expected.numel() == 0:
            return None
        if self.given.shape != self.expected.shape:
            return next(self.relate_shapes(), None)
        steps = itertools.chain(
            self.relate_factors(),
            self.relate_orders(),
            self.relate_functions(),
            self.relate_parts(),
        )
        return next(steps, None)

    # other shapes ---------------------------------------------------------------------------------

    def relate_shapes(self) -> Iterator[str]:
        """Relate tensors of different shapes."""
        if not is_telling(self.expected):
            return
        yield from self.relate_transposed()
        if self.given.numel() == self.expected.numel() and self.is_same(
            self.given.flatten(), self.expected.flatten()
        ):
            yield self.tell_shapes("has the right numbers")
        for axis in range(self.expected.ndim):
            n = self.name_axis(axis)
            for words, reduced in (
                (f"is summed over the {n} axis", self.expected.sum(axis)),
                (f"is averaged over the {n} axis", self.expected.mean(axis)),
                (f"holds only the first of the {n} axis", self.expected.select(axis, 0)),
                (f"holds only the last of the {n} axis", self.expected.select(axis, -1)),
            ):
                if self.is_same(self.given.squeeze(), reduced.squeeze()):
                    yield self.tell_shapes(words)
            if self.given.ndim == self.expected.ndim:
                least = min(self.given.shape[axis], self.expected.shape[axis])
                for words, start in (("first", 0), ("last", None)):
                    cut = slice(0, least) if start == 0 else slice(-least, None)
                    pair = [x[(slice(None),) * axis + (cut,)] for x in (self.given, self.expected)]
                    if least and self.is_same(*pair):
                        yield self.tell_shapes(f"is right in the {words} {least} along axis {axis}")

    def tell_shapes(self, words: str) -> str:
        given = tuple(self.given.shape)
        return f"{words}: it has shape {given}, expected {tuple(self.expected.shape)}"

    # the same shape -------------------------------------------------------------------------------

    def relate_factors(self) -> Iterator[str]:
        """Relate by a sign, a factor, or a term that is the same everywhere."""
        factor = find_factor(self.given, self.expected)
        n_numbers = self.expected.numel()
        if n_numbers > 1 and not is_telling(self.expected, 2):
            return
        if factor is None and n_numbers == 1 and self.expected.item() != 0:
            factor = self.given.item() / self.expected.item()
        is_single = n_numbers == 1
        if self.is_same(self.given, -self.expected):  # also if some of it is all but 0
            yield "is the negative of what it should be"
        elif factor is not None and (name := self.name_factor(factor)):
            yield f"is {name} what it should be" + ("" if is_single else ", everywhere")
        elif factor is not None and not is_single:
            if abs(factor) < 1e-12:
                yield "is 0 everywhere"
            elif is_telling(self.expected):
                yield f"is {factor:.4g} times what it should be, everywhere"
        if is_single or not is_telling(self.expected):
            return
        if is_constant(self.given):
            yield f"is {self.given.flatten()[0].item():.4g} everywhere"
        gap = self.given - self.expected
        if self.is_same(gap, gap.flatten()[0].expand_as(gap)):
            yield f"differs everywhere by the same number, {gap.flatten()[0].item():.4g}"

    def name_factor(self, factor: float) -> str | None:
        """Name a factor by a size or a constant: `4 (the number of prompts) times`."""
        close = max(self.rtol, 1e-6)
        names = {f"the number of {name}": float(n) for name, n in self.sizes.items() if n > 1}
        names |= {f"the root of the number of {name}": math.sqrt(n)
                  for name, n in self.sizes.items() if n > 2}  # fmt: skip
        for up in (True, False):
            found = [
                name
                for name, value in (names | CONSTANTS).items()
                if math.isclose(factor, value if up else 1 / value, rel_tol=close)
            ]
            if any(name.isdigit() for name in found):
                return f"{factor:.4g} times"
            if found:
                shown = factor if up else 1 / factor
                often = "times" if up else "times less than"
                return f"{shown:.4g} {often} ({' or '.join(found)})"
        return None

    def relate_orders(self) -> Iterator[str]:
        """Relate by the order of the entries."""
        if not is_telling(self.expected):
            return
        yield from self.relate_transposed()
        for axis in range(self.given.ndim):
            if self.is_same(self.given, self.expected.flip(axis)):
                yield f"runs backwards along the {self.name_axis(axis)} axis"
        for axis in range(self.given.ndim):
            yield from self.relate_shifts(axis)
        ordered = self.expected.flatten().sort().values
        if self.is_same(self.given.flatten(), ordered):
            yield "has the right numbers, sorted"
        elif self.is_same(self.given.flatten().sort().values, ordered):
            yield "has the right numbers, in another order"

    def relate_transposed(self) -> Iterator[str]:
        axes = range(self.expected.ndim)
        if self.given.ndim != self.expected.ndim or self.expected.ndim > 5:
            return
        for order in itertools.permutations(axes):
            if list(order) != list(axes) and self.is_same(self.given, self.expected.permute(order)):
                moved = [axis for axis in axes if order[axis] != axis]
                if len(moved) == 2:
                    yield f"has axes {moved[0]} and {moved[1]} exchanged"
                else:
                    yield f"has its axes in another order, {order}"

    def relate_shifts(self, axis: int) -> Iterator[str]:
        n = self.given.shape[axis]
        if n < 3:
            return
        for words, mine, right in (("late", 1, 0), ("early", 0, 1)):
            kept = self.given.narrow(axis, mine, n - 1), self.expected.narrow(axis, right, n - 1)
            if is_telling(kept[1]) and self.is_same(*kept):
                yield f"comes one place too {words} along the {self.name_axis(axis)} axis"

    def relate_functions(self) -> Iterator[str]:
        """Relate by a function that was forgotten, or applied once too often."""
        if self.given.numel() < 3 or self.given.ndim == 0 or not is_telling(self.expected):
            return
        for words, function in FUNCTIONS.items():
            if words == "lower triangle" and self.given.ndim < 2:
                continue
            if is_telling(changed := function(self.expected)) and self.is_same(self.given, changed):
                yield f"is the {words} of what it should be"
            if is_telling(self.given) and self.is_same(function(self.given), self.expected):
                yield f"is not right, but its {words} would be"
        yield from self.relate_shares()

    def relate_shares(self) -> Iterator[str]:
        """Relate shares of 1 over the last axis by the scores whose softmax they may be."""
        given, expected = self.given, self.expected
        ones = expected.new_ones(expected.shape[:-1])
        if not self.is_same(expected.sum(-1), ones) or (expected < 0).any():
            return
        if not self.is_same(sums := given.sum(-1), ones) and not sums.isnan().any():
            worst = torch.unravel_index((sums - 1).abs().argmax(), sums.shape)
            total = f"{sums[worst].item():.4g} at {[int(i) for i in worst]}"
            yield f"should sum to 1 over the last axis, and sums to {total}"
            return
        highest = torch.nn.functional.one_hot(expected.argmax(-1), expected.shape[-1])
        if self.is_same(given, highest.double()):
            yield "is 1 where what it should be is highest over the last axis, and 0 elsewhere"
        seen = (given > self.atol) & (expected > self.atol)
        scores = [x.clamp(min=self.atol).log().where(seen, 0.0) for x in (given, expected)]
        means = [x.sum(-1, keepdim=True) / seen.sum(-1, keepdim=True).clamp(min=1) for x in scores]
        mine, right = (x.sub(mean).where(seen, 0.0) for x, mean in zip(scores, means, strict=True))
        factor = (mine * right).sum() / (right * right).sum()
        if factor > 0 and self.is_same(given, (factor * expected.log()).softmax(-1)):
            yield f"is what a softmax of scores {factor:.4g} times as large gives"

    def relate_parts(self) -> Iterator[str]:
        """Relate tensors that agree in some slices along one axis, and in no other place."""
        right = self.find_right(self.given)
        for axis in range(self.given.ndim):
            n = self.given.shape[axis]
            if n < 2:
                continue
            others = [other for other in range(self.given.ndim) if other != axis]
            where = find_slices(right, others)
            needless = {
                i
                for same in map(self.find_right, self.untouched)
                for i in find_slices(same, others)
            }
            worth = [i for i in where if i not in needless]
            slices = [self.expected.select(axis, i) for i in worth]
            if slices and len(where) < n and is_telling(torch.stack(slices)):
                which = tell_which(where, n, self.given.ndim > 1)
                repeated = self.expected.select(axis, where[0]).unsqueeze(axis)
                name = self.name_axis(axis)
                if which and self.is_same(self.given, repeated.expand_as(self.given)):
                    yield f"is right {which} along the {name} axis, and the same for all others"
                elif which:
                    yield f"is right {which} along the {name} axis only"
        if is_telling(self.expected[right]) and self.given.ndim > 1:
            lower = torch.ones_like(right).tril()
            if right[lower].all() and not right[~lower].all():
                yield "is right on and below the diagonal only"

    def find_right(self, value: Tensor) -> Tensor:
        return torch.isclose(value, self.expected, rtol=self.rtol, atol=self.atol, equal_nan=True)

    def name_axis(self, axis: int) -> str:
        """Name an axis by what there is just as many of, such as `head`, or by its number."""
        n = self.expected.shape[axis]
        fitting = [name for name, size in self.sizes.items() if size == n]
        is_alone = list(self.expected.shape).count(n) == 1
        if len(fitting) == 1 and is_alone:
            return fitting[0].removesuffix("s")
        return ("first", "second", "third", "fourth", "fifth")[axis] if axis < 5 else str(axis)


def find_slices(right: Tensor, others: list[int]) -> list[int]:
    """List the slices in which all is right, with `others` the axes inside a slice."""
    agrees = right.all(dim=others) if others else right
    return [int(i) for i in agrees.nonzero()]


def tell_which(where: list[int], n: int, listed: bool) -> str | None:
    """Say which of n slices these are. Up to three are `listed` by number."""
    wrong = [i for i in range(n) if i not in where]
    named = {
        "for the first": where == [0],
        "for the last": where == [n - 1],
        "for all but the first": wrong == [0],
        "for all but the last": wrong == [n - 1],
    }
    for words, holds in named.items():
        if holds:
            return words
    for words, few in (("for", where), ("for all but", wrong)):
        if listed and len(few) <= 3:
            return f"{words} {', '.join(map(str, few))} (counted from 0)"
    return None


def is_telling(value: Tensor, least: int = 3) -> bool:
    """Say whether there are enough different finite numbers. Fewer may agree by accident."""
    return len(value[value.isfinite()].unique()) >= least


def is_constant(value: Tensor) -> bool:
    return value.numel() > 1 and bool((value == value.flatten()[0]).all())


# names and lists ----------------------------------------------------------------------------------


def relate_mappings(
    got: Mapping, want: Mapping, sizes: Mapping[str, int], rtol: float, atol: float
) -> str | None:
    """Relate two dicts: by what all wrong entries have in common, or by which are right."""
    if set(got) != set(want):
        return None
    wrong = [
        key
        for key in want
        if find_difference(got[key], want[key], rtol=rtol, atol=atol) is not None
    ]
    phrases = {diagnose(got[key], want[key], sizes=sizes, rtol=rtol, atol=atol) for key in wrong}
    right = [key for key in want if key not in wrong]
    if len(phrases) == 1 and None not in phrases:
        where = "" if not right else f" (at {', '.join(map(repr, wrong))})"
        return f"{phrases.pop()}{where}"
    swapped = [
        (one, other)
        for one, other in itertools.combinations(wrong, 2)
        if len(wrong) == 2
        and find_difference(got[one], want[other], rtol=rtol, atol=atol) is None
        and find_difference(got[other], want[one], rtol=rtol, atol=atol) is None
    ]
    if swapped:
        return f"has {swapped[0][0]!r} and {swapped[0][1]!r} exchanged"
    return None


def relate_lists(
    got: Any, want: Any, sizes: Mapping[str, int], rtol: float, atol: float
) -> str | None:
    """Relate lists of names, of pairs, or of other values."""
    if not isinstance(got, (list, tuple, set, frozenset)) or not isinstance(want, (list, tuple)):
        return None

    def is_same(one: Any, other: Any) -> bool:
        return find_difference(one, other, rtol=rtol, atol=atol) is None

    given = list(got)
    expected = list(want)
    if len(given) > 1 and is_same(given[::-1], expected):
        are_parts = len(given) == 2 and not all(map(is_name, given))
        what = "its two parts exchanged" if are_parts else "the right entries in the reverse order"
        return f"has {what}"

    if all(is_name(entry) for entry in (*given, *expected)):
        return relate_names([to_name(x) for x in given], [to_name(x) for x in expected])

    if len(given) == len(expected) and make_tensor(expected) is None:
        phrases = {
            diagnose(g, w, sizes=sizes, rtol=rtol, atol=atol)
            for g, w in zip(given, expected, strict=True)
            if not is_same(g, w)
        }
        if len(phrases) == 1:
            return phrases.pop()
    return None


def is_name(entry: Any) -> bool:
    is_pair = isinstance(entry, tuple) and all(isinstance(part, int) for part in entry)
    return isinstance(entry, (str, int)) or (is_pair and len(entry) > 0)


def to_name(entry: Any) -> str:
    return " ".join(map(str, entry)) if isinstance(entry, tuple) else str(entry)


def relate_names(given: list[str], expected: list[str]) -> str | None:
    """Relate names with numbers in them, such as "a1.h0" or the pair (1, 0)."""
    if not given or not expected:
        return None
    if len(given) != len(set(given)) and set(given) == set(expected):
        return "names some more than once"
    if sorted(given) == sorted(expected):
        return "has the right entries in another order"
    for words, change in (
        ("has the two numbers of every entry exchanged", lambda a, b: (b, a)),
        ("has every first number one too high", lambda a, b: (a - 1, b)),
        ("has every first number one too low", lambda a, b: (a + 1, b)),
        ("has every second number one too high", lambda a, b: (a, b - 1)),
        ("has every second number one too low", lambda a, b: (a, b + 1)),
    ):
        changed = [change_numbers(name, change) for name in given]
        if sorted(given) != sorted(expected) and sorted(changed) == sorted(expected):
            return words
    return None


def change_numbers(name: str, change: Callable[[int, int], tuple[int, int]]) -> str:
    """Change the first two numbers in a name; return the name as it is if it has fewer."""
    parts = re.split(r"(\d+)", name)
    if len(parts) < 5:
        return name
    first, second = change(int(parts[1]), int(parts[3]))
    return "".join((parts[0], str(first), parts[2], str(second), *parts[4:]))
