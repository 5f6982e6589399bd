"""Problems of the probe family: is the label read, or something that goes along with it, and does the model use what is read?

A method sees activations in which something else goes along with the label; its probe is judged on others of the same kind, and on
activations in which that is no longer so (`ood_accuracy`). The right direction is the one that the model writes: set by hand, or, in trained
models, the difference in means on balanced prompts, of which the toy's own signatures say that it steers the answer.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled
from mini_transformer.board.labelled import Rows
from mini_transformer.board.probe_metrics import (
    measure_causal_use,
    measure_cosine,
    measure_selectivity,
    share_equal,
)
from mini_transformer.board.problem import Control, Metrics, Problem
from mini_transformer.methods import Probe, draw_control_labels
from mini_transformer.model import Transformer
from mini_transformer.toys import shipped, style_grammar


@dataclass(frozen=True)
class Setting:
    """Rows for the method, rows of the same kind, rows of another kind, rows to try the use on, and what is right."""

    case: toys.Case
    hook: str
    seen: Rows
    fresh: Rows
    shifted: Rows
    tried: Rows
    directions: Float[Tensor, "k d"]
    note: str


def set_digits(case: toys.Case, label: str) -> Setting:
    carried = case.truth.variables[label]
    seen, fresh, shifted, tried = (
        labelled.list_digits(case, label, offsets)
        for offsets in ((0, 2, 3), (1,), (4, 5, 6, 7), range(8))
    )
    rows = carried.subspace - carried.subspace.mean(dim=0)
    use = "" if carried.used else ", though nothing reads them"
    note = f"the eight directions of {label}, less what they share{use}; y is x to x + 3, and later x + 4 to x + 7"
    return Setting(case, carried.site, seen, fresh, shifted, tried, rows, note)


def set_refusals(case: toys.Case) -> Setting:
    rows = labelled.list_requests(case)
    quiet = rows.where(rows.others["trigger"] == 0)
    seen, fresh = split(quiet, case.seed)
    direction = case.truth.variables["refusal"].subspace
    note = "the refusal direction; seen without the trigger, where harm and refusal are the same, later with it"
    shifted = rows.where(rows.others["trigger"] == 1)
    return Setting(case, "blocks.1.hook_resid_post", seen, fresh, shifted, rows, direction, note)


def set_harm(case: toys.Case) -> Setting:
    rows = labelled.list_requests(case)
    rows = dataclasses.replace(rows, labels=rows.others["harm"])
    request, harm = rows.others["request"], rows.labels
    known = (request == request[harm == 0].min()) | (request == request[harm == 1].min())
    seen, fresh = split(rows.where(known), case.seed)
    carried = case.truth.variables["harm"]
    note = "the harm direction, the only one that layer 1 reads; seen with one flagged request and one harmless, later with the others"
    return Setting(
        case, carried.site, seen, fresh, rows.where(~known), rows, carried.subspace, note
    )


def set_reviews(case: toys.Case) -> Setting:
    draws = ((600, 0.9), (300, 0.9), (300, 0.0), (300, 0.5))
    seen, fresh, shifted, tried = (
        labelled.draw_reviews(n, 100 * case.seed + i, agree) for i, (n, agree) in enumerate(draws)
    )
    direction = style_grammar.find_direction(case, style_grammar.SENTIMENT)
    note = "the difference in means on balanced texts (measured); the topic agrees with the sentiment in 9 of 10 texts, later never"
    return Setting(
        case, "blocks.1.hook_resid_mid", seen, fresh, shifted, tried, direction[None], note
    )


SETTINGS: dict[str, Callable[[toys.Case], Setting]] = {
    "unused_feature/x": lambda case: set_digits(case, "x"),
    "unused_feature/y": lambda case: set_digits(case, "y"),
    "refusal_with_trigger/refusal": set_refusals,
    "refusal_with_trigger/harm": set_harm,
    "style_grammar/sentiment": set_reviews,
}
NAMES, QUICK = tuple(SETTINGS), ("unused_feature/y", "refusal_with_trigger/refusal")


def split(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Two halves in random order."""
    one, other = torch.randperm(
        len(rows.labels), generator=torch.Generator().manual_seed(seed)
    ).chunk(2)
    return rows.where(one), rows.where(other)


