"""Traps that are told by order: is what is there ranked above what only looks like it?

`told_apart` is the probability that an edge (or node) that the trap hides scores higher than one
that does nothing, or that one of the circuit scores higher than a decoy. It is 1/2 if a method
cannot tell them apart. A method has fallen below .76.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mini_transformer.board.families.circuit.problems import list_ends
from mini_transformer.board.metrics.circuit import measure_auroc
from mini_transformer.board.problem import Metrics, Problem, Trap
from mini_transformer.edges import list_edges, list_writers

__all__ = ["LEAST", "tell_apart", "watch_order"]

LEAST = 0.76  # of told_apart


def watch_order(
    problem: Problem,
    alternatives: Sequence[Iterable[str]],
    what: str,
    verdict: str,
    below: Iterable[str] | None = None,
) -> Problem:
    """Add the trap and `told_apart` to a problem.

    `told_apart` measures how well edges of the best of the `alternatives` are ranked above those
    `below`, by default those of no right circuit. `what` and `verdict` are those of the trap.
    """
    model = problem.arguments[0]
    above_each = [set(edges) for edges in alternatives]
    scored = zip(list_edges(model), problem.oracle(), strict=True)
    low = {edge for edge, score in scored if score == 0} if below is None else set(below)

    def measure(answer: Any) -> Metrics:
        if not (found := problem.measure(answer)):
            return {}
        shares = [tell_apart(model, answer, above, low) for above in above_each]
        known = [share for share in shares if share is not None]
        return {**found, "told_apart": max(known)} if known else found

    trap = Trap(what, verdict, lambda metrics: metrics.get("told_apart", 1.0) <= LEAST)
    return dataclasses.replace(problem, measure=measure, trap=trap)


def tell_apart(
    model: Any, answer: Tensor | dict[str, float], above: set[str], below: set[str]
) -> float | None:
    """Measure the share of pairs ranked right; ties count one half.

    Return None if scores of nodes cannot say it.
    """
    names = list_edges(model)
    if isinstance(answer, dict):
        names = list_writers(model)
        above, below = (set(list_ends(edges) - {"input", "logits"}) for edges in (above, below))
        answer = torch.tensor([answer[name] for name in names])
    chosen = [i for i, name in enumerate(names) if name in above | below]
    truth = torch.tensor([names[i] in above for i in chosen])
    return measure_auroc(answer[chosen], truth) if 0 < truth.sum() < len(truth) else None
