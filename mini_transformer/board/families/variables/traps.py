"""Variables problems with a trap: a direction that is never used, and a map too free."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer import Transformer
from mini_transformer.board.families.variables.dormant import build_dormant
from mini_transformer.board.families.variables.problems import Pairs, make_problem
from mini_transformer.board.forged import salt
from mini_transformer.board.metrics.subspace import find_basis
from mini_transformer.board.problem import Build, Control, Metrics, Problem, Trap, load_case
from mini_transformer.forge import disguise

__all__ = ["TRAPS", "compare_untrained", "find_dormant"]

LAST = 2  # the position of the answer
N_Y = 2  # values of y, so that the pairs given are two thirds of all


def find_dormant(name: str, seed: int) -> Problem:
    """Ask for x at the answer's position, which is one direction.

    Beside it is a louder one that nobody reads, and one that nobody writes.

    >>> problem = find_dormant("dormant/x", 0)
    >>> found = problem.measure(problem.oracle())
    >>> found["overlap"], found["interchange"], round(found["dormant"], 6)
    (1.0, 1.0, 0.0)
    """
    made = build_dormant(seed)
    problem = ask_first_token(
        name,
        seed,
        made.model,
        "blocks.0.hook_attn_out",
        made.prompts,
        follow=lambda x: x,
        truth=made.carried,
    )

    def measure(answer: Any) -> Metrics:
        rows = find_basis(getattr(answer, "rows", answer)).to(made.dormant)
        dormant = (rows @ made.dormant.T).square().sum().item()
        return {**problem.measure(answer), "dormant": dormant}

    trap = Trap(
        "One direction varies with x and is not read, another would be read and never varies: "
        "a swap along both at once moves the answer.",
        "x is carried along a direction that no prompt ever uses",
        lambda metrics: metrics["interchange"] > 0.9 and metrics["dormant"] > 0.15,
    )
    return dataclasses.replace(problem, measure=measure, trap=trap)


def compare_untrained(name: str, seed: int) -> Problem:
    """Ask for x in `unused_feature`, turned, beside the same search in random weights."""
    case = load_case("unused_feature", seed)
    found = disguise(case.model, torch.Generator().manual_seed(salt("turn", seed)))
    digits = torch.cartesian_prod(torch.arange(8), torch.arange(N_Y))
    rows = case.truth.variables["x"].subspace @ found.turn
    problem = ask_first_token(
        name,
        seed,
        found.model,
        "blocks.0.hook_resid_mid",
        torch.nn.functional.pad(digits, (0, 1), value=8),
        follow=lambda x: (x + 1) % 8,
        truth=find_basis(rows - rows.mean(dim=0)).to(rows),
    )
    in_untrained = problem.measure_untrained
    assert in_untrained is not None

    def add(metrics: Metrics, answer: Any) -> Metrics:
        return {**metrics, "interchange_untrained": in_untrained(answer)["interchange"]}

    trap = Trap(
        "A map that may be any invertible function computes what the model does not: "
        "it aligns random weights as well.",
        "the model carries x, since swaps bring the counterfactual answers",
        lambda metrics: (
            min(metrics["interchange"], metrics.get("interchange_untrained", 0.0)) > 0.8
        ),
    )
    return dataclasses.replace(problem, trap=trap, control=Control(problem.untrained, add))


def ask_first_token(
    name: str,
    seed: int,
    model: Transformer,
    hook: str,
    prompts: Tensor,
    follow: Callable[[Tensor], Tensor],
    truth: Tensor,
) -> Problem:
    """Ask for the first token as a variable; `follow` maps its value to the answer.

    Two thirds of all pairs are given, the others are held out.
    """
    pairs = (~torch.eye(len(prompts)).bool()).nonzero()
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))]

    def pair(rows: Tensor) -> Pairs:
        base, source = (prompts[side] for side in rows.T)
        return Pairs(base, source, follow(source[:, 0]), LAST, LAST, len(truth))

    n_given = 2 * len(pairs) // 3
    held_out = pair(pairs[n_given:])
    return make_problem(
        name,
        seed,
        model,
        hook,
        pair(pairs[:n_given]),
        held_out,
        same=held_out.base[:, 0] == held_out.source[:, 0],
        truth=truth,
        note=(
            "the first token at the answer's position, by construction: "
            "the only subspace that is written and read"
        ),
    )


TRAPS: dict[str, Build] = {
    "dormant/x": find_dormant,
    "unused_feature/x_beside_untrained": compare_untrained,
}