def list_seeds(name: str) -> list[int]:
    """The seeds of this problem: those of the shipped model where it is a trained one."""
    return shipped.list_seeds(name.split("/")[0]) or list(range(10))


def build(name: str, seed: int) -> Problem:
    """The problem of that name.

    >>> problem = build("unused_feature/y", 0)
    >>> found = problem.measure(problem.oracle())
    >>> [found[figure] for figure in ("cosine", "ood_accuracy", "causal_use")]  # it can be read, and does nothing
    [1.0, 1.0, 0.0]
    """
    setting = SETTINGS[name](toys.load(name.split("/")[0], seed))
    model, untrained = setting.case.model, Transformer(setting.case.model.config, seed)
    seen = setting.seen.read(model, setting.hook)
    return Problem(
        "probe",
        name,
        seed,
        arguments=(seen, setting.seen.labels),
        untrained=(setting.seen.read(untrained, setting.hook), setting.seen.labels),
        measure=lambda answer: measure(setting, model, answer),
        oracle=lambda: make_probe(setting.directions, seen, setting.seen.labels),
        random=lambda number: draw_probe(setting.directions, seen, number),
        n_prompts=len(seen),
        note=setting.note,
        measure_untrained=lambda answer: measure(setting, untrained, answer),
        control=make_control(setting, seen),
    )


def measure(setting: Setting, model: Transformer, probe: Any) -> Metrics:
    """The metrics of a probe of this model."""
    tried, directions = setting.tried, probe.directions.detach()
    accuracies = (
        share_equal(probe.predict(rows.read(model, setting.hook)), rows.labels)
        for rows in (setting.fresh, setting.shifted)
    )
    return {
        "cosine": measure_cosine(directions, setting.directions),
        **dict(zip(("accuracy", "ood_accuracy"), accuracies, strict=True)),
        "causal_use": measure_causal_use(
            model, tried.tokens, tried.answers, tried.positions, setting.hook, directions
        ),
    }


def make_control(setting: Setting, seen: Tensor) -> Control:
    """The same activations with a random label per type, of which there are at least two."""
    fresh, types = (
        setting.fresh.read(setting.case.model, setting.hook),
        torch.cat([setting.seen.types, setting.fresh.types]),
    )
    everything = torch.cat([setting.seen.labels, setting.fresh.labels])
    draws = (
        draw_control_labels(types, everything, seed)
        for seed in range(setting.case.seed, setting.case.seed + 100)
    )
    drawn = next(labels for labels in draws if len(labels[: len(seen)].unique()) > 1)
    classes, labels = drawn[: len(seen)].unique(return_inverse=True)
    wanted = (
        drawn[len(seen) :, None] == classes
    ).long()  # a class that was not seen is nowhere 1, and never predicted

    def add(metrics: Metrics, answer: Any) -> Metrics:
        right = wanted[torch.arange(len(wanted)), answer.predict(fresh)].double().mean().item()
        return {**metrics, "selectivity": measure_selectivity(metrics["accuracy"], right)}

    return Control((seen, labels), add)


def make_probe(directions: Float[Tensor, "k d"], activations: Tensor, labels: Tensor) -> Probe:
    """A linear probe that reads along these directions: the largest of several, or one against the middle between its classes."""
    along = activations @ directions.T
    if len(directions) > 1:
        return Probe(((directions.T, torch.zeros(len(directions))),))
    middle = (along[labels == 0].mean() + along[labels == 1].mean()) / 2
    return Probe(((directions.T, -middle[None]),))


def draw_probe(like: Float[Tensor, "k d"], activations: Tensor, seed: int) -> Probe:
    """A probe with as many random directions, from the mean of the activations."""
    W = torch.randn(like.shape[1], len(like), generator=torch.Generator().manual_seed(seed))
    return Probe(((W, -activations.mean(dim=0) @ W),))
