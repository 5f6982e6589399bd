"""Circuit problems that are there for their trap: saturation, cancellation, gates asked on one pair of prompts, constants, a shortcut."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mini_transformer import Transformer, toys
from mini_transformer.board import trap_models
from mini_transformer.board.circuit_metrics import measure_auroc, score_circuit
from mini_transformer.board.problem import Problem, Trap
from mini_transformer.board.problems_circuits import draw_batch, draw_scores
from mini_transformer.board.traps import watch_order
from mini_transformer.edges import Ablation, list_edges, list_writers, mask_of

Edges = frozenset[str]
SIZE = 32  # prompts


def make_problem(
    name: str,
    seed: int,
    model: Transformer,
    batch: toys.Batch,
    ablation: Ablation,
    members: Sequence[Edges],
    note: str,
) -> Problem:
    """Score edges (or nodes) against these circuits; with ablation "zero", `corrupt` is not used."""
    masks, writers = (
        torch.stack([mask_of(model, edges) for edges in members]).bool(),
        list_writers(model),
    )
    nodes = torch.tensor(
        [[any(writer in edge for edge in edges) for writer in writers] for edges in members]
    )

    def measure(answer: Tensor | dict[str, float]) -> dict[str, float]:
        if not isinstance(answer, dict):
            return score_circuit(answer, masks)
        if nodes.any(dim=0).all():  # nothing can be ranked below the circuit
            return {}
        return score_circuit(torch.tensor([answer[writer] for writer in writers]), nodes)

    rest = (batch.clean, batch.corrupt, batch.logit_difference, ablation)
    return Problem(
        "circuit",
        name,
        seed,
        arguments=(model, *rest),
        untrained=(Transformer(model.config, seed=seed), *rest),
        measure=measure,
        oracle=lambda: 2.0 * masks[0] + masks.any(dim=0),
        random=lambda draw: draw_scores(len(list_edges(model)), draw),
        n_prompts=len(batch.clean),
        note=note,
    )


def saturate(name: str, seed: int) -> Problem:
    case = trap_models.load_sharp_induction(seed)
    batch, (circuit,) = case.task.draw(SIZE, seed, "fresh"), case.truth.circuits["resample"].edges
    note = "induction by hand with attention ten times as sharp; known by enumeration"
    problem = make_problem(name, seed, case.model, batch, "resample", [circuit], note)
    through = {edge for edge in circuit if edge.endswith(("<q>", "<k>"))} | {
        f"input->{case.truth.roles['previous']}<v>"
    }
    what = "The softmax is so far from turning that its gradient is exactly 0: whatever steers the attention has none."
    return watch_order(
        problem,
        [through],
        list_idle(problem, [circuit]),
        what,
        "what steers the attention does nothing",
    )


def cancel(name: str, seed: int) -> Problem:
    model, last = trap_models.build_cancelling(), torch.tensor([1, 1])
    prompts = torch.tensor([[0, 2], [1, 2]])
    batch = toys.Batch(prompts, prompts.flip(0), torch.tensor([0, 1]), torch.tensor([1, 0]), last)
    circuit = frozenset({"input->a0.h0<v>", "a0.h0->logits"})
    problem = make_problem(
        name, seed, model, batch, "resample", [circuit], "x is copied; known by enumeration"
    )
    what = "The slopes of two paths cancel at the prompts; the paths themselves do not."
    verdict = "x does nothing for the answer"
    return watch_order(problem, [{"input->a0.h0<v>"}], list_idle(problem, [circuit]), what, verdict)


def ask_both(gate: str, name: str, seed: int) -> tuple[Problem, list[Edges]]:
    """Both bits are 1 in the clean prompt and 0 in the corrupt one; with the path of each bit."""
    case = toys.load(f"boolean_{gate}", seed)
    everything = case.task.everything()  # type: ignore[misc]
    row = (everything.clean[:, :2].all(dim=1) & ~everything.corrupt[:, :2].any(dim=1)).nonzero()[0]
    parts = (
        everything.clean,
        everything.corrupt,
        everything.answer,
        everything.wrong,
        everything.position,
    )
    batch, heads = (
        toys.Batch(*(part[row] for part in parts)),
        (case.truth.roles[bit] for bit in "xy"),
    )
    ways = [frozenset({f"input->{head}<v>", f"{head}->m0", "m0->logits"}) for head in heads]
    members = ways if gate == "or" else [ways[0] | ways[1]]
    known = (
        "the path of x does, and so does that of y"
        if gate == "or"
        else "the paths of x and y together"
    )
    note = f"1 1 against 0 0, known by enumeration: {known}"
    return make_problem(name, seed, case.model, batch, "resample", members, note), ways


def spoil_or(name: str, seed: int) -> Problem:
    problem, ways = ask_both("or", name, seed)
    what = "Either bit is enough: spoiling one of them (noising) changes nothing, restoring one (denoising) brings all back."
    hidden = [way - {"m0->logits"} for way in ways]
    return watch_order(problem, hidden, list_idle(problem, ways), what, "neither x nor y matters")


def restore_and(name: str, seed: int) -> Problem:
    problem, ways = ask_both("and", name, seed)
    what = "Both bits are needed: restoring one of them (denoising) brings nothing back, spoiling one (noising) loses all."
    hidden = [way - {"m0->logits"} for way in ways]
    return watch_order(problem, hidden, list_idle(problem, ways), what, "neither x nor y matters")


def count_ways(name: str, seed: int) -> Problem:
    """`auroc_single` is what a score against one of the two circuits alone would say."""
    problem, ways = ask_both("or", name, seed)
    single = mask_of(problem.arguments[0], ways[1]).bool()

    def measure(answer: Tensor | dict[str, float]) -> dict[str, float]:
        found = problem.measure(answer)
        return (
            {**found, "auroc_single": measure_auroc(answer, single)}
            if isinstance(answer, Tensor)
            else found
        )

    trap = Trap(
        "Two circuits do the task. Whoever finds one has a right answer, but not all; a score against a single truth may call it wrong.",
        "what the circuit leaves out does nothing",
        lambda metrics: metrics["auroc_best"] > 0.95 and metrics["auroc_union"] < 0.9,
    )
    return dataclasses.replace(problem, measure=measure, trap=trap)


def ask_mechanism(name: str, seed: int) -> Problem:
    """Which edges must be there? asked by resampling, which cannot change a constant."""
    case = toys.load("boolean_and", seed)
    (circuit,) = case.truth.circuits["zero"].edges
    constants = circuit - case.truth.circuits["resample"].edges[0]
    note = "right is what must be there at all (the circuit under zero ablation), asked by resampling; known by enumeration"
    problem = make_problem(
        name, seed, case.model, draw_batch(case, "resample", seed), "resample", [circuit], note
    )
    what = "Positions and the token = are the same in every prompt: another prompt's values for them are the same values."
    return watch_order(
        problem,
        [constants],
        list_idle(problem, [circuit]),
        what,
        "the edges that carry constants do nothing",
    )


def ask_information(name: str, seed: int) -> Problem:
    """Which edges carry what differs between prompts? asked with zeros, which no prompt ever has there."""
    case = toys.load("boolean_and", seed)
    (circuit,) = case.truth.circuits["resample"].edges
    constants = case.truth.circuits["zero"].edges[0] - circuit
    note = "right is what carries x and y (the circuit under resampling), asked with zeros; known by enumeration"
    problem = make_problem(
        name, seed, case.model, draw_batch(case, "resample", seed), "zero", [circuit], note
    )
    what = "Some activations are never 0 in any prompt: a zero there breaks the model, though they say nothing about it."
    return watch_order(
        problem, [circuit], constants, what, "the edges that carry constants carry x or y"
    )


def count_positions(name: str, seed: int) -> Problem:
    model = trap_models.build_shortcut()
    tokens, others = (trap_models.draw_repeats(SIZE, 2 * seed + i) for i in range(2))
    answer, other = tokens[:, -1], others[:, -1]
    wrong = torch.where(other == answer, tokens[:, 0], other)
    position = torch.full_like(answer, tokens.shape[1] - 2)
    circuit = frozenset({"a1.h0->logits", *(f"input->a1.h0<{part}>" for part in "qkv")})
    note = "the head looks back by position; known by enumeration. All prompts have one period"
    batch = toys.Batch(
        tokens[:, :-1],
        others[:, :-1],
        answer,
        torch.where(wrong == answer, tokens[:, 1], wrong),
        position,
    )
    problem = make_problem(name, seed, model, batch, "zero", [circuit], note)
    decoy = {"a0.h0->a1.h0<k>", *(f"input->a0.h0<{part}>" for part in "qkv")}
    what = "With one period, seven back is always behind the match: a head that counts positions looks like one that matches."
    return watch_order(
        problem, [circuit], decoy, what, "a previous-token head and a matching head: induction"
    )


def list_idle(problem: Problem, members: Sequence[Edges]) -> set[str]:
    """The edges of no right circuit."""
    return set(list_edges(problem.arguments[0])) - set().union(*members)


BUILDERS: dict[str, Callable[[str, int], Problem]] = {
    "induction_by_hand/sharp": saturate,
    "cancelling/resample": cancel,
    "boolean_or/both_bits": spoil_or,
    "boolean_and/both_bits": restore_and,
    "boolean_or/two_circuits": count_ways,
    "boolean_and/needed_by_resample": ask_mechanism,
    "boolean_and/informative_by_zero": ask_information,
    "fixed_period/zero": count_positions,
}
NAMES, QUICK = tuple(BUILDERS), ("boolean_and/needed_by_resample",)


def build(name: str, seed: int = 0) -> Problem:
    """The problem of that name.

    >>> problem = build("cancelling/resample")
    >>> problem.measure(problem.oracle())["told_apart"]
    1.0
    """
    return BUILDERS[name](name, seed)
