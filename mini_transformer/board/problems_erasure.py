"""Problems of the erasure family: take a label out of activations, and leave the others in.

A method sees activations with one label; the eraser is judged on others (where there are few inputs, on all of them) by fresh probes for
that label and for labels that it was not told about. The right eraser is the smallest change after which these very activations
hold nothing linear of the label (Belrose et al. 2023, 2306.03819, section 4); what that one keeps is all that can be kept.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled
from mini_transformer.board.erasure_metrics import (
    balance,
    check_erased,
    measure_change,
    measure_leakage,
    measure_share,
)
from mini_transformer.board.labelled import Rows
from mini_transformer.board.problem import Metrics, Problem
from mini_transformer.methods import fit_leace
from mini_transformer.methods.erasure import Eraser
from mini_transformer.model import Transformer
from mini_transformer.toys import shipped

Erase = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """Where, rows for the method, and rows to train fresh probes on and to test them on."""

    hook: str
    seen: Rows
    train: Rows
    test: Rows
    what: str


def set_digits(case: toys.Case) -> Setting:
    rows = labelled.list_digits(case, "y")
    return Setting(
        case.truth.variables["y"].site, rows, rows, rows, "y, on all inputs; x is to be kept"
    )


def set_requests(case: toys.Case) -> Setting:
    rows = labelled.list_requests(case)
    what = "whether a request is refused, on all inputs; request, trigger and harm are to be kept, as far as they do not give it away"
    return Setting("blocks.1.hook_resid_post", rows, rows, rows, what)


def set_reviews(case: toys.Case, label: str) -> Setting:
    draws = [labelled.draw_reviews(600, 100 * case.seed + number) for number in (10, 11, 12)]
    if label == "topic":
        draws = [exchange(rows) for rows in draws]
    (seen, train, test), others = draws, " and ".join(draws[0].others)
    return Setting(
        "blocks.1.hook_resid_mid",
        seen,
        train,
        test,
        f"{label}, on fresh texts; {others} are to be kept",
    )


def exchange(rows: Rows) -> Rows:
    """The topic as the label, and the sentiment among the others."""
    others = {"sentiment": rows.labels, "register": rows.others["register"]}
    return dataclasses.replace(rows, labels=rows.others["topic"], others=others)


SETTINGS: dict[str, Callable[[toys.Case], Setting]] = {
    "unused_feature/y": set_digits,
    "refusal_with_trigger/refusal": set_requests,
    "style_grammar/sentiment": lambda case: set_reviews(case, "sentiment"),
    "style_grammar/topic": lambda case: set_reviews(case, "topic"),
}
NAMES, QUICK = tuple(SETTINGS), ("unused_feature/y", "style_grammar/sentiment")


def list_seeds(name: str) -> list[int]:
    """The seeds of this problem: those of the shipped model where it is a trained one."""
    return shipped.list_seeds(name.split("/")[0]) or list(range(10))


def build(name: str, seed: int) -> Problem:
    """The problem of that name.

    >>> problem = build("unused_feature/y", 0)
    >>> found = problem.measure(problem.oracle())
    >>> [found[figure] for figure in ("balance", "leakage", "kept")]
    [1.0, 0.0, 1.0]
    """
    case = toys.load(name.split("/")[0], seed)
    setting, untrained = SETTINGS[name](case), Transformer(case.model.config, seed)
    seen = setting.seen.read(case.model, setting.hook)
    right, n = fit_right(setting, case.model), len(setting.seen.labels.unique()) - 1
    return Problem(
        "erasure",
        name,
        seed,
        arguments=(seen, setting.seen.labels),
        untrained=(setting.seen.read(untrained, setting.hook), setting.seen.labels),
        measure=make_measure(setting, case.model),
        oracle=lambda: right,
        random=lambda number: draw_eraser(seen, n, number),
        n_prompts=len(seen),
        note=f"{setting.what}; right: the least-squares eraser of the very activations that it is judged on",
        measure_untrained=make_measure(setting, untrained),
    )


def make_measure(setting: Setting, model: Transformer) -> Callable[[Erase], Metrics]:
    """The metrics of an eraser, on activations of this model; what is there before, and what can be kept, is found once."""
    train, test = (rows.read(model, setting.hook) for rows in (setting.train, setting.test))

    def leak(erase: Erase) -> dict[str, float]:
        """What a linear probe reads of the label ("") and of each other after erasure."""
        return {name: read_label(erase, name) for name in ("", *setting.train.others)}

    def read_label(erase: Erase, name: str, hidden: int | None = None) -> float:
        of = [rows.others[name] if name else rows.labels for rows in (setting.train, setting.test)]
        return measure_leakage(erase(train), of[0], erase(test), of[1], hidden)

    @cache
    def find_bounds() -> tuple[dict[str, float], dict[str, float]]:
        return leak(lambda x: x), leak(fit_right(setting, model))

    def measure(erase: Erase) -> Metrics:
        check_erased(test, erase(test))
        (before, at_best), after = find_bounds(), leak(erase)
        shares = [measure_share(after[name], at_best[name]) for name in setting.test.others]
        damages = [before[name] - after[name] for name in setting.test.others]
        left = measure_share(
            after[""] - at_best[""], before[""] - at_best[""]
        )  # of so few rows, any probe reads a little
        erased, kept = 1 - left, sum(shares) / len(shares)
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
    """The least-squares eraser of the rows that are judged, all together."""
    rows = (setting.train,) if setting.train is setting.test else (setting.train, setting.test)
    return fit_leace(
        torch.cat([part.read(model, setting.hook) for part in rows]),
        torch.cat([part.labels for part in rows]),
    )


def draw_eraser(activations: Float[Tensor, "n d"], n: int, seed: int) -> Eraser:
    """Projects out as many random directions as a label of its classes takes."""
    d = activations.shape[1]
    basis = torch.linalg.qr(torch.randn(d, n, generator=torch.Generator().manual_seed(seed)))[0]
    return Eraser(basis @ basis.T, activations.mean(dim=0))
