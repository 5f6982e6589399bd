"""Probe problems with a trap.

One is there anyway. The other is made for its trap: a label that the model never computes, and that
can be read all the same.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled_prompts
from mini_transformer.board.families.probe.problems import build, draw_probe
from mini_transformer.board.labelled_prompts import LabelledPrompts
from mini_transformer.board.metrics.probe import measure_causal_use, measure_cosine, share_equal
from mini_transformer.board.problem import Build, Metrics, Problem, Trap
from mini_transformer.model import Transformer

__all__ = ["TRAPS", "read_parity", "read_unread"]

HOOK = "blocks.1.hook_resid_post"
PER_CELL = 12  # prompts of each of the four combinations


@dataclass(frozen=True)
class Parity:
    """Tell whether an odd number of the first two of these directions is on.

    Three directions hold that, and no single one.
    """

    directions: Float[Tensor, "3 d"]

    def predict(self, activations: Float[Tensor, "n d"]) -> Tensor:
        """Return 1 for an odd number, 0 for an even one."""
        return (activations @ self.directions[:2].T > 0.5).sum(dim=1) % 2


def read_unread(name: str, seed: int) -> Problem:
    """Ask for a variable that is written and never read."""
    trap = Trap(
        "y is written where the answer is made, and nothing reads it: "
        "activations do not show who reads them.",
        "the model uses y",
        lambda metrics: metrics["accuracy"] > 0.9 and metrics["causal_use"] < 0.1,
    )
    return dataclasses.replace(build(name, seed), trap=trap)


def read_parity(name: str, seed: int) -> Problem:
    """Ask whether there is harm or the trigger, but not both.

    >>> problem = read_parity("refusal_with_trigger/harm_xor_trigger", 0)
    >>> found = problem.measure(problem.oracle())
    >>> found["cosine"], found["accuracy"]
    (1.0, 1.0)
    """
    case = toys.load("refusal_with_trigger", seed)
    untrained = Transformer(case.model.config, seed)
    directions = case.truth.features.directions  # type: ignore[union-attr]
    seen, fresh = (draw_prompts(case, half) for half in (0, 1))
    activations = seen.read(case.model, HOOK)

    def measure_in(model: Transformer, probe: Any) -> Metrics:
        where = (fresh.tokens, fresh.answers, fresh.positions, HOOK)
        return {
            "cosine": measure_cosine(probe.directions, directions),
            "accuracy": share_equal(probe.predict(fresh.read(model, HOOK)), fresh.labels),
            "causal_use": measure_causal_use(model, *where, probe.directions),
        }

    return Problem(
        "probe",
        name,
        seed,
        arguments=(activations, seen.labels),
        untrained=(seen.read(untrained, HOOK), seen.labels),
        measure=lambda probe: measure_in(case.model, probe),
        measure_untrained=lambda probe: measure_in(untrained, probe),
        oracle=lambda: Parity(directions),
        random=lambda draw: draw_probe(directions[:1], activations, draw),
        n_prompts=len(activations),
        note=(
            "the model writes harm, bypass and refusal, "
            "and harm - 2 x (harm and trigger) + trigger is a sum of them: "
            "right are the three directions, not one"
        ),
        trap=Trap(
            "The model writes harm, the trigger, and one without the other; "
            "their sum is an XOR that nothing computes or reads.",
            "the model represents harm XOR trigger",
            lambda metrics: metrics["accuracy"] > 0.9 and metrics["cosine"] < 0.9,
        ),
    )


def draw_prompts(case: toys.Case, half: int) -> LabelledPrompts:
    """Draw as many prompts of each combination of harm and trigger, from one half of all.

    The label is their XOR.
    """
    prompts = labelled_prompts.list_requests(case)
    cells = 2 * prompts.others["harm"] + prompts.others["trigger"]
    chosen = []
    for cell in range(4):
        own = (cells == cell).nonzero().squeeze(1)[half::2]
        own = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(case.seed))]
        chosen.append(own.repeat(PER_CELL)[:PER_CELL])
    prompts = prompts.where(torch.cat(chosen))
    labels = prompts.others["harm"] ^ prompts.others["trigger"]
    return dataclasses.replace(prompts, labels=labels)


TRAPS: dict[str, Build] = {
    "unused_feature/y": read_unread,
    "refusal_with_trigger/harm_xor_trigger": read_parity,
}
