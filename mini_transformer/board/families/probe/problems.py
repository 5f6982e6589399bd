"""Probe problems: is it the label that is read, or what goes along with it, and who uses it?

A method sees activations in which other variables go along with the label. Its probe is judged on
activations in which they no longer do. What these say of the label is known, so the best possible
reading is Bayes' rule, and no probe reads more: accuracy is the mean probability, given the
activation, of the label that was predicted, which Bayes' rule makes largest row by row. `reading`
is the accuracy beyond that of a constant, as a share of that of Bayes' rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.board.answers import get, read_tensor
from mini_transformer.board.metrics.probe import (
    measure_causal_use,
    measure_cosine,
    measure_selectivity,
    share_expected,
)
from mini_transformer.board.planted import (
    HOOK,
    Rows,
    World,
    build_reader,
    draw_world,
    name_outcomes,
)
from mini_transformer.board.problem import Build, Control, Metrics, Problem, Trap
from mini_transformer.methods import Probe, draw_control_labels

__all__ = ["PROBLEMS", "TRAPS", "Bayes", "build", "draw_probe", "read_answer"]

N_SEEN = 400
N_FRESH = 1000
DECODED = 0.5  # a reading from which on the label counts as decoded


@dataclass(frozen=True)
class Setting:
    """What to read, and what the model reads.

    `label` maps bits to labels, `written` are the directions that carry it, `reads` the variables
    that the model reads. With `along` variable 1 goes along with bit 0 in what is seen, less so
    variable 2. With `both` the model also writes "first two bits".
    """

    label: Callable[[Tensor], Tensor]
    written: tuple[int, ...]
    reads: tuple[int, ...]
    note: str
    along: bool = True
    both: bool = False
    trap: Trap | None = None

    @property
    def used(self) -> bool:
        """Say whether the model reads the label."""
        return set(self.written) <= set(self.reads)


SETTINGS = {
    "planted/read": Setting(
        lambda bits: bits[:, 0],
        written=(0,),
        reads=(0, 1, 3),
        note="a bit that the model reads; two others go along with it, later none",
    ),
    "planted/four": Setting(
        lambda bits: 2 * bits[:, 0] + bits[:, 3],
        written=(0, 3),
        reads=(0, 1, 3),
        note="two bits as one label of four; two others go along with the first, later none",
    ),
    "planted/unread": Setting(
        lambda bits: bits[:, 0],
        written=(0,),
        reads=(1, 2, 3),
        along=False,
        note="a bit that is written and that the model never reads",
        trap=Trap(
            "The label is written and nothing reads it: activations do not show who reads them, "
            "the model does.",
            "the model uses the label",
            lambda metrics: metrics["reading"] > DECODED and metrics["says_used"] > 0,
        ),
    ),
    "planted/xor": Setting(
        lambda bits: bits[:, 0] ^ bits[:, 1],
        written=(0, 1, 5),
        reads=(0, 1, 5),
        along=False,
        both=True,
        note="whether one of two bits is on, but not both; written are each bit and 'both', so "
        "a sum of them is the label: right are three directions, not one",
        trap=Trap(
            "The model writes two bits, and 'both'; their sum is an XOR that nothing computes.",
            "the model represents the XOR along one direction",
            lambda metrics: metrics["reading"] > DECODED and metrics["cosine"] < 0.9,
        ),
    ),
}


@dataclass(frozen=True)
class Bayes:
    """The best possible reading: the label that is most probable given the activation."""

    world: World
    chances: Float[Tensor, "combo"]
    labels: Int[Tensor, "combo"]
    directions: Float[Tensor, "k d"]
    used: bool

    def predict(self, activations: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
        """Return the most probable label of each activation."""
        return self.world.find_posterior(activations, self.chances, self.labels).argmax(dim=1)


def build(name: str, seed: int) -> Problem:
    """Build the problem of a label in a planted world.

    >>> problem = build("planted/unread", 0)
    >>> found = problem.measure(problem.oracle())
    >>> found["reading"], found["says_used"], found["causal_use"] < 0.1
    (1.0, 0.0, True)
    """
    setting = SETTINGS[name]
    world = draw_world(seed, setting.both)
    generator = torch.Generator().manual_seed(seed)
    strong, weak = torch.rand(2, generator=generator).tolist()
    agreement = {1: 0.85 + 0.1 * strong, 2: 0.6 + 0.2 * weak} if setting.along else {}
    seen_as, later_as = world.make_chances(agreement), world.make_chances({})
    seen = world.draw(N_SEEN, seen_as, 16 * seed + 1)
    fresh = world.draw(N_FRESH, seen_as, 16 * seed + 2)
    later = world.draw(N_FRESH, later_as, 16 * seed + 3)
    labels = setting.label(world.bits)
    model = build_reader(world, seen, setting.reads, seed)[0]
    judged = build_reader(world, later, setting.reads, seed)[0]
    tokens = torch.arange(N_FRESH)[:, None]
    outcomes = name_outcomes(later, setting.reads)
    written = world.written[list(setting.written)].float()
    known = world.find_posterior(fresh.x, seen_as, labels)
    known_later = world.find_posterior(later.x, later_as, labels)
    best = known_later.amax(dim=1).mean().item()
    constant = known_later.mean(dim=0).max().item()

    def measure(probe: Any) -> Metrics:
        directions = probe.directions.detach()
        later_accuracy = share_expected(probe.predict(later.x), known_later)
        used = getattr(probe, "used", None)
        return {
            "reading": max(0.0, (later_accuracy - constant) / (best - constant)),
            "accuracy": share_expected(probe.predict(fresh.x), known),
            "ood_accuracy": later_accuracy,
            "cosine": measure_cosine(directions, written),
            "says_used": 1.0 if used is None else float(used),
            "causal_use": measure_causal_use(
                judged, tokens, outcomes, torch.zeros_like(outcomes), HOOK, directions
            ),
        }

    return Problem(
        "probe",
        name,
        seed,
        arguments=(seen.x, labels[seen.combos]),
        untrained=(seen.x[torch.randperm(N_SEEN, generator=generator)], labels[seen.combos]),
        options={"model": model, "hook": HOOK, "prompts": torch.arange(N_SEEN)[:, None]},
        untrained_options={},
        measure=measure,
        oracle=lambda: Bayes(world, later_as, labels, written, setting.used),
        random=lambda draw: draw_probe(int(labels.max()) + 1, seen.x, draw),
        n_prompts=N_SEEN,
        note=setting.note,
        trap=setting.trap,
        control=make_control(seen, fresh, labels, seed),
    )


PROBLEMS: dict[str, Build] = {name: build for name, one in SETTINGS.items() if not one.trap}
TRAPS: dict[str, Build] = {name: build for name, one in SETTINGS.items() if one.trap}


def make_control(seen: Rows, fresh: Rows, labels: Int[Tensor, "combo"], seed: int) -> Control:
    """Make the control task: the same activations, with a random label for each combination."""
    combos = torch.cat([seen.combos, fresh.combos])
    drawn = draw_control_labels(combos, labels[combos], seed % 2**31)
    wanted = drawn[N_SEEN:]

    def add(metrics: Metrics, answer: Any) -> Metrics:
        right = (answer.predict(fresh.x) == wanted).double().mean().item()
        return {**metrics, "selectivity": measure_selectivity(metrics["accuracy"], right)}

    return Control((seen.x, drawn[:N_SEEN]), add)


def draw_probe(n_classes: int, activations: Tensor, seed: int) -> Probe:
    """Draw a probe with random directions, from the mean of the activations."""
    n_scores = n_classes - (n_classes == 2)
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(activations.shape[1], n_scores, generator=generator)
    return Probe(((W, -activations.mean(dim=0) @ W),))


def read_answer(answer: Any, activations: Tensor, labels: Tensor) -> Any:
    """Return the probe: `directions`, one per row, and `predict(activations)`."""
    directions = get(answer, "directions", "predict")
    read_tensor(directions, "directions, one per row", None, activations.shape[1])
    predicted = answer.predict(activations)
    read_tensor(predicted, "predict(activations) with one label per row", len(labels))
    return answer
