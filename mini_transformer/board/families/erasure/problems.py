"""Erasure problems: take a label out of activations, and leave the others in.

A method sees activations with one label. The eraser is judged on others (if there are few inputs,
on all of them) by fresh probes for that label and for labels that it was not told about. The right
eraser is the smallest change after which these very activations hold nothing linear of the label
(Belrose et al. 2023, 2306.03819, section 4); what that one keeps is all that can be kept.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled_prompts
from mini_transformer.board.labelled_prompts import LabelledPrompts
from mini_transformer.board.metrics.erasure import (
    balance,
    check_erased,
    measure_change,
    measure_leakage,
    measure_share,
)
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.methods import Eraser, fit_leace
from mini_transformer.model import Transformer

__all__ = ["PROBLEMS", "build"]

Erase = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """Where to erase, prompts for the method, and prompts to train and test fresh probes on."""

    hook: str
    seen: LabelledPrompts
    train: LabelledPrompts
    test: LabelledPrompts
    what: str


def digits(case: toys.Case) -> Setting:
    """Erase y, which nothing reads, beside x."""
    prompts = labelled_prompts.list_digits(case, "y")
    hook = case.truth.variables["y"].site
    return Setting(hook, prompts, prompts, prompts, "y, on all inputs; x is to be kept")


def requests(case: toys.Case) -> Setting:
    """Erase whether a request is refused."""
    prompts = labelled_prompts.list_requests(case)
    what = (
        "whether a request is refused, on all inputs; "
        "request, trigger and harm are to be kept, as far as they do not give it away"
    )
    return Setting("blocks.1.hook_resid_post", prompts, prompts, prompts, what)


def reviews(case: toys.Case, label: str) -> Setting:
    """Erase the sentiment or the topic of texts, in a trained model."""
    draws = [labelled_prompts.draw_reviews(600, 100 * case.seed + i) for i in (10, 11, 12)]
    if label == "topic":
        draws = [exchange(prompts) for prompts in draws]
    others = " and ".join(draws[0].others)
    seen, train, test = draws
    what = f"{label}, on fresh texts; {others} are to be kept"
    return Setting("blocks.1.hook_resid_mid", seen, train, test, what)


def exchange(prompts: LabelledPrompts) -> LabelledPrompts:
    """Make the topic the label, and the sentiment one of the others."""
    others = {"sentiment": prompts.labels, "register": prompts.others["register"]}
    return dataclasses.replace(prompts, labels=prompts.others["topic"], others=others)


SETTINGS: dict[str, Callable[[toys.Case], Setting]] = {
    "unused_feature/y": digits,
    "refusal_with_trigger/refusal": requests,
    "style_grammar/sentiment": lambda case: reviews(case, "sentiment"),
    "style_grammar/topic": lambda case: reviews(case, "topic"),
}


def build(name: str, seed: int) -> Problem:
    """Build the problem of a toy and a label, `toy/label`.

    >>> problem = build("unused_feature/y", 0)
    >>> found = problem.measure(problem.oracle())
    >>> [found[figure] for figure in ("balance", "leakage", "kept")]
    [1.0, 0.0, 1.0]
    """
    case = toys.load(name.split("/")[0], seed)
    setting = SETTINGS[name](case)
    untrained = Transformer(case.model.config, seed)
    labels = setting.seen.labels
    seen = setting.seen.read(case.model, setting.hook)
    right = fit_right(setting, case.model)
    n_directions = len(labels.unique()) - 1
    return Problem(
        "erasure",
        name,
        seed,
        arguments=(seen, labels),
        untrained=(setting.seen.read(untrained, setting.hook), labels),
        measure=make_measure(setting, case.model),
        oracle=lambda: right,
        random=lambda draw: draw_eraser(seen, n_directions, draw),
        n_prompts=len(seen),
        note=(
            f"{setting.what}; right: "
            "the least-squares eraser of the very activations that it is judged on"
        ),
        measure_untrained=make_measure(setting, untrained),
    )


PROBLEMS: dict[str, Build] = dict.fromkeys(SETTINGS, build)


def make_measure(setting: Setting, model: Transformer) -> Callable[[Erase], Metrics]:
    """Make the function that judges an eraser on activations of this model.

    What is there before, and what can be kept, is found once.
    """
    train, test = (prompts.read(model, setting.hook) for prompts in (setting.train, setting.test))
    names = ("", *setting.train.others)  # "" is the label itself

    def read_label(erase: Erase, name: str, hidden: int | None = None) -> float:
        of = [
            prompts.others[name] if name else prompts.labels
            for prompts in (setting.train, setting.test)
        ]
        return measure_leakage(erase(train), of[0], erase(test), of[1], hidden)

    def leak(erase: Erase) -> dict[str, float]:
        """Measure what a linear probe reads of each label after erasure."""
        return {name: read_label(erase, name) for name in names}

    @cache
    def find_bounds() -> tuple[dict[str, float], dict[str, float]]:
        return leak(lambda x: x), leak(fit_right(setting, model))

    def measure(erase: Erase) -> Metrics:
        check_erased(test, erase(test))
        before, at_best = find_bounds()
        after = leak(erase)
        shares = [measure_share(after[name], at_best[name]) for name in setting.test.others]
        damages = [before[name] - after[name] for name in setting.test.others]
        # With so few rows any probe reads a little, even after the right eraser.
        left = measure_share(after[""] - at_best[""], before[""] - at_best[""])
        erased = 1 - left
        kept = sum(shares) / len(shares)
        return {
            "balance": balance(erased, kept),
            "leakage": after[""],
            "mlp_leakage": read_label(erase, "", hidden=32),
            "change": measure_change(test, erase(test)),
            "damage": sum(damages) / len(damages),
            "erased": erased,
            "kept": kept,
        }

    return measure


def fit_right(setting: Setting, model: Transformer) -> Eraser:
    """Fit the least-squares eraser of all prompts that are judged."""
    judged = [setting.train]
    if setting.test is not setting.train:
        judged.append(setting.test)
    return fit_leace(
        torch.cat([prompts.read(model, setting.hook) for prompts in judged]),
        torch.cat([prompts.labels for prompts in judged]),
    )


def draw_eraser(activations: Float[Tensor, "n d"], n: int, seed: int) -> Eraser:
    """Draw an eraser that projects out `n` random directions."""
    d = activations.shape[1]
    basis = torch.linalg.qr(torch.randn(d, n, generator=torch.Generator().manual_seed(seed)))[0]
    return Eraser(basis @ basis.T, activations.mean(dim=0))
