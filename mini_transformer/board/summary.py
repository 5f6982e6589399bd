"""From rows to a report's data: every score with its mean over seeds and an interval.

The interval is Student's t at 95% over the seeds, (mean -/+ t s / sqrt(n)): with three seeds t is 4.3, and it is wide. It says how
much the score depends on the draw of prompts, variant and training run, nothing about other toys. One seed has none. Times are kept
apart, so that all else can be compared between runs.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from mini_transformer.board.families import FAMILIES

Row = dict[str, Any]
Interval = dict[str, float | None]


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """`scores`, one entry per problem and entrant in the order of the rows; `problems` with what is known of each; `times`.

    An entry has mean, low and high of each metric over the seeds that went well, `n` of them, the sentences of those that did not
    in `errors`, and how many fell for the trap, if it is one (`fell`).

    >>> row = {"family": "probe", "problem": "a/b", "entrant": "linear", "ok": True, "error": None, "fell": None}
    >>> rows = [{**row, "seed": seed, "metrics": {"accuracy": seed / 2}, "forward": 0, "backward": 0, "seconds": 1} for seed in (0, 1)]
    >>> summarise(rows)["scores"][0]["metrics"]["accuracy"]["mean"]
    0.25
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["problem"], row["entrant"]), []).append(row)
    scores, times = [], []
    for (family, problem, entrant), group in groups.items():
        which = {"family": family, "problem": problem, "entrant": entrant}
        good = [row for row in group if row["ok"]]
        names = dict.fromkeys(name for row in good for name in row["metrics"])
        scores.append(
            {
                **which,
                "n": len(good),
                "errors": list(dict.fromkeys(row["error"] for row in group if row["error"])),
                "fell": sum(row["fell"] for row in good)
                if good and good[0]["fell"] is not None
                else None,
                "metrics": {
                    name: find_interval(row["metrics"].get(name) for row in good) for name in names
                },
                "forward": find_interval(row["forward"] for row in good)["mean"],
                "backward": find_interval(row["backward"] for row in good)["mean"],
            }
        )
        times.append({**which, "seconds": find_interval(row["seconds"] for row in good)})
    about = {(row["family"], row["problem"]): row["about"] for row in rows if "about" in row}
    known = [
        {"family": family, "problem": problem, **what} for (family, problem), what in about.items()
    ]
    return {"scores": scores, "problems": known, "times": times}


def find_interval(values: Iterable[float | None]) -> Interval:
    """Mean, and the ends of the 95% t-interval (None for a single value), of those that are defined.

    >>> find_interval([0.2, 0.4, 0.6])
    {'mean': 0.4, 'low': -0.096828, 'high': 0.896828}
    """
    from scipy.stats import t

    known = [value for value in values if value is not None]
    n, mean = len(known), sum(known) / max(1, len(known))
    if n < 2:
        return {"mean": round(mean, 6) if n else None, "low": None, "high": None}
    spread = math.sqrt(sum((value - mean) ** 2 for value in known) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return {"mean": round(mean, 6), "low": round(mean - half, 6), "high": round(mean + half, 6)}


def read_headline(score: dict[str, Any]) -> float | None:
    """The mean of an entry's headline metric; None where it failed or has none."""
    return score["metrics"].get(FAMILIES[score["family"]].headline, {}).get("mean")


def overview(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per family and entrant: mean and worst headline over the problems, failures, traps, and costs.

    A failed run counts as a headline of 0. `traps` is [fallen for, met], in problems; costs are means over problems.
    """
    seconds = {_which(entry): entry["seconds"]["mean"] for entry in summary["times"]}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for score in summary["scores"]:
        groups.setdefault((score["family"], score["entrant"]), []).append(score)
    lines = []
    for (family, entrant), group in groups.items():
        counted = [score for score in group if score["errors"] or read_headline(score) is not None]
        headlines = [_discount(score) for score in counted]
        met = [score for score in group if score["fell"] is not None]
        costs = {
            name: find_interval(score[name] for score in group)["mean"]
            for name in ("forward", "backward")
        }
        lines.append(
            {
                "family": family,
                "entrant": entrant,
                "mean": find_interval(headlines)["mean"],
                "worst": min(headlines, default=None),
                "problems": len(counted),
                "failed": sum(bool(score["errors"]) for score in group),
                "traps": [sum(score["fell"] > 0 for score in met), len(met)],
                **costs,
                "seconds": find_interval(seconds[_which(score)] for score in group)["mean"],
            }
        )
    return lines


def _which(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["family"], entry["problem"], entry["entrant"]


def _discount(score: dict[str, Any]) -> float:
    """The headline; 0 if no seed gave one."""
    headline = read_headline(score)
    return 0.0 if headline is None else headline
