"""Find submissions that are alike, or that are what the course ships. They are shown, not judged.

Functions are compared as sequences of tokens without comments, docstrings and spaces. Every student
has the solutions on the disk, and short right answers are alike by themselves: so only what is long
enough counts, and whoever reads the list decides.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

COMMENT = re.compile(r'("""|\'\'\')(?:(?!\1).)*\1|#[^\n]*', re.DOTALL)
TOKEN = re.compile(r"\w+|[^\w\s]")
SHORTEST = 60  # tokens that two must share, all functions of a lesson together
NEAR = 0.9  # share of runs of tokens in common
RUN = 6  # tokens

Form = tuple[str, ...]


@dataclass(frozen=True)
class Alike:
    """Say that these students' answers to a lesson are alike. `share` is 1 if they are equal."""

    key: str
    students: tuple[str, ...]
    share: float


def read_form(body: str) -> Form:
    """Read a function's body as tokens.

    >>> read_form("    # twice\\n    return 2 * x  # done")
    ('return', '2', '*', 'x')
    """
    return tuple(TOKEN.findall(COMMENT.sub(" ", body[:100_000])))


def find_alike(key: str, forms: Mapping[str, Form]) -> list[Alike]:
    """Find groups of students whose answers to a lesson are alike, from their tokens."""
    from scipy.sparse.csgraph import connected_components

    students = [student for student, form in forms.items() if len(form) >= SHORTEST]
    runs = {student: list_runs(forms[student]) for student in students}
    shares = np.zeros((len(students), len(students)))
    for i, j in combinations(range(len(students)), 2):
        one, other = runs[students[i]], runs[students[j]]
        shares[i, j] = len(one & other) / len(one | other)
    _, labels = connected_components(shares >= NEAR, directed=False)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return [
        Alike(key, tuple(students[i] for i in group), measure_least(shares, group))
        for group in groups
        if len(group) > 1
    ]


def measure_least(shares: np.ndarray, group: np.ndarray) -> float:
    """Return the least share of two in a group that are alike."""
    own = shares[np.ix_(group, group)]
    return round(float(own[own >= NEAR].min()), 3)


def list_runs(form: Form) -> set[Form]:
    return {form[i : i + RUN] for i in range(len(form) - RUN + 1)}


def find_shipped(forms: Mapping[str, Form], shipped: Mapping[str, Collection[Form]]) -> list[str]:
    """List the functions that are, token by token, what the course ships for them."""
    return [name for name, form in forms.items() if len(form) >= 20 and form in shipped[name]]


def describe_alike(found: Iterable[Alike]) -> list[dict[str, Any]]:
    """Return groups as plain data."""
    return [
        {"lesson": one.key, "students": list(one.students), "share": one.share} for one in found
    ]
