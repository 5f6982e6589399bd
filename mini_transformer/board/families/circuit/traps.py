"""Circuit problems with a trap: each model hides something, or pretends it.

What is there must be ranked above what only looks like it. `told_apart` is the probability that an
edge (or node) that the trap hides scores higher than one that does nothing, or that one of the
circuit scores higher than a decoy. It is 1/2 if a method cannot tell them apart; a method has
fallen below .76. Every model is drawn by its seed, whoever falls there.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mini_transformer.board.families.circuit.planted import plant_cancelling, plant_period
from mini_transformer.board.families.circuit.problems import (
    N_PROMPTS,
    Names,
    ask_case,
    draw_batch,
    list_ends,
    make_problem,
)
from mini_transformer.board.forged import draw_case, order_tokens
from mini_transformer.board.metrics.circuit import measure_auroc
from mini_transformer.board.problem import Build, Metrics, Problem, Trap
from mini_transformer.edges import Edge, list_edges, list_writers, mask_of, run_masks, write_outputs
from mini_transformer.forge import ForgedCase
from mini_transformer.toys.truth import Batch

__all__ = ["LEAST", "TRAPS", "tell_apart", "watch_order"]

LEAST = 0.76  # of told_apart
SMALL: dict[str, Any] = {"size": 2, "decoys": 1, "tasks": 0}


def watch_order(
    problem: Problem,
    alternatives: Sequence[Iterable[str]],
    what: str,
    verdict: str,
    below: Iterable[str] | None = None,
    shared: Iterable[str] = (),
    every: bool = False,
) -> Problem:
    """Add the trap and `told_apart` to a problem.

    `told_apart` measures how well the best of the `alternatives`, sets of edges (the worst, if
    `every` one counts), is ranked above those `below`, by default the edges of no right circuit. Of
    nodes, those at edges that are `shared` do not count. `what` and `verdict` are the trap's.
    """
    model = problem.arguments[0]
    above_each = [set(parts) for parts in alternatives]
    scored = zip(list_edges(model), problem.oracle(), strict=True)
    low = {edge for edge, score in scored if score == 0} if below is None else set(below)

    def measure(answer: Any) -> Metrics:
        if not (found := problem.measure(answer)):
            return {}
        shares = [tell_apart(model, answer, above, low, shared) for above in above_each]
        known = [share for share in shares if share is not None]
        return {**found, "told_apart": (min if every else max)(known)} if known else found

    trap = Trap(what, verdict, lambda metrics: metrics.get("told_apart", 1.0) <= LEAST)
    return dataclasses.replace(problem, measure=measure, trap=trap)


def tell_apart(
    model: Any,
    answer: Tensor | dict[str, float],
    above: set[str],
    below: set[str],
    shared: Iterable[str] = (),
) -> float | None:
    """Measure the share of pairs ranked right; ties count one half.

    Of nodes, those at the ends of edges `above` are compared with those only `below`. Return None
    if scores of nodes cannot say it.
    """
    names = list_edges(model)
    if isinstance(answer, dict):
        names = list_writers(model)
        above, below = (set(list_ends(edges) - {"input", "logits"}) for edges in (above, below))
        above -= list_ends(shared)
        below -= above
        answer = torch.tensor([answer[name] for name in names])
    chosen = [i for i, name in enumerate(names) if name in above | below]
    truth = torch.tensor([names[i] in above for i in chosen])
    return measure_auroc(answer[chosen], truth) if 0 < truth.sum() < len(truth) else None


def find_nodes(case: ForgedCase, role: str) -> Names:
    """Return the nodes of a role."""
    roles = case.truth.roles
    return frozenset(node for name, node in roles.items() if name.rsplit(" ", 1)[0] == role)


def touch(case: ForgedCase, nodes: Names) -> set[str]:
    """Return the edges into and out of these nodes."""
    edges = map(Edge.parse, list_edges(case.model))
    return {str(edge) for edge in edges if nodes & set(map(str, edge[:2]))}


def pretend_attention(name: str, seed: int) -> Problem:
    """Show a head that attends like the right one and moves nothing."""
    case = draw_case(
        "silent",
        seed,
        lambda case: find_nodes(case, "silent"),
        positions="drawn",
        redundancy="none",
        **SMALL,
    )
    return watch_order(
        ask_case(name, seed, case, "zero"),
        alternatives=case.truth.circuits["zero"].edges,
        below=touch(case, find_nodes(case, "silent")),
        what=(
            "A head attends to the previous token, strongly, beside a head that does so for a "
            "match; what it writes, nobody reads."
        ),
        verdict="the silent head is part of the circuit",
    )


def pretend_reaction(name: str, seed: int) -> Problem:
    """Show a head that reacts to the prompt, and that nothing reads."""
    case = draw_case("unread", seed, lambda case: find_nodes(case, "unread"), **SMALL)
    return watch_order(
        ask_case(name, seed, case),
        alternatives=case.truth.circuits["resample"].edges,
        below=touch(case, find_nodes(case, "unread")),
        what="A head brings a variable, at full strength, and nothing reads it.",
        verdict="the head that brings what nobody reads is part of the circuit",
    )


def draw_twice(name: str, seed: int) -> ForgedCase:
    """Forge a model that makes a variable in two ways, of which with zeros either is enough."""
    return draw_case(
        name,
        seed,
        lambda case: len(case.truth.circuits["zero"].edges) > 1,
        redundancy=name.replace("_", " "),
        **SMALL,
    )


def hide_ways(name: str, seed: int) -> Problem:
    """Hide a part behind another that does its job, always or as soon as the first is silent.

    `second_way/several` asks for both parts, the others for either.
    """
    kind, variant = name.split("/")
    case = draw_twice(kind, seed)
    circuits = case.truth.circuits["zero"].edges
    common = frozenset.intersection(*circuits)
    several = variant == "several"
    what = {
        "backup/zero": (
            "A backup does the job as soon as the first MLP is silent, "
            "so that taking out either alone changes nothing."
        ),
        "second_way/zero": (
            "Two MLPs do the same job, and one is enough: "
            "spoiling one of them (noising) changes nothing."
        ),
        "second_way/several": (
            "Several circuits do the task. Whoever finds one has a right answer, but not all; "
            "a score against a single truth may call it wrong."
        ),
    }
    return watch_order(
        ask_case(name, seed, case, "zero"),
        alternatives=[circuit - common for circuit in circuits],
        what=what[name],
        verdict="one of the two does nothing" if several else "neither of the two does anything",
        shared=common,
        every=several,
    )


def saturate(name: str, seed: int) -> Problem:
    """Ask about attention that is too sharp for gradients."""
    knobs = {**SMALL, "positions": "drawn", "saturation": 40}
    case = draw_case("sharp", seed, **knobs)
    circuits = case.truth.circuits["resample"].edges
    return watch_order(
        ask_case(name, seed, case),
        alternatives=[{e for e in one if Edge.parse(e).part in ("q", "k")} for one in circuits],
        what=(
            "The softmax is so far from turning that its gradient is next to 0: "
            "whatever steers the attention has none."
        ),
        verdict="what steers the attention does nothing",
    )


def cancel(name: str, seed: int) -> Problem:
    """Ask about two paths whose slopes cancel at the prompts."""
    made = plant_cancelling(seed)
    note = "Enumeration: x is copied."
    problem = make_problem(name, seed, made.model, made.batch, "resample", made.circuits, note=note)
    return watch_order(
        problem,
        alternatives=[{edge for edge in one if edge.startswith("input")} for one in made.circuits],
        what="The slopes of two paths cancel at the prompts; the paths themselves do not.",
        verdict="x does nothing for the answer",
    )


def count_positions(name: str, seed: int) -> Problem:
    """Ask about a head that looks back by position and so looks like induction."""
    made = plant_period(seed)
    note = "Enumeration: the head looks back by position. All prompts have one period."
    problem = make_problem(name, seed, made.model, made.batch, "zero", made.circuits, note=note)
    previous, behind = made.nodes
    return watch_order(
        problem,
        alternatives=made.circuits,
        below={f"{previous}->{behind}<k>", *(f"input->{previous}<{part}>" for part in "qkv")},
        what=(
            "With one period, a fixed number of positions back is always behind the match: "
            "a head that counts positions looks like one that matches."
        ),
        verdict="a previous-token head and a matching head: induction",
    )


def need_both(name: str, seed: int) -> Problem:
    """Ask about pairs of prompts in which several things differ, and each alone brings nothing."""
    case = draw_case("both", seed, draw_conjunctions, redundancy="none", **SMALL)
    batch = draw_conjunctions(case)
    assert batch is not None
    circuits = case.truth.circuits["resample"]
    problem = make_problem(
        name,
        seed,
        case.model,
        batch,
        "resample",
        circuits.edges,
        circuits.nodes,
        "Enumeration, over all pairs of prompts; on those given no edge can be spared, either.",
    )
    return watch_order(
        problem,
        alternatives=[{e for e in one if not e.endswith("logits")} for one in circuits.edges],
        what=(
            "Several values are needed at once: restoring one of them (denoising) brings nothing "
            "back, spoiling one (noising) loses all."
        ),
        verdict="no single value matters",
    )


def draw_conjunctions(case: ForgedCase) -> Batch | None:
    """Choose pairs of prompts where no token or variable, restored alone, changes the answer.

    Return None if there are none, or if some edge of the circuit can be spared on them.
    """
    assert case.program is not None
    program = case.program
    order = order_tokens(case)
    prompts = program.prompts
    values = program.run(prompts)
    answer = values[program.answer]
    clean, corrupt = (answer[:, None] != answer).nonzero().T
    same = torch.ones(len(clean), dtype=torch.bool)
    for at in program.layout.tokens.values():
        restored = prompts[corrupt].clone()
        restored[:, at] = prompts[clean, at]
        same &= program.compute(restored) == answer[corrupt]
    for step in list(program.steps)[:-1]:
        given = {step: values[step][clean]}
        same &= program.run(prompts[corrupt], given)[program.answer] == answer[corrupt]
    rows = same.nonzero().flatten()[:N_PROMPTS]
    if not len(rows):
        return None
    clean, corrupt = clean[rows], corrupt[rows]
    last = torch.full_like(clean, prompts.shape[1] - 1)
    shown = (order[prompts[clean]], order[prompts[corrupt]], order[answer[clean]])
    batch = Batch(*shown, order[answer[corrupt]], last)
    (circuit,) = case.truth.circuits["resample"].edges
    whole = mask_of(case.model, circuit)
    less = torch.stack([whole - mask_of(case.model, [edge]) for edge in sorted(circuit)])
    with torch.no_grad():
        off = write_outputs(case.model, batch.corrupt)
        right = torch.cat([batch.correct(x) for x in run_masks(case.model, batch.clean, less, off)])
    return None if right.all(dim=1).any() else batch


def ask_across(name: str, seed: int) -> Problem:
    """Ask for the circuit under one ablation with another.

    `needed/resample`: which edges must be there (the circuit with zeros), by resampling, which
    cannot change a constant. `varying/zero`: which edges carry what differs between prompts (the
    circuit with resampling), by zeros that no prompt has there.
    """
    case = draw_case("across", seed, redundancy="none", **SMALL)
    question, ablation = name.split("/")
    by = {kind: case.truth.circuits[kind] for kind in ("zero", "resample")}
    right = by["zero" if question == "needed" else "resample"]
    constants = by["zero"].edges[0] - by["resample"].edges[0]
    batch = draw_batch(case, "resample", seed)
    note = {
        "needed": "Enumeration: right is what must be there at all (the circuit with zeros).",
        "varying": "Enumeration: right is what carries the inputs (the circuit by resampling).",
    }[question]
    problem = make_problem(name, seed, case.model, batch, ablation, right.edges, right.nodes, note)
    if question == "needed":
        return watch_order(
            problem,
            alternatives=[constants],
            what=(
                "Positions and marks are the same in every prompt: "
                "another prompt's values for them are the same values."
            ),
            verdict="the edges that carry constants do nothing",
        )
    return watch_order(
        problem,
        alternatives=right.edges,
        below=constants,
        what=(
            "Some activations are never 0 in any prompt: "
            "a zero there breaks the model, though they say nothing about it."
        ),
        verdict="the edges that carry constants carry the inputs",
    )


TRAPS: dict[str, Build] = {
    "silent/zero": pretend_attention,
    "unread/resample": pretend_reaction,
    "backup/zero": hide_ways,
    "second_way/zero": hide_ways,
    "second_way/several": hide_ways,
    "both/resample": need_both,
    "sharp/resample": saturate,
    "cancelling/resample": cancel,
    "needed/resample": ask_across,
    "varying/zero": ask_across,
    "period/zero": count_positions,
}
