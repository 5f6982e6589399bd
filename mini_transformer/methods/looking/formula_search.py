"""Formulas: predicates joined by and, or, not, and a beam search for the best of them.

The best one tells high values from low ones. A negation stands before a predicate only, which costs
nothing: any formula can be written so with as many predicates. Two formulas that hold in the same
rows count as one, the first found. All pairs of two sets of formulas are scored by two matrix
products, since sizes and sums of intersections give those of unions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Formula", "find_formula"]


@dataclass(frozen=True)
class Formula:
    """A predicate ("is"), its negation ("not"), or two formulas joined by "and" or "or".

    >>> a, b, c = Formula("is", ("a",)), Formula("not", ("b",)), Formula("is", ("c",))
    >>> print(Formula("and", (a, Formula("or", (b, c)))))
    a and (not b or c)
    """

    kind: str
    parts: tuple

    @property
    def names(self) -> list[str]:
        """List the predicates in it, with repetitions; their number is the formula's size."""
        if self.kind in ("is", "not"):
            return list(self.parts)
        return [name for part in self.parts for name in part.names]

    def holds(self, truth: Mapping[str, Tensor]) -> Tensor:
        """Compute where it is true, given where each predicate is."""
        if self.kind in ("is", "not"):
            return truth[self.parts[0]] ^ (self.kind == "not")
        left, right = (part.holds(truth) for part in self.parts)
        return left & right if self.kind == "and" else left | right

    def __str__(self) -> str:
        if self.kind in ("is", "not"):
            return self.parts[0] if self.kind == "is" else f"not {self.parts[0]}"
        other = {"and": "or", "or": "and"}[self.kind]
        parts = [f"({part})" if part.kind == other else str(part) for part in self.parts]
        return f" {self.kind} ".join(parts)


@dataclass(frozen=True)
class Found:
    """A formula, the rows where it holds, and its score on them."""

    formula: Formula
    holds: Bool[Tensor, "n"]
    score: float


def find_formula(
    truth: Mapping[str, Bool[Tensor, "n"]],
    values: Float[Tensor, "n"],
    max_size: int,
    penalty: float | int,
    beam: int,
) -> Formula:
    """Find the formula with the highest score minus `penalty` times its size.

    Of equals, the smaller one. The score is the squared correlation with `values`, counted as
    negative where the correlation is. Larger formulas are built from the `beam` best of each size
    above one.

    >>> a, b = torch.tensor([[True, True, False, False], [True, False, True, False]])
    >>> values = torch.tensor([0.0, 5.0, 0.0, 0.0])
    >>> print(find_formula({"a": a, "b": b}, values, max_size=2, penalty=0.01, beam=10))
    a and not b
    """
    centred = values.double() - values.double().mean()
    literals = [Formula(kind, (name,)) for name in truth for kind in ("is", "not")]
    rows = torch.stack([literal.holds(truth) for literal in literals])
    scores = score_sets(rows.double().sum(dim=1), rows.double() @ centred, centred).tolist()
    seen = set[bytes]()
    sizes = [keep_new(map(Found, literals, rows, scores), seen, len(rows))]
    for size in range(2, max_size + 1):
        sides = [(sizes[i], sizes[size - 2 - i]) for i in range(size // 2)]
        sizes.append(keep_new(join_best_first(sides, centred), seen, beam))
    ranked = [
        (found.score - penalty * size, found)
        for size, level in enumerate(sizes, 1)
        for found in level
    ]
    return max(ranked, key=lambda pair: pair[0])[1].formula  # the first of equals


def score_sets(counts: Tensor, sums: Tensor, centred: Float[Tensor, "n"]) -> Tensor:
    """Score sets of rows, from their sizes and the sums of values in them.

    The score is the signed squared correlation with the centred values, 0 for a formula that never
    varies.
    """
    shares = counts / len(centred)
    spread = (shares * (1 - shares) * centred.square().mean()).sqrt()
    correlation = torch.where(spread > 0, sums / len(centred) / spread, 0.0)
    return correlation * correlation.abs()


def join_best_first(
    sides: Sequence[tuple[list[Found], list[Found]]], centred: Float[Tensor, "n"]
) -> Iterator[Found]:
    """Join each formula of a left side with each of its right side, the highest score first.

    They are joined by "and" and by "or".
    """
    sides = [(left, right) for left, right in sides if left and right]
    tables = [score_pairs(left, right, centred) for left, right in sides]
    scores = torch.cat([centred.new_zeros(0), *(table.flatten() for table in tables)])
    places = [
        (i, *place) for i, table in enumerate(tables) for place in product(*map(range, table.shape))
    ]
    for at in scores.argsort(descending=True, stable=True).tolist():
        side, is_or, i, j = places[at]
        left, right = sides[side][0][i], sides[side][1][j]
        holds = left.holds | right.holds if is_or else left.holds & right.holds
        joined = Formula("or" if is_or else "and", (left.formula, right.formula))
        yield Found(joined, holds, scores[at].item())


def score_pairs(
    left: Sequence[Found], right: Sequence[Found], centred: Float[Tensor, "n"]
) -> Float[Tensor, "kind left right"]:
    """Score each formula of one list joined with each of the other, by "and" (0) and "or" (1)."""
    a, b = (torch.stack([found.holds for found in side]).double() for side in (left, right))
    both = a @ b.T
    sums = (a * centred) @ b.T
    either = a.sum(dim=1)[:, None] + b.sum(dim=1) - both
    sums_either = (a @ centred)[:, None] + b @ centred - sums
    return torch.stack([score_sets(both, sums, centred), score_sets(either, sums_either, centred)])


def keep_new(candidates: Iterable[Found], seen: set[bytes], most: int) -> list[Found]:
    """Keep the first `most` candidates that hold in other rows than all seen before.

    What is kept joins `seen`.
    """
    kept = list[Found]()
    for found in candidates:
        key = found.holds.cpu().numpy().tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(found)
        if len(kept) == most:
            break
    return kept
