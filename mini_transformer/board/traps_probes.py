"""A probe problem that is there for its trap: a label that the model never computes, and that can be read all the same."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled
from mini_transformer.board.labelled import Rows
from mini_transformer.board.probe_metrics import measure_causal_use, measure_cosine, share_equal
from mini_transformer.board.problem import Metrics, Problem, Trap
from mini_transformer.board.problems_probes import draw_probe
from mini_transformer.model import Transformer

NAMES, QUICK = ("refusal_with_trigger/harm_xor_trigger",), ()
SITE = "blocks.1.hook_resid_post"
PER_CELL = 12  # rows of each of the four combinations


@dataclass(frozen=True)
class Parity:
    """Whether an odd number of the first two of these directions is on: what three directions hold, and no single one."""

    directions: Float[Tensor, "3 d"]

    def predict(self, activations: Float[Tensor, "n d"]) -> Tensor:
        return (activations @ self.directions[:2].T > 0.5).sum(dim=1) % 2


def build(name: str, seed: int = 0) -> Problem:
    """Is there harm or the trigger, but not both?

    >>> problem = build("refusal_with_trigger/harm_xor_trigger")
    >>> found = problem.measure(problem.oracle())
    >>> found["cosine"], found["accuracy"]
    (1.0, 1.0)
    """
    case = toys.load("refusal_with_trigger", seed)
    untrained, directions = Transformer(case.model.config, seed), case.truth.features.directions  # type: ignore[union-attr]
    seen, fresh = (draw_rows(case, half) for half in (0, 1))
    activations = seen.read(case.model, SITE)

    def measure_in(model: Transformer, probe: Any) -> Metrics:
        where = fresh.tokens, fresh.answers, fresh.positions, SITE
        return {
            "cosine": measure_cosine(probe.directions, directions),
            "accuracy": share_equal(probe.predict(fresh.read(model, SITE)), fresh.labels),
            "causal_use": measure_causal_use(model, *where, probe.directions),
        }

    return Problem(
        "probe",
        name,
        seed,
        arguments=(activations, seen.labels),
        untrained=(seen.read(untrained, SITE), seen.labels),
        measure=lambda probe: measure_in(case.model, probe),
        measure_untrained=lambda probe: measure_in(untrained, probe),
        oracle=lambda: Parity(directions),
        random=lambda number: draw_probe(directions[:1], activations, number),
        n_prompts=len(activations),
        note="the model writes harm, bypass and refusal, and harm - 2 x (harm and trigger) + trigger is a sum of them: "
        "right are the three directions, not one",
        trap=Trap(
            "The model writes harm, the trigger, and one without the other; their sum is an XOR that nothing computes or reads.",
            "the model represents harm XOR trigger",
            lambda metrics: metrics["accuracy"] > 0.9 and metrics["cosine"] < 0.9,
        ),
    )


def draw_rows(case: toys.Case, half: int) -> Rows:
    """As many rows of each combination of harm and trigger, from one half of the prompts; the label is their XOR."""
    rows = labelled.list_requests(case)
    harm, trigger = rows.others["harm"], rows.others["trigger"]
    chosen = []
    for cell in range(4):
        own = ((2 * harm + trigger) == cell).nonzero().squeeze(1)[half::2]
        own = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(case.seed))]
        chosen.append(own.repeat(PER_CELL)[:PER_CELL])
    rows = rows.where(torch.cat(chosen))
    labels = rows.others["harm"] ^ rows.others["trigger"]
    return Rows(rows.tokens, rows.positions, rows.answers, labels, rows.types, rows.others)
