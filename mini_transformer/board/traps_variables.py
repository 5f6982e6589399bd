"""Problems of the variables family that are there for their trap: a direction that is never used, and a map that may compute anything."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer import Transformer, toys
from mini_transformer.board import trap_models
from mini_transformer.board.problem import Control, Metrics, Problem, Trap
from mini_transformer.board.problems_variables import Pairs, draw_rows, measure_swaps
from mini_transformer.board.subspace_metrics import find_basis

SITE, LAST = "blocks.0.hook_resid_mid", 2
N_Y = 2  # values of y, so that the pairs given are two thirds of all


def find_dormant(name: str, seed: int) -> Problem:
    """x at the answer's position: one direction, beside a louder one that nobody reads and one that nobody writes."""
    model, stream, prompts = (
        trap_models.build_dormant(),
        trap_models.make_dormant_stream(),
        trap_models.list_bits(),
    )
    problem = make_problem(
        name, seed, model, "blocks.0.hook_attn_out", prompts, lambda x: x, stream["carried"]
    )

    def measure(answer: Any) -> Metrics:
        rows = find_basis(getattr(answer, "rows", answer)).to(stream["dormant"])
        return {
            **problem.measure(answer),
            "dormant": (rows @ stream["dormant"].T).square().sum().item(),
        }

    trap = Trap(
        "One direction varies with x and is not read, another would be read and never varies: a swap along both at once moves the answer.",
        "x is carried along a direction that no prompt ever uses",
        lambda metrics: metrics["interchange"] > 0.9 and metrics["dormant"] > 0.15,
    )
    return dataclasses.replace(problem, measure=measure, trap=trap)


def compare_untrained(name: str, seed: int) -> Problem:
    """x in `unused_feature`, beside the same search in a model with random weights."""
    case = toys.load("unused_feature", seed)
    prompts = torch.nn.functional.pad(
        torch.cartesian_prod(torch.arange(8), torch.arange(N_Y)), (0, 1), value=8
    )
    rows = case.truth.variables["x"].subspace
    truth = find_basis(rows - rows.mean(dim=0)).to(rows)
    problem = make_problem(name, seed, case.model, SITE, prompts, lambda x: (x + 1) % 8, truth)
    in_untrained = problem.measure_untrained
    assert in_untrained is not None

    def add(metrics: Metrics, answer: Any) -> Metrics:
        return {**metrics, "interchange_untrained": in_untrained(answer)["interchange"]}

    trap = Trap(
        "A map that may be any invertible function computes what the model does not: it aligns random weights as well.",
        "the model carries x, since swaps bring the counterfactual answers",
        lambda metrics: (
            min(metrics["interchange"], metrics.get("interchange_untrained", 0.0)) > 0.8
        ),
    )
    return dataclasses.replace(problem, trap=trap, control=Control(problem.untrained, add))


def make_problem(
    name: str,
    seed: int,
    model: Transformer,
    hook: str,
    prompts: Tensor,
    follow: Callable[[Tensor], Tensor],
    truth: Tensor,
) -> Problem:
    """The variable is the first token, and `follow` maps its value to the answer; two thirds of all pairs are given."""
    untrained = Transformer(model.config, seed)
    pairs = (~torch.eye(len(prompts)).bool()).nonzero()
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))]

    def pair(rows: Tensor) -> Pairs:
        base, source = prompts[rows[:, 0]], prompts[rows[:, 1]]
        return Pairs(base, source, follow(source[:, 0]), LAST, LAST, len(truth))

    seen, fresh = pair(pairs[: 2 * len(pairs) // 3]), pair(pairs[2 * len(pairs) // 3 :])
    same = fresh.base[:, 0] == fresh.source[:, 0]
    return Problem(
        "variables",
        name,
        seed,
        arguments=(model, hook, seen),
        untrained=(untrained, hook, seen),
        measure=lambda answer: measure_swaps(model, hook, fresh, same, truth, answer),
        measure_untrained=lambda answer: measure_swaps(untrained, hook, fresh, same, truth, answer),
        oracle=lambda: truth,
        random=lambda number: draw_rows(len(truth), truth.shape[1], number),
        n_prompts=len(seen.base),
        note="the first token at the answer's position, by construction: the only subspace that is written and read",
    )


BUILDERS = {"dormant/x": find_dormant, "unused_feature/x_beside_untrained": compare_untrained}
NAMES, QUICK = tuple(BUILDERS), ("dormant/x",)


def build(name: str, seed: int = 0) -> Problem:
    """The problem of that name.

    >>> problem = build("dormant/x")
    >>> found = problem.measure(problem.oracle())
    >>> found["overlap"], found["interchange"], found["dormant"]
    (1.0, 1.0, 0.0)
    """
    return BUILDERS[name](name, seed)
