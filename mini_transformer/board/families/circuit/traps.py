"""Circuit problems with a trap.

Three are problems that are there anyway, in which a toy hides or pretends something. The others are
made for their trap: saturation, cancellation, gates asked on one pair of prompts, constants, a
shortcut.
"""

import dataclasses

import torch
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.families.circuit import trap_models
from mini_transformer.board.families.circuit.problems import (
    Names,
    build,
    draw_batch,
    make_problem,
)
from mini_transformer.board.families.circuit.told_apart import watch_order
from mini_transformer.board.metrics.circuit import measure_auroc
from mini_transformer.board.problem import Build, Problem, Trap
from mini_transformer.edges import Edge, Node, list_edges, mask_of

__all__ = ["TRAPS"]

SIZE = 32  # prompts
HOW_GATES_FOOL = {
    "or": (
        "Either bit is enough: spoiling one of them (noising) changes nothing, "
        "restoring one (denoising) brings all back."
    ),
    "and": (
        "Both bits are needed: restoring one of them (denoising) brings nothing back, "
        "spoiling one (noising) loses all."
    ),
}


def pretend_attention(name: str, seed: int) -> Problem:
    """Show a head that attends like the right one and moves nothing."""
    case = toys.load("induction_by_hand", seed)
    silent, match = (case.truth.roles[role] for role in ("silent", "match"))
    reads_input = {f"input->{silent}<{part}>" for part in "qkv"}
    return watch_order(
        build(name, seed),
        alternatives=[case.truth.circuits["zero"].edges[0]],
        below=reads_input | {f"{silent}->{match}<k>"},
        what=(
            "Two heads attend alike; what one of them reads and what it writes miss each other, "
            "so that it moves nothing."
        ),
        verdict="the silent head is part of the circuit",
    )


def hide_backup(name: str, seed: int) -> Problem:
    """Hide a head behind another that does its job as soon as it is silent."""
    problem = build(name, seed)
    case = toys.load("backup_head", seed)
    heads = (case.truth.roles[role] for role in ("mover", "backup"))
    return watch_order(
        problem,
        alternatives=[{f"{head}->logits"} for head in heads],
        what=(
            "A backup does the job as soon as the first head is silent, "
            "so that taking out either alone changes nothing."
        ),
        verdict="neither of the two name movers does anything",
    )


def pretend_reaction(name: str, seed: int) -> Problem:
    """Show a head that reacts to the prompt, and that nothing reads."""
    problem = build(name, seed)
    case = toys.load("unused_feature", seed)
    unused = Node.parse(case.truth.roles["unused"])
    return watch_order(
        problem,
        alternatives=[case.truth.circuits["resample"].edges[0]],
        below={edge for edge in list_edges(case.model) if unused in Edge.parse(edge)},
        what=(
            "A head brings y, at twice the strength, to where the answer is made, "
            "and nothing there reads it."
        ),
        verdict="the head that brings y is part of the circuit",
    )


def saturate(name: str, seed: int) -> Problem:
    """Ask about attention that is too sharp for gradients."""
    case = trap_models.load_sharp_induction(seed)
    (circuit,) = case.truth.circuits["resample"].edges
    problem = make_problem(
        name,
        seed,
        case.model,
        case.task.draw(SIZE, seed, "fresh"),
        "resample",
        [circuit],
        note="induction by hand with attention ten times as sharp; known by enumeration",
    )
    steers = {edge for edge in circuit if Edge.parse(edge).part in ("q", "k")}
    return watch_order(
        problem,
        alternatives=[steers | {f"input->{case.truth.roles['previous']}<v>"}],
        what=(
            "The softmax is so far from turning that its gradient is exactly 0: "
            "whatever steers the attention has none."
        ),
        verdict="what steers the attention does nothing",
    )


def cancel(name: str, seed: int) -> Problem:
    """Ask about two paths whose slopes cancel at the prompts."""
    prompts = torch.tensor([[0, 2], [1, 2]])
    answer = torch.tensor([0, 1])
    batch = toys.Batch(prompts, prompts.flip(0), answer, answer.flip(0), torch.tensor([1, 1]))
    circuit = frozenset({"input->a0.h0<v>", "a0.h0->logits"})
    problem = make_problem(
        name,
        seed,
        trap_models.build_cancelling(),
        batch,
        "resample",
        [circuit],
        note="x is copied; known by enumeration",
    )
    return watch_order(
        problem,
        alternatives=[{"input->a0.h0<v>"}],
        what="The slopes of two paths cancel at the prompts; the paths themselves do not.",
        verdict="x does nothing for the answer",
    )


def ask_both(gate: str, name: str, seed: int) -> tuple[Problem, list[Names]]:
    """Ask a gate about one pair of prompts, and return the problem and the path of each bit.

    Both bits are 1 in the clean prompt and 0 in the corrupt one.
    """
    case = toys.load(f"boolean_{gate}", seed)
    everything = case.task.everything()  # type: ignore[misc]
    row = (everything.clean[:, :2].all(dim=1) & ~everything.corrupt[:, :2].any(dim=1)).nonzero()[0]
    batch = toys.Batch(
        everything.clean[row],
        everything.corrupt[row],
        everything.answer[row],
        everything.wrong[row],
        everything.position[row],
    )
    heads = (case.truth.roles[bit] for bit in "xy")
    ways = [frozenset({f"input->{head}<v>", f"{head}->m0", "m0->logits"}) for head in heads]
    if gate == "or":
        members = ways
        known = "the path of x does, and so does that of y"
    else:
        members = [ways[0] | ways[1]]
        known = "the paths of x and y together"
    note = f"1 1 against 0 0, known by enumeration: {known}"
    return make_problem(name, seed, case.model, batch, "resample", members, note), ways


