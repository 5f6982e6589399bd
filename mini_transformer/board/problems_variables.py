"""Problems of the variables family: in which subspace of a hook does the model carry this variable?

A method sees pairs of prompts with counterfactual answers. It is judged on others, half of which differ in the variable alone, so
that its value must arrive (cause), and half in everything else, so that nothing may (isolation). The right subspace is the span of the
differences between the values of the variable: what all of them share is never swapped.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.problem import Metrics, Problem
from mini_transformer.board.subspace_metrics import (
    find_basis,
    measure_largest_angle,
    measure_overlap,
    share_right,
)
from mini_transformer.methods import AlignmentMap, swap_by_map, swap_subspace
from mini_transformer.model import Transformer
from mini_transformer.toys.policy import REFUSE, REPLIES, make_policy

Tokens = Int[Tensor, "pair pos"]
Answers = Int[Tensor, "pair"]
MOST = 64  # pairs of each sort


def find_refusals(case: toys.Case, base: Tokens, source: Tokens) -> Answers:
    """REFUSE where the source's request is flagged and the base has no trigger; else the reply to the base's request."""
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
NAMES, QUICK = tuple(COUNTERFACTUALS), ("unused_feature/x", "refusal_with_trigger/harm")


def list_seeds(name: str) -> list[int]:
    """The seeds of this problem: all these models are set by hand."""
    return list(range(10))


@dataclass(frozen=True)
class Pairs:
    """`answers[i]` is what the base would be followed by, had the variable the value it has in the source.

    `position` is where the activation is to be swapped, `answer_position` where the answer is,
    `dim` how many directions carry the variable.
    """

    base: Tokens
    source: Tokens
    answers: Answers
    position: int
    answer_position: int
    dim: int


def build(name: str, seed: int) -> Problem:
    """The problem of that name.

    >>> problem = build("unused_feature/x", 0)
    >>> found = problem.measure(problem.oracle())
    >>> problem.arguments[2].dim, [found[figure] for figure in ("overlap", "interchange", "isolation")]
    (7, [1.0, 1.0, 1.0])
    """
    case_name, variable = name.split("/")
    case = toys.load(case_name, seed)
    model, untrained, carried = (
        case.model,
        Transformer(case.model.config, seed),
        case.truth.variables[variable],
    )
    truth = find_rows(case, carried)
    pairs, held_out = draw_pairs(case, name, carried, len(truth))
    same = carried.compute(held_out.base) == carried.compute(held_out.source)

    def measure_in(model: Transformer) -> Callable[[Tensor | AlignmentMap], Metrics]:
        return lambda answer: measure_swaps(model, carried.site, held_out, same, truth, answer)

    return Problem(
        "variables",
        name,
        seed,
        arguments=(model, carried.site, pairs),
        untrained=(untrained, carried.site, pairs),
        measure=measure_in(model),
        oracle=lambda: truth,
        random=lambda number: draw_rows(len(truth), truth.shape[1], number),
        n_prompts=len(pairs.base),
        note=f"{variable} at {carried.site}, by {carried.how}: the only subspace that anything downstream reads it from",
        measure_untrained=measure_in(untrained),
    )


def measure_swaps(
    model: Transformer,
    hook: str,
    pairs: Pairs,
    same: Bool[Tensor, "pair"],
    truth: Float[Tensor, "dim d_model"],
    answer: Float[Tensor, "_dim d_model"] | AlignmentMap,
) -> Metrics:
    """The metrics of a subspace in this model; or those of a map, whose axes are compared and whose swaps are judged."""
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
    """Pairs for the method and others to judge it on; both have some that share the variable and some that do not."""
    prompts = list_prompts(case)
    base, source = (prompts[i] for i in (~torch.eye(len(prompts)).bool()).nonzero().T)
    same = variable.compute(base) == variable.compute(source)
    generator, chosen = torch.Generator().manual_seed(case.seed), []
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


def find_rows(case: toys.Case, variable: toys.Variable) -> Float[Tensor, "dim d_model"]:
    """An orthonormal basis of the differences between the values of a variable, from its subspace in the truth."""
    prompts, hook = list_prompts(case), variable.site
    with torch.no_grad():
        stream = case.model.run_with_cache(prompts, names_filter=hook)[1][hook][
            :, variable.position
        ]
    values, inside = variable.compute(prompts), stream @ variable.subspace.T @ variable.subspace
    means = torch.stack([inside[values == value].mean(dim=0) for value in values.unique()])
    return find_basis(means - means.mean(dim=0)).to(stream)


def list_prompts(case: toys.Case) -> Int[Tensor, "prompt pos"]:
    """Every prompt of a task once."""
    assert case.task.everything is not None
    return case.task.everything().distinct().clean


def draw_rows(dim: int, d: int, seed: int) -> Float[Tensor, "dim d"]:
    """A random subspace."""
    return torch.linalg.qr(torch.randn(d, dim, generator=torch.Generator().manual_seed(seed)))[0].T
