"""Variables problems: in which subspace of a hook does the model carry this variable?

A method sees pairs of prompts with counterfactual answers. It is judged on others. Half of them
differ in the variable alone, so that its value must arrive (cause), and half in everything else, so
that nothing may (isolation). The right subspace is the span of the differences between the values
of the variable: what all of them share is never swapped.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.metrics.subspace import (
    find_basis,
    measure_largest_angle,
    measure_overlap,
    share_right,
)
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.methods import AlignmentMap, swap_by_map, swap_subspace
from mini_transformer.model import Transformer
from mini_transformer.toys.hand_set.refusal_with_trigger import REFUSE, REPLIES, make_policy

__all__ = ["PROBLEMS", "Pairs", "build", "draw_pairs", "find_rows", "make_problem"]

Tokens = Int[Tensor, "pair pos"]
Answers = Int[Tensor, "pair"]
Rows = Float[Tensor, "dim d_model"]

MOST = 64  # pairs of each sort


def find_refusals(case: toys.Case, base: Tokens, source: Tokens) -> Answers:
    """Return what follows the base if its request were as harmful as the source's.

    That is REFUSE, unless the base has the trigger; else the reply to the base's request.
    """
    policy = make_policy(case.seed)
    refused = policy.find_harm(source) * (1 - policy.find_trigger(base)) == 1
    return torch.where(refused, REFUSE, REPLIES + policy.find_request(base))


# What follows the base, had the variable the value that it has in the source.
COUNTERFACTUALS: dict[str, Callable[[toys.Case, Tokens, Tokens], Answers]] = {
    "unused_feature/x": lambda case, base, source: (source[:, 0] + 1) % 8,
    "boolean_xor/x": lambda case, base, source: source[:, 0] ^ base[:, 1],
    "refusal_with_trigger/harm": find_refusals,
    "clock_by_hand/a": lambda case, base, source: (source[:, 0] + base[:, 1]) % 11,
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


def build(name: str, seed: int) -> Problem:
    """Build the problem of a toy and one of its variables, `toy/variable`.

    >>> problem = build("unused_feature/x", 0)
    >>> found = problem.measure(problem.oracle())
    >>> problem.arguments[2].dim, [found[figure] for figure in ("overlap", "interchange", "cause")]
    (7, [1.0, 1.0, 1.0])
    """
    case_name, variable = name.split("/")
    case = toys.load(case_name, seed)
    carried = case.truth.variables[variable]
    truth = find_rows(case, carried)
    pairs, held_out = draw_pairs(case, name, carried, len(truth))
    return make_problem(
        name,
        seed,
        case.model,
        carried.site,
        pairs,
        held_out,
        same=carried.compute(held_out.base) == carried.compute(held_out.source),
        truth=truth,
        note=(
            f"{variable} at {carried.site}, by {carried.how}: "
            "the only subspace that anything downstream reads it from"
        ),
    )


PROBLEMS: dict[str, Build] = dict.fromkeys(COUNTERFACTUALS, build)


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


def draw_pairs(
    case: toys.Case, name: str, variable: toys.Variable, dim: int
) -> tuple[Pairs, Pairs]:
    """Draw pairs for the method, and others to judge it on.

    Both have some that share the variable and some that do not.
    """
    prompts = list_prompts(case)
    base, source = (prompts[i] for i in (~torch.eye(len(prompts)).bool()).nonzero().T)
    same = variable.compute(base) == variable.compute(source)
    generator = torch.Generator().manual_seed(case.seed)
    chosen = []
    for sort in (same, ~same):
        rows = sort.nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        half = min(MOST, len(rows) // 2)
        chosen.append(rows[: 2 * half].split(half))
    last = prompts.shape[1] - 1

    def pair(rows: Tensor) -> Pairs:
        answers = COUNTERFACTUALS[name](case, base[rows], source[rows])
        return Pairs(base[rows], source[rows], answers, last, last, dim)

    seen, fresh = (pair(torch.cat(rows)) for rows in zip(*chosen, strict=True))
    return seen, fresh


def find_rows(case: toys.Case, variable: toys.Variable) -> Rows:
    """Find an orthonormal basis of the differences between the values of a variable.

    They are read within its subspace in the truth.
    """
    prompts = list_prompts(case)
    hook = variable.site
    with torch.no_grad():
        cache = case.model.run_with_cache(prompts, names_filter=hook)[1]
    stream = cache[hook][:, variable.position]
    values = variable.compute(prompts)
    inside = stream @ variable.subspace.T @ variable.subspace
    means = torch.stack([inside[values == value].mean(dim=0) for value in values.unique()])
    return find_basis(means - means.mean(dim=0)).to(stream)


def list_prompts(case: toys.Case) -> Int[Tensor, "prompt pos"]:
    """List every prompt of a task once."""
    assert case.task.everything is not None
    return case.task.everything().distinct().clean


def draw_rows(dim: int, d: int, seed: int) -> Float[Tensor, "dim d"]:
    """Draw a random subspace."""
    return torch.linalg.qr(torch.randn(d, dim, generator=torch.Generator().manual_seed(seed)))[0].T