def ask_one_direction(name: str, seed: int) -> Problem:
    """Ask about a gate that one bit is enough for, or that needs both.

    The first fools noising, the second denoising.
    """
    gate = name.split("/")[0].removeprefix("boolean_")
    problem, ways = ask_both(gate, name, seed)
    return watch_order(
        problem,
        alternatives=[way - {"m0->logits"} for way in ways],
        what=HOW_GATES_FOOL[gate],
        verdict="neither x nor y matters",
    )


def count_ways(name: str, seed: int) -> Problem:
    """Ask for all of two circuits.

    `auroc_single` is what a score against one of them alone would say.
    """
    problem, ways = ask_both("or", name, seed)
    single = mask_of(problem.arguments[0], ways[1]).bool()

    def measure(answer: Tensor | dict[str, float]) -> dict[str, float]:
        found = problem.measure(answer)
        if isinstance(answer, Tensor):
            found["auroc_single"] = measure_auroc(answer, single)
        return found

    trap = Trap(
        "Two circuits do the task. Whoever finds one has a right answer, but not all; "
        "a score against a single truth may call it wrong.",
        "what the circuit leaves out does nothing",
        lambda metrics: metrics["auroc_best"] > 0.95 and metrics["auroc_union"] < 0.9,
    )
    return dataclasses.replace(problem, measure=measure, trap=trap)


def ask_and(
    name: str, seed: int, ablation: str, right: str, note: str
) -> tuple[Problem, Names, Names]:
    """Ask for the circuit of `boolean_and` under one ablation (`right`), with another.

    Return the problem, that circuit, and the edges that carry constants: they are in the circuit
    under zero ablation only.
    """
    case = toys.load("boolean_and", seed)
    circuits = {kind: case.truth.circuits[kind].edges[0] for kind in ("zero", "resample")}
    batch = draw_batch(case, "resample", seed)
    problem = make_problem(name, seed, case.model, batch, ablation, [circuits[right]], note)
    return problem, circuits[right], circuits["zero"] - circuits["resample"]


def ask_mechanism(name: str, seed: int) -> Problem:
    """Ask which edges must be there, by resampling, which cannot change a constant."""
    note = (
        "right is what must be there at all (the circuit under zero ablation), "
        "asked by resampling; known by enumeration"
    )
    problem, _, constants = ask_and(name, seed, "resample", right="zero", note=note)
    return watch_order(
        problem,
        alternatives=[constants],
        what=(
            "Positions and the token = are the same in every prompt: "
            "another prompt's values for them are the same values."
        ),
        verdict="the edges that carry constants do nothing",
    )


def ask_information(name: str, seed: int) -> Problem:
    """Ask which edges carry what differs between prompts, with zeros that no prompt has there."""
    note = (
        "right is what carries x and y (the circuit under resampling), "
        "asked with zeros; known by enumeration"
    )
    problem, circuit, constants = ask_and(name, seed, "zero", right="resample", note=note)
    return watch_order(
        problem,
        alternatives=[circuit],
        below=constants,
        what=(
            "Some activations are never 0 in any prompt: "
            "a zero there breaks the model, though they say nothing about it."
        ),
        verdict="the edges that carry constants carry x or y",
    )


def count_positions(name: str, seed: int) -> Problem:
    """Ask about a head that looks back by position and so looks like induction."""
    tokens, others = (trap_models.draw_repeats(SIZE, 2 * seed + i) for i in range(2))
    answer, wrong = tokens[:, -1], others[:, -1]
    for column in (0, 1):  # another token of the prompt, if the corrupt prompt has the same answer
        wrong = torch.where(wrong == answer, tokens[:, column], wrong)
    position = torch.full_like(answer, tokens.shape[1] - 2)
    circuit = frozenset({"a1.h0->logits", *(f"input->a1.h0<{part}>" for part in "qkv")})
    problem = make_problem(
        name,
        seed,
        trap_models.build_shortcut(),
        toys.Batch(tokens[:, :-1], others[:, :-1], answer, wrong, position),
        "zero",
        [circuit],
        note="the head looks back by position; known by enumeration. All prompts have one period",
    )
    return watch_order(
        problem,
        alternatives=[circuit],
        below={"a0.h0->a1.h0<k>", *(f"input->a0.h0<{part}>" for part in "qkv")},
        what=(
            "With one period, seven back is always behind the match: "
            "a head that counts positions looks like one that matches."
        ),
        verdict="a previous-token head and a matching head: induction",
    )


TRAPS: dict[str, Build] = {
    "induction_by_hand/zero": pretend_attention,
    "backup_head/zero": hide_backup,
    "unused_feature/resample": pretend_reaction,
    "induction_by_hand/sharp": saturate,
    "cancelling/resample": cancel,
    "boolean_or/both_bits": ask_one_direction,
    "boolean_and/both_bits": ask_one_direction,
    "boolean_or/two_circuits": count_ways,
    "boolean_and/needed_by_resample": ask_mechanism,
    "boolean_and/informative_by_zero": ask_information,
    "fixed_period/zero": count_positions,
}
