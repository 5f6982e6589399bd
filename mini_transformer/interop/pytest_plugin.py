"""Tests of other people's libraries stand on truths of this one, in three lines.

Import `truth`, a fixture, and `assert_finds` into a test file or a conftest.py. See
docs/testing_your_library.md. pytest does not load this by itself: whoever has the package installed
for another reason gets no fixture that they did not ask for.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from mini_transformer.edges import EdgeScores
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
    scores: "EdgeScores | Mapping[str, Any] | Iterable[Any]",
    case: "Case",
    ablation: str = "resample",
    at_least: int | float = 1.0,
) -> None:
    """Fail unless the highest scores are those of a right circuit.

    `scores` has a number for each edge, the higher the more the metric loses when the edge carries
    the corrupt run: EdgeScores, a dict by name (what it leaves out comes last), or a sequence in
    the order of `edges.list_edges(case.model)`. As many of the highest as a minimal circuit has are
    compared with it, ties against it; of several circuits the best match counts. `at_least` is the
    share of its edges that must be among them. Raise ValueError for what is no such scores of this
    model, AssertionError, with what is missing, if too few are found.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> assert_finds(dict.fromkeys(case.truth.circuits["zero"].edges[0], 1.0), case, "zero")
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    from mini_transformer.edges import list_edges

    if not 0 < at_least <= 1:
        raise ValueError(f"at_least is {at_least}, but must be above 0 and at most 1")
    circuits = {kind: one.edges for kind, one in case.truth.circuits.items() if one.edges}
    if ablation not in circuits:
        known = ", ".join(circuits) or "none"
        raise ValueError(f"{case.name} has no circuit for {ablation!r}; there are: {known}")
    edges = list_edges(case.model)
    given = read_scores(scores, edges, case)

    circuit, missing = find_circuit(given, edges, circuits[ablation])
    size = len(circuit)
    if size - len(missing) >= at_least * size:
        return
    message = (
        f"{size - len(missing)} of {size} edges of the circuit of {case.name} ({ablation}) are "
        f"among the highest {size} scores; missing: {', '.join(sorted(missing))}"
    )
    for what, change in (("with the sign turned", operator.neg), ("as absolute values", abs)):
        turned = {edge: change(score) for edge, score in given.items()}
        circuit, missing = find_circuit(turned, edges, circuits[ablation])
        if len(circuit) - len(missing) >= at_least * len(circuit):
            message += f"; {what} the scores would pass"
    raise AssertionError(message)


def read_scores(scores: Any, edges: Sequence[str], case: "Case") -> dict[str, float]:
    """Return a finite number for each edge that has one."""
    from mini_transformer.board.answers import check_finite
    from mini_transformer.edges import EdgeScores
    from mini_transformer.isolation.explaining import describe_kind

    __tracebackhide__ = True
    scores = scores.values if isinstance(scores, EdgeScores) else scores
    shape = tuple(getattr(scores, "shape", ()))
    names, values = edges, scores
    if isinstance(scores, Mapping):
        names, values = list(scores), scores.values()
        for name in names:
            check_name(name, edges, case)
    try:
        listed = [float(score) for score in values]
    except (TypeError, ValueError, RuntimeError):
        listed = None
    if listed is None or len(shape) > 1:
        raise ValueError(
            f"scores are {shape if len(shape) > 1 else describe_kind(scores)}, expected one number "
            f"per edge ({len(edges)}): EdgeScores, a dict by name, or a sequence; scores by "
            "position are added up by `.sum()`"
        )
    if len(listed) != len(names):
        raise ValueError(f"{len(listed)} scores were given, but {case.name} has {len(edges)} edges")
    check_finite(torch.tensor(listed), "the scores")
    return dict(zip(names, listed, strict=True))


def check_name(name: Any, edges: Sequence[str], case: "Case") -> None:
    """Raise ValueError unless the model has an edge of this name."""
    from mini_transformer.edges import NODE, SWITCH
    from mini_transformer.nearest import find_nearest

    __tracebackhide__ = True
    if name in edges:
        return
    if SWITCH.fullmatch(str(name)):
        fix = "scores by position are added up by `.sum()`"
    elif NODE.fullmatch(str(name)):
        fix = f"a node's name is no edge's; give scores of edges, such as {edges[0]!r}"
    else:
        fix = f"nearest: {find_nearest(name, edges)!r}"
    raise ValueError(f"{case.name} has no edge {name!r}; {fix}")


def find_circuit(
    scores: Mapping[str, float], edges: Sequence[str], circuits: Iterable[frozenset[str]]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the circuit that the highest scores fit best, and its edges that they miss."""

    def miss(circuit: frozenset[str]) -> frozenset[str]:
        # Of equal scores those of the circuit come last.
        order = sorted(edges, key=lambda edge: (-scores.get(edge, -math.inf), edge in circuit))
        return circuit - set(order[: len(circuit)])

    best = min(circuits, key=lambda circuit: len(miss(circuit)) / len(circuit))
    return best, miss(best)
