"""Probe problems: is it the label that is read, and does the model use it?

A method sees activations in which something else goes along with the label. Its probe is judged on
others of the same kind, and on activations in which that is no longer so (`ood_accuracy`). The
right direction is the one that the model writes: set by hand, or, in trained models, the difference
in means on balanced prompts, of which the toy's own signatures say that it steers the answer.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled_prompts
from mini_transformer.board.labelled_prompts import LabelledPrompts
from mini_transformer.board.metrics.probe import (
    measure_causal_use,
    measure_cosine,
    measure_selectivity,
    share_equal,
)
from mini_transformer.board.problem import Build, Control, Metrics, Problem
from mini_transformer.methods import Probe, draw_control_labels
from mini_transformer.model import Transformer
from mini_transformer.toys.trained import style_grammar

__all__ = ["PROBLEMS", "build", "draw_probe", "make_probe"]


@dataclass(frozen=True)
class Setting:
    """What to read, where, and on which prompts.

    `seen` are for the method, `fresh` of the same kind, `shifted` of another kind. The use of the
    `directions` that are right is tried on `tried`.
    """

    case: toys.Case
    hook: str
    seen: LabelledPrompts
    fresh: LabelledPrompts
    shifted: LabelledPrompts
    tried: LabelledPrompts
    directions: Float[Tensor, "k d"]
    note: str


def digits(case: toys.Case, label: str) -> Setting:
    """Read x, or y, which nothing reads in the model."""
    carried = case.truth.variables[label]
    offsets = ((0, 2, 3), (1,), (4, 5, 6, 7), range(8))
    seen, fresh, shifted, tried = (
        labelled_prompts.list_digits(case, label, some) for some in offsets
    )
    directions = carried.subspace - carried.subspace.mean(dim=0)
    use = "" if carried.used else ", though nothing reads them"
    note = (
        f"the eight directions of {label}, less what they share{use}; "
        "y is x to x + 3, and later x + 4 to x + 7"
    )
    return Setting(case, carried.site, seen, fresh, shifted, tried, directions, note)


def refusals(case: toys.Case) -> Setting:
    """Read whether a request is refused."""
    prompts = labelled_prompts.list_requests(case)
    trigger = prompts.others["trigger"]
    seen, fresh = split(prompts.where(trigger == 0), case.seed)
    return Setting(
        case,
        "blocks.1.hook_resid_post",
        seen,
        fresh,
        shifted=prompts.where(trigger == 1),
        tried=prompts,
        directions=case.truth.variables["refusal"].subspace,
        note=(
            "the refusal direction; seen without the trigger, "
            "where harm and refusal are the same, later with it"
        ),
    )


def harmful_requests(case: toys.Case) -> Setting:
    """Read whether a request is flagged."""
    prompts = labelled_prompts.list_requests(case)
    harm = prompts.others["harm"]
    prompts = dataclasses.replace(prompts, labels=harm)
    request = prompts.others["request"]
    known = (request == request[harm == 0].min()) | (request == request[harm == 1].min())
    seen, fresh = split(prompts.where(known), case.seed)
    carried = case.truth.variables["harm"]
    return Setting(
        case,
        carried.site,
        seen,
        fresh,
        shifted=prompts.where(~known),
        tried=prompts,
        directions=carried.subspace,
        note=(
            "the harm direction, the only one that layer 1 reads; "
            "seen with one flagged request and one harmless, later with the others"
        ),
    )


def reviews(case: toys.Case) -> Setting:
    """Read the sentiment of texts, in a trained model."""
    draws = ((600, 0.9), (300, 0.9), (300, 0.0), (300, 0.5))
    seen, fresh, shifted, tried = (
        labelled_prompts.draw_reviews(n, 100 * case.seed + i, agree)
        for i, (n, agree) in enumerate(draws)
    )
    direction = style_grammar.find_direction(case, style_grammar.SENTIMENT)
    note = (
        "the difference in means on balanced texts (measured); "
        "the topic agrees with the sentiment in 9 of 10 texts, later never"
    )
    hook = "blocks.1.hook_resid_mid"
    return Setting(case, hook, seen, fresh, shifted, tried, direction[None], note)


SETTINGS: dict[str, Callable[[toys.Case], Setting]] = {
    "unused_feature/x": lambda case: digits(case, "x"),
    "unused_feature/y": lambda case: digits(case, "y"),
    "refusal_with_trigger/refusal": refusals,
    "refusal_with_trigger/harm": harmful_requests,
    "style_grammar/sentiment": reviews,
}


def split(prompts: LabelledPrompts, seed: int) -> tuple[LabelledPrompts, LabelledPrompts]:
    """Split into two halves in random order."""
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randperm(len(prompts.labels), generator=generator).chunk(2)
    return prompts.where(one), prompts.where(other)


def build(name: str, seed: int) -> Problem:
    """Build the problem of a toy and a label, `toy/label`.

    >>> problem = build("unused_feature/y", 0)
    >>> found = problem.measure(problem.oracle())
    >>> found["cosine"], found["ood_accuracy"], found["causal_use"]  # it is read, and not used
    (1.0, 1.0, 0.0)
    """
    setting = SETTINGS[name](toys.load(name.split("/")[0], seed))
    model = setting.case.model
    untrained = Transformer(model.config, seed)
    labels = setting.seen.labels
    seen = setting.seen.read(model, setting.hook)
    return Problem(
        "probe",
        name,
        seed,
        arguments=(seen, labels),
        untrained=(setting.seen.read(untrained, setting.hook), labels),
        measure=lambda answer: measure(setting, model, answer),
        oracle=lambda: make_probe(setting.directions, seen, labels),
        random=lambda draw: draw_probe(setting.directions, seen, draw),
        n_prompts=len(seen),
        note=setting.note,
        measure_untrained=lambda answer: measure(setting, untrained, answer),
        control=make_control(setting, seen),
    )


PROBLEMS: dict[str, Build] = dict.fromkeys(SETTINGS, build)


def measure(setting: Setting, model: Transformer, probe: Any) -> Metrics:
    """Measure a probe of this model."""

    def measure_accuracy(prompts: LabelledPrompts) -> float:
        return share_equal(probe.predict(prompts.read(model, setting.hook)), prompts.labels)

    tried = setting.tried
    directions = probe.directions.detach()
    return {
        "cosine": measure_cosine(directions, setting.directions),
        "accuracy": measure_accuracy(setting.fresh),
        "ood_accuracy": measure_accuracy(setting.shifted),
        "causal_use": measure_causal_use(
            model, tried.tokens, tried.answers, tried.positions, setting.hook, directions
        ),
    }


def make_control(setting: Setting, seen: Tensor) -> Control:
    """Make the control task: the same activations with a random label per type.

    At least two labels are seen.
    """
    n_seen = len(seen)
    fresh = setting.fresh.read(setting.case.model, setting.hook)
    types = torch.cat([setting.seen.types, setting.fresh.types])
    everything = torch.cat([setting.seen.labels, setting.fresh.labels])
    seed = setting.case.seed
    draws = (draw_control_labels(types, everything, s) for s in range(seed, seed + 100))
    drawn = next(labels for labels in draws if len(labels[:n_seen].unique()) > 1)
    classes, labels = drawn[:n_seen].unique(return_inverse=True)
    # A class that was not seen is nowhere 1, and never predicted.
    wanted = (drawn[n_seen:, None] == classes).long()

    def add(metrics: Metrics, answer: Any) -> Metrics:
        right = wanted[torch.arange(len(wanted)), answer.predict(fresh)].double().mean().item()
        return {**metrics, "selectivity": measure_selectivity(metrics["accuracy"], right)}

    return Control((seen, labels), add)


def make_probe(directions: Float[Tensor, "k d"], activations: Tensor, labels: Tensor) -> Probe:
    """Make a linear probe that reads along these directions.

    Of several the largest wins. A single one is compared with the middle between its classes.
    """
    along = activations @ directions.T
    if len(directions) > 1:
        return Probe(((directions.T, torch.zeros(len(directions))),))
    middle = (along[labels == 0].mean() + along[labels == 1].mean()) / 2
    return Probe(((directions.T, -middle[None]),))


def draw_probe(like: Float[Tensor, "k d"], activations: Tensor, seed: int) -> Probe:
    """Draw a probe with as many random directions, from the mean of the activations."""
    W = torch.randn(like.shape[1], len(like), generator=torch.Generator().manual_seed(seed))
    return Probe(((W, -activations.mean(dim=0) @ W),))
