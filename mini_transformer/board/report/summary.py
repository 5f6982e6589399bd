"""Summarize rows: every score with its mean over seeds and an interval.

The interval is Student's t at 95% over the seeds, (mean -/+ t s / sqrt(n)): with three seeds t is
4.3, and it is wide. It says how much the score depends on the draw of prompts, variant and training
run, nothing about other toys. One seed has none. Times are kept apart, so that all else can be
compared between runs.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mini_transformer.board.families import find_family

__all__ = [
    "Interval",
    "Line",
    "Mechanism",
    "ProblemNote",
    "Score",
    "Summary",
    "Time",
    "find_interval",
    "overview",
    "read_summary",
    "summarize",
]

Row = dict[str, Any]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and the ends of its 95% interval; None if there are too few values."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Score:
    """What one entrant reached on one problem, over the `n` seeds that went well.

    `errors` says in one sentence each what went wrong at the others. `fell` counts the seeds at
    which it fell for the trap; None if there is none. `forward` and `backward` are mean passes of
    the problem's batch through the model.
    """

    family: str
    problem: str
    entrant: str
    n: int
    errors: list[str]
    fell: int | None
    metrics: dict[str, Interval]
    forward: float | None
    backward: float | None

    @property
    def headline(self) -> float | None:
        """Return the mean of the family's headline metric; None if it failed or has none."""
        found = self.metrics.get(find_family(self.family).headline)
        return None if found is None else found.mean


@dataclass(frozen=True)
class ProblemNote:
    """What is known of one problem: a note, and what its trap is and provokes, if it has one."""

    family: str
    problem: str
    note: str
    trap: dict[str, str] | None  # what, verdict


@dataclass(frozen=True)
class Time:
    """What one entrant took on one problem, in CPU seconds."""

    family: str
    problem: str
    entrant: str
    seconds: Interval


@dataclass(frozen=True)
class Mechanism:
    """Figures of one of two models with equal answers, see `clock_and_pizza`."""

    model: str
    seed: int
    accuracy: float
    gradient_symmetry: float
    distance_irrelevance: float
    accuracy_uniform: float


@dataclass(frozen=True)
class Summary:
    """All that a report shows; `scores` and `times` are in the order of the rows."""

    scores: list[Score]
    problems: list[ProblemNote]
    times: list[Time]
    mechanisms: list[Mechanism] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """Return the content of board.json; `read_summary` reads it back."""
        data = asdict(self)
        return data if self.mechanisms else {k: v for k, v in data.items() if k != "mechanisms"}


@dataclass(frozen=True)
class Line:
    """One entrant over all problems of a family.

    `mean` and `worst` are of the headline over `problems`, where a failed run counts 0. `fallen`
    and `met` count problems with a trap. Costs are means over problems.
    """

    family: str
    entrant: str
    mean: float | None
    worst: float | None
    problems: int
    failed: int
    fallen: int
    met: int
    forward: float | None
    backward: float | None
    seconds: float | None


def summarize(rows: Sequence[Row]) -> Summary:
    """Summarize rows over seeds: one score per problem and entrant.

    >>> row = {"family": "probe", "problem": "a/b", "entrant": "linear", "ok": True, "error": None}
    >>> row |= {"fell": None, "forward": 0, "backward": 0, "seconds": 1}
    >>> rows = [{**row, "seed": seed, "metrics": {"accuracy": seed / 2}} for seed in (0, 1)]
    >>> summarize(rows).scores[0].metrics["accuracy"].mean
    0.25
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["problem"], row["entrant"]), []).append(row)
    scores = [_score(*which, group) for which, group in groups.items()]
    times = [
        Time(*which, find_interval(row["seconds"] for row in group if row["ok"]))
        for which, group in groups.items()
    ]
    about = {(row["family"], row["problem"]): row["about"] for row in rows if "about" in row}
    notes = [ProblemNote(*which, **what) for which, what in about.items()]
    return Summary(scores, notes, times)


def _score(family: str, problem: str, entrant: str, group: list[Row]) -> Score:
    good = [row for row in group if row["ok"]]
    falls = [row["fell"] for row in good]
    names = dict.fromkeys(name for row in good for name in row["metrics"])
    return Score(
        family,
        problem,
        entrant,
        n=len(good),
        errors=list(dict.fromkeys(row["error"] for row in group if row["error"])),
        fell=sum(falls) if falls and falls[0] is not None else None,
        metrics={name: find_interval(row["metrics"].get(name) for row in good) for name in names},
        forward=find_interval(row["forward"] for row in good).mean,
        backward=find_interval(row["backward"] for row in good).mean,
    )


def find_interval(values: Iterable[float | None]) -> Interval:
    """Find the mean and the 95% t-interval of the values that are defined.

    >>> find_interval([0.2, 0.4, 0.6])
    Interval(mean=0.4, low=-0.096828, high=0.896828)
    """
    from scipy.stats import t

    known = [value for value in values if value is not None]
    n = len(known)
    if not n:
        return Interval(None, None, None)
    mean = sum(known) / n
    if n == 1:
        return Interval(round(mean, 6), None, None)
    spread = math.sqrt(sum((value - mean) ** 2 for value in known) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return Interval(round(mean, 6), round(mean - half, 6), round(mean + half, 6))


def read_summary(data: dict[str, Any]) -> Summary:
    """Read the content of board.json, see `Summary.as_data`."""

    def read_score(entry: dict[str, Any]) -> Score:
        metrics = {name: Interval(**found) for name, found in entry["metrics"].items()}
        return Score(**{**entry, "metrics": metrics})

    return Summary(
        scores=[read_score(entry) for entry in data["scores"]],
        problems=[ProblemNote(**entry) for entry in data["problems"]],
        times=[Time(**{**t, "seconds": Interval(**t["seconds"])}) for t in data["times"]],
        mechanisms=[Mechanism(**entry) for entry in data.get("mechanisms", [])],
    )


def overview(summary: Summary) -> list[Line]:
    """Summarize scores over problems: one line per family and entrant."""
    seconds = {(time.problem, time.family, time.entrant): time.seconds for time in summary.times}
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in summary.scores:
        groups.setdefault((score.family, score.entrant), []).append(score)
    lines = []
    for (family, entrant), group in groups.items():
        counted = [score for score in group if score.errors or score.headline is not None]
        headlines = [score.headline or 0.0 for score in counted]
        took = [seconds[score.problem, family, entrant].mean for score in group]
        falls = [score.fell for score in group if score.fell is not None]
        lines.append(
            Line(
                family,
                entrant,
                mean=find_interval(headlines).mean,
                worst=min(headlines, default=None),
                problems=len(counted),
                failed=sum(bool(score.errors) for score in group),
                fallen=sum(fell > 0 for fell in falls),
                met=len(falls),
                forward=find_interval(score.forward for score in group).mean,
                backward=find_interval(score.backward for score in group).mean,
                seconds=find_interval(took).mean,
            )
        )
    return lines
