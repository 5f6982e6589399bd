"""Variables problems: in which subspace of a hook does a forged model carry this variable?

A method sees pairs of prompts with counterfactual answers, which the program of the model computes.
It is judged on others. A third of them differ in other things only, so that nothing may change
(isolation); in the others the variable's value must arrive (cause), in half of them with another
answer. The right subspace is the span of the differences between the values of the variable: what
all of them share is never swapped.
"""

import random
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer.board.forged import draw_case, order_tokens, salt
from mini_transformer.board.metrics.subspace import (
    find_basis,
    measure_largest_angle,
    measure_overlap,
    share_right,
)
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.forge import ForgedCase
from mini_transformer.methods import AlignmentMap, swap_by_map, swap_subspace
from mini_transformer.model import Transformer

__all__ = ["PROBLEMS", "Pairs", "ask_forged", "draw_rows", "make_problem"]

Tokens = Int[Tensor, "pair pos"]
Answers = Int[Tensor, "pair"]
Rows = Float[Tensor, "dim d_model"]

MOST = 32  # pairs of each sort
LEAST = 4
OPERATIONS = {
    "brought": ("fetch", "match"),
    "computed": ("and", "or", "xor", "add", "threshold", "table"),
}


@dataclass(frozen=True)
class Pairs:
    """Pairs of prompts with counterfactual answers.

    `answers[i]` follows base i, had the variable the value it has in source i. `position` is where
    the activation is to be swapped, `answer_position` where the answer is, `dim` how many
    directions carry the variable.
    """

    base: Tokens
    source: Tokens
    answers: Answers
    position: int
    answer_position: int
    dim: int


@dataclass(frozen=True)
class Drawn:
    """A variable of a forged model, pairs of prompts to find it by, and others to judge by.

    `same` tells which of the latter have one value of the variable.
    """

    name: str
    pairs: Pairs
    held_out: Pairs
    same: Bool[Tensor, "pair"]


def ask_forged(name: str, seed: int) -> Problem:
    """Ask for a variable that a head has brought, or an MLP computed: `forge/sort`.

    >>> problem = ask_forged("forge/brought", 0)
    >>> found = problem.measure(problem.oracle())
    >>> [found[figure] for figure in ("overlap", "interchange", "cause")]
    [1.0, 1.0, 1.0]
    """
    sort = name.split("/")[1]
    draw = partial(draw_variable, sort=sort, seed=seed)
    case = draw_case(sort, seed, draw, size=3, decoys=1, tasks=0)
    drawn = draw(case)
    assert drawn is not None
    variable = case.truth.variables[drawn.name]
    return make_problem(
        name,
        seed,
        case.model,
        variable.site,
        drawn.pairs,
        drawn.held_out,
        drawn.same,
        truth=find_basis(variable.subspace - variable.subspace.mean(dim=0)).to(case.model.W_E),
        note=(
            "Construction: a variable of the program, in the only subspace that anything of the "
            "program reads it from; decoys read it, too"
        ),
    )


PROBLEMS: dict[str, Build] = {f"forge/{sort}": ask_forged for sort in OPERATIONS}


def draw_variable(case: ForgedCase, sort: str, seed: int) -> Drawn | None:
    """Draw a variable of this sort with enough pairs of prompts, or None if there is none."""
    assert case.program is not None
    steps = case.program.steps
    names = [name for name in case.truth.variables if steps[name].op in OPERATIONS[sort]]
    random.Random(salt("variable", seed)).shuffle(names)
    each = (draw_pairs(case, name, seed) for name in names)
    return next((drawn for drawn in each if drawn is not None), None)


def draw_pairs(case: ForgedCase, name: str, seed: int) -> Drawn | None:
    """Draw pairs of three sorts for the method, and as many others to judge it on."""
    program = case.program
    assert program is not None
    prompts = program.prompts
    values = program.run(prompts)
    base, source = (~torch.eye(len(prompts), dtype=torch.bool)).nonzero().T
    swapped = program.run(prompts[base], {name: values[name][source]})[program.answer]
    same = values[name][base] == values[name][source]
    moved = swapped != values[program.answer][base]
    generator = torch.Generator().manual_seed(seed)
    halves = []
    for sort in (same, moved, ~same & ~moved):
        rows = sort.nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        half = min(MOST, len(rows) // 2)
        halves.append(rows[: 2 * half].split(half) if half else (rows[:0], rows[:0]))
    if min(len(halves[0][0]), len(halves[1][0])) < LEAST:
        return None
    order = order_tokens(case)

    def pair(rows: Tensor) -> Pairs:
        one, other = (order[prompts[side[rows]]] for side in (base, source))
        at, last = program.steps[name].at, prompts.shape[1] - 1
        return Pairs(one, other, order[swapped[rows]], at, last, dim=program.layout.n - 1)

    seen, fresh = (torch.cat(rows) for rows in zip(*halves, strict=True))
    return Drawn(name, pair(seen), pair(fresh), same[fresh])


def make_problem(
    name: str,
    seed: int,
    model: Transformer,
    hook: str,
    pairs: Pairs,
    held_out: Pairs,
    same: Bool[Tensor, "pair"],
    truth: Rows,
    note: str,
) -> Problem:
    """Make the problem of finding the subspace `truth` from `pairs`.

    It is judged on the pairs `held_out`, of which `same` have one value of the variable.
    """
    untrained = Transformer(model.config, seed)
    return Problem(
        "variables",
        name,
        seed,
        arguments=(model, hook, pairs),
        untrained=(untrained, hook, pairs),
        measure=lambda answer: measure_swaps(model, hook, held_out, same, truth, answer),
        measure_untrained=lambda answer: measure_swaps(
            untrained, hook, held_out, same, truth, answer
        ),
        oracle=lambda: truth,
        random=lambda draw: draw_rows(len(truth), truth.shape[1], draw),
        n_prompts=len(pairs.base),
        note=note,
    )


def measure_swaps(
    model: Transformer,
    hook: str,
    pairs: Pairs,
    same: Bool[Tensor, "pair"],
    truth: Rows,
    answer: Float[Tensor, "_dim d_model"] | AlignmentMap,
) -> Metrics:
    """Measure a subspace in this model, or a map: its axes are compared, its swaps are judged."""
    swap = (model, pairs.base, pairs.source)
    if isinstance(answer, AlignmentMap):
        rows = answer.rows
        logits = swap_by_map(*swap, answer, hook, pairs.position)
    else:
        rows = find_basis(answer).to(model.W_E)
        logits = swap_subspace(*swap, rows, hook, pairs.position)
    predicted = logits[:, pairs.answer_position].argmax(dim=1)
    return {
        "overlap": measure_overlap(rows, truth),
        "largest_angle": measure_largest_angle(rows, truth),
        **share_right(predicted, pairs.answers, same),
    }


def draw_rows(dim: int, d: int, seed: int) -> Float[Tensor, "dim d"]:
    """Draw a random subspace."""
    return torch.linalg.qr(torch.randn(d, dim, generator=torch.Generator().manual_seed(seed)))[0].T
