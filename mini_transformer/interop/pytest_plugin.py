"""Tests of other people's libraries stand on truths of this one, in three lines.

Import `truth`, a fixture, and `assert_finds` into a test file or a conftest.py. See
docs/testing_your_library.md. pytest does not load this by itself: whoever has the package installed
for another reason gets no fixture that they did not ask for.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mini_transformer.toys import Case

__all__ = ["assert_finds", "truth"]


@pytest.fixture(scope="session")
def truth() -> "Callable[..., Case]":
    """Load a case by name and seed, `truth("boolean_and", seed=2)`; `truth("forge", 7)` forges."""

    def load(name: str, seed: int = 0) -> "Case":
        from mini_transformer import forge, toys

        return forge.make(seed) if name == "forge" else toys.load(name, seed)

    return load


def assert_finds(
    scores: Mapping[str, Any] | Iterable[Any],
    case: "Case",
    ablation: str = "resample",
    at_least: int | float = 1.0,
) -> None:
    """Fail unless the highest scores are those of a right circuit.

    `scores` has a number for each edge: a dict by name, or a sequence in the order of
    `edges.list_edges(case.model)`. As many of the highest as a minimal circuit has are compared
    with it, ties against it; of several circuits the best match counts. `at_least` is the share of
    its edges that must be among them. Raise ValueError for scores that are not of this model,
    AssertionError, with what is missing, if too few are found.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> assert_finds(dict.fromkeys(case.truth.circuits["zero"].edges[0], 1.0), case, "zero")
    """
    from mini_transformer.edges import list_edges
    from mini_transformer.nearest import find_nearest

    edges = list_edges(case.model)
    if isinstance(scores, Mapping):
        for name in scores:
            if name not in edges:
                nearest = find_nearest(name, edges)
                raise ValueError(f"{case.name} has no edge {name!r}; nearest: {nearest!r}")
        given = {edge: float(scores[edge]) if edge in scores else -float("inf") for edge in edges}
    else:
        listed = [float(score) for score in scores]
        if len(listed) != len(edges):
            raise ValueError(
                f"{len(listed)} scores were given, but {case.name} has {len(edges)} edges"
            )
        given = dict(zip(edges, listed, strict=True))
    if ablation not in case.truth.circuits:
        known = ", ".join(case.truth.circuits) or "none"
        raise ValueError(f"{case.name} has no circuit for {ablation!r}; there are: {known}")
    missing: list[set[str]] = []
    for circuit in case.truth.circuits[ablation].edges:
        found = set(rank(given, circuit)[: len(circuit)])
        if len(found & circuit) >= at_least * len(circuit):
            return
        missing.append(set(circuit) - found)
    least = min(missing, key=len)
    circuit_size = len(case.truth.circuits[ablation].edges[missing.index(least)])
    raise AssertionError(
        f"{circuit_size - len(least)} of {circuit_size} edges of the circuit of {case.name} "
        f"({ablation}) are among the highest {circuit_size} scores; missing: "
        f"{', '.join(sorted(least))}"
    )


def rank(scores: Mapping[str, float], circuit: frozenset[str]) -> list[str]:
    """Sort edges by score, the highest first; of equal ones those of the circuit last."""
    return sorted(scores, key=lambda edge: (-scores[edge], edge in circuit))
