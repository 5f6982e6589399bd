"""Traps in problems that are there anyway: what is hidden or pretended in a case, and the false verdict that it provokes.

`told_apart` is the probability that an edge (or node) that the trap hides scores higher than one that does nothing, or that one of the
circuit scores higher than a decoy: 1/2 where a method cannot tell them apart. A method has fallen below .76.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.circuit_metrics import measure_auroc
from mini_transformer.board.problem import Metrics, Problem, Trap
from mini_transformer.edges import list_edges, list_writers

LEAST = 0.76  # of told_apart
Attach = Callable[[Problem], Problem]


def attach(problem: Problem) -> Problem:
    """The problem, with its trap if the table has one for it.

    >>> from mini_transformer.board.problems import build
    >>> build("probe", "unused_feature/y").trap.verdict
    'the model uses y'
    """
    return (
        TRAPS[problem.family, problem.name](problem)
        if (problem.family, problem.name) in TRAPS
        else problem
    )


def watch_order(
    problem: Problem,
    alternatives: Sequence[Iterable[str]],
    below: Iterable[str],
    what: str,
    verdict: str,
) -> Problem:
    """Adds `told_apart`: how well edges of the best of the `alternatives` are ranked above those `below`; and the trap."""
    model, above_each, below = (
        problem.arguments[0],
        [set(edges) for edges in alternatives],
        set(below),
    )

    def measure(answer: Any) -> Metrics:
        if not (found := problem.measure(answer)):
            return {}
        shares = [tell_apart(model, answer, above, below) for above in above_each]
        known = [share for share in shares if share is not None]
        return {**found, **({"told_apart": max(known)} if known else {})}

    trap = Trap(what, verdict, lambda metrics: metrics.get("told_apart", 1.0) <= LEAST)
    return dataclasses.replace(problem, measure=measure, trap=trap)


def tell_apart(
    model: Any, answer: Tensor | dict[str, float], above: set[str], below: set[str]
) -> float | None:
    """The share of pairs ranked right, ties counting one half; None where scores of nodes cannot say it."""
    names = list_edges(model)
    if isinstance(answer, dict):
        names, (above, below) = list_writers(model), (name_nodes(edges) for edges in (above, below))
        answer = torch.tensor([answer[name] for name in names])
    chosen = [i for i, name in enumerate(names) if name in above | below]
    truth = torch.tensor([names[i] in above for i in chosen])
    return measure_auroc(answer[chosen], truth) if 0 < truth.sum() < len(truth) else None


def name_nodes(edges: Iterable[str]) -> set[str]:
    """The heads and MLPs at both ends of edges."""
    return {end.split("<")[0] for edge in edges for end in edge.split("->")} - {"input", "logits"}


def list_idle(case: toys.Case, ablation: str) -> set[str]:
    """The edges of no right circuit."""
    return set(list_edges(case.model)) - set().union(*case.truth.circuits[ablation].edges)


def hide_backup(problem: Problem) -> Problem:
    case = toys.load("backup_head", problem.seed)
    ways = [{f"{case.truth.roles[role]}->logits"} for role in ("mover", "backup")]
    what = "A backup does the job as soon as the first head is silent, so that taking out either alone changes nothing."
    return watch_order(
        problem, ways, list_idle(case, "zero"), what, "neither of the two name movers does anything"
    )


def pretend_attention(problem: Problem) -> Problem:
    case = toys.load("induction_by_hand", problem.seed)
    silent, circuit = case.truth.roles["silent"], case.truth.circuits["zero"].edges[0]
    decoy = {edge for edge in list_edges(case.model) if silent in edge}
    decoy = {
        edge
        for edge in decoy
        if edge.startswith("input->") or edge.endswith(f"{case.truth.roles['match']}<k>")
    }
    what = "Two heads attend alike; what one of them reads and what it writes miss each other, so that it moves nothing."
    return watch_order(problem, [circuit], decoy, what, "the silent head is part of the circuit")


def pretend_reaction(problem: Problem) -> Problem:
    case = toys.load("unused_feature", problem.seed)
    circuit, unused = case.truth.circuits["resample"].edges[0], case.truth.roles["unused"]
    decoy = {edge for edge in list_edges(case.model) if unused in edge}
    what = "A head brings y, at twice the strength, to where the answer is made, and nothing there reads it."
    return watch_order(
        problem, [circuit], decoy, what, "the head that brings y is part of the circuit"
    )


def by_metrics(what: str, verdict: str, falls: Callable[[Metrics], bool]) -> Attach:
    """A trap that the family's own metrics tell."""
    return lambda problem: dataclasses.replace(problem, trap=Trap(what, verdict, falls))


TRAPS: dict[tuple[str, str], Attach] = {
    ("circuit", "induction_by_hand/zero"): pretend_attention,
    ("circuit", "backup_head/zero"): hide_backup,
    ("circuit", "unused_feature/resample"): pretend_reaction,
    ("probe", "unused_feature/y"): by_metrics(
        "y is written where the answer is made, and nothing reads it: activations do not show who reads them.",
        "the model uses y",
        lambda metrics: metrics["accuracy"] > 0.9 and metrics["causal_use"] < 0.1,
    ),
    ("features", "planted_features/plain"): by_metrics(
        "Many directions explain much of the variance, whichever they are.",
        "a dictionary that explains the variance has found the features",
        lambda metrics: metrics["explained_variance"] > 0.6 and metrics["f1"] < 0.2,
    ),
    ("features", "planted_hierarchical/families"): by_metrics(
        "A parent is active whenever its child is: sparser codes come from a latent for both, with the parent's own silent.",
        "the parent is not there, although it is",
        lambda metrics: metrics["absorption"] > 0.1,
    ),
}
