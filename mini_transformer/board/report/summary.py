"""Summarize rows: what each entrant reached, model by model, and what can be said of its mean.

Means are over models, a failed run counts 0, and intervals are 95% bootstrap intervals over models.
Problems of one case (`case/variant`) share their models, so these are drawn together. Times are
kept apart, so that all else can be compared between runs.
"""

import csv
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mini_transformer.board.families import find_family
from mini_transformer.intervals import Interval, combine, find_interval

__all__ = [
    "Comparison",
    "Line",
    "ProblemNote",
    "Run",
    "Score",
    "Section",
    "Summary",
    "Time",
    "compare_entrants",
    "overview",
    "read_summary",
    "summarize",
]

Row = dict[str, Any]


@dataclass(frozen=True)
class Score:
    """What one entrant reached on one problem, at the models with these `numbers`.

    `values` has for each metric one value per model; None where it is not defined, where the method
    had nothing to say, and where it failed, which is 0 for the headline. `errors` says in one
    sentence each what went wrong at `failed` models. `fell` counts the models at which it fell for
    the trap; None if there is none. `level` says what was scored, where there are several ways.
    `forward` and `backward` are mean passes of the problem's batch through the model.
    """

    family: str
    problem: str
    entrant: str
    level: str
    numbers: list[int]
    values: dict[str, list[float | None]]
    errors: list[str]
    failed: int
    fell: int | None
    forward: float | None
    backward: float | None

    @functools.cached_property
    def metrics(self) -> dict[str, Interval]:
        """Return each metric's mean and interval over the models where it is defined."""
        known = {
            name: [value for value in values if value is not None]
            for name, values in self.values.items()
        }
        return {name: find_interval(values) for name, values in known.items() if values}

    @property
    def headlines(self) -> list[float | None]:
        """Return the family's headline metric at each model."""
        return self.values.get(find_family(self.family).headline, [None] * len(self.numbers))

    @property
    def headline(self) -> float | None:
        """Return the mean of the family's headline metric; None if there is none."""
        found = self.metrics.get(find_family(self.family).headline)
        return None if found is None else found.mean

    @property
    def n(self) -> int:
        """Count the models at which there is an answer, or a failure."""
        return sum(value is not None for value in self.headlines)


@dataclass(frozen=True)
class ProblemNote:
    """What is known of one problem: a note, and what its trap is and provokes, if it has one."""

    family: str
    problem: str
    note: str
    trap: dict[str, str] | None  # what, verdict


@dataclass(frozen=True)
class Time:
    """What one entrant took on one problem, in CPU seconds: the mean over models."""

    family: str
    problem: str
    entrant: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """How a board came about. `notes` say which kept rows no longer held, and what is few."""

    version: str
    date: str
    python: str
    torch: str
    split: str
    seed: int | None
    command: str
    notes: list[str] = field(default_factory=list)

    @property
    def drawn(self) -> int | None:
        """The seed that models were drawn with: those of the split "tuning" follow from none."""
        return self.seed if self.split == "held-out" else None


@dataclass(frozen=True)
class Section:
    """A part of the page that looks at all scores: a text, with a figure and a table or without."""

    title: str
    text: str
    figure: Any = None
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Summary:
    """All that a report shows, a sequence of its scores; these are in the order of the rows."""

    scores: list[Score]
    problems: list[ProblemNote]
    times: list[Time]
    run: Run | None = None

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, place: int) -> Score:
        return self.scores[place]

    def as_data(self) -> dict[str, Any]:
        """Return the content of board.json; `read_summary` reads it back."""
        data = asdict(self)
        for entry, score in zip(data["scores"], self.scores, strict=True):
            found = {name: [_cut(end) for end in ends] for name, ends in score.metrics.items()}
            entry["metrics"] = found
        return data

    def write_csv(self, path: Path) -> None:
        """Write one line per entrant, problem, model and metric."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("family", "problem", "entrant", "level", "model", "metric", "value"))
            for score in self.scores:
                which = (score.family, score.problem, score.entrant, score.level)
                for metric, values in score.values.items():
                    for number, value in zip(score.numbers, values, strict=True):
                        if value is not None:
                            writer.writerow((*which, number, metric, value))


@dataclass(frozen=True)
class Line:
    """One entrant over all problems of a family.

    `mean` and `worst` are of the headline over `problems`. `coverage` is the share of models at
    which it answered or failed. `fallen` is the share of models at which it fell for a trap, a mean
    over the problems that have one. Costs are means over problems.
    """

    family: str
    entrant: str
    level: str
    mean: Interval | None
    worst: float | None
    problems: int
    coverage: float
    failed: int
    fallen: float | None
    forward: float | None
    backward: float | None
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """Two entrants on the same models: means, their difference, and at how many which is ahead.

    The difference is a minus b over the `models` at which both answered or failed, a model's
    problems taken together.
    """

    family: str
    a: str
    b: str
    problems: list[str]
    models: int
    mean_a: Interval
    mean_b: Interval
    difference: Interval
    ahead: int
    behind: int
    ties: int


def summarize(rows: Sequence[Row], run: Run | None = None) -> Summary:
    """Summarize rows over models: one score per problem and entrant.

    >>> row = {"family": "probe", "problem": "a/b", "entrant": "linear", "ok": True, "error": None}
    >>> row |= {"level": "", "fell": None, "forward": 0, "backward": 0, "seconds": 1}
    >>> rows = [{**row, "number": i, "metrics": {"accuracy": i / 2}} for i in (0, 1)]
    >>> summarize(rows).scores[0].metrics["accuracy"].mean
    0.25
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["problem"], row["entrant"]), []).append(row)
    scores = [_score(*which, group) for which, group in groups.items()]
    times = [
        Time(*which, _average(row["seconds"] for row in group if row["ok"]) or 0.0)
        for which, group in groups.items()
    ]
    about = {(row["family"], row["problem"]): row["about"] for row in rows if "about" in row}
    notes = [ProblemNote(*which, **what) for which, what in about.items()]
    return Summary(scores, notes, times, run)


def _score(family: str, problem: str, entrant: str, group: list[Row]) -> Score:
    good = [row for row in group if row["ok"] and row["metrics"]]
    falls = [row["fell"] for row in good if row["fell"] is not None]
    failed = [row for row in group if not row["ok"]]
    headline = find_family(family).headline
    names = list(dict.fromkeys(name for row in good for name in row["metrics"]))
    if failed and headline not in names:
        names.append(headline)
    values: dict[str, list[float | None]] = {
        name: [
            0.0 if name == headline and not row["ok"] else _cut(row["metrics"].get(name))
            for row in group
        ]
        for name in names
    }
    return Score(
        family,
        problem,
        entrant,
        level=" and ".join(sorted({row["level"] for row in good} - {""})),
        numbers=[row["number"] for row in group],
        values=values,
        errors=list(dict.fromkeys(row["error"] for row in failed)),
        failed=len(failed),
        fell=sum(falls) if falls else None,
        forward=_average(row["forward"] for row in good),
        backward=_average(row["backward"] for row in good),
    )


def _cut(value: float | None) -> float | None:
    """Cut what differs between machines."""
    return None if value is None else round(value, 6)


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def read_summary(data: dict[str, Any]) -> Summary:
    """Read the content of board.json, see `Summary.as_data`."""
    scores = [{k: v for k, v in entry.items() if k != "metrics"} for entry in data["scores"]]
    return Summary(
        scores=[Score(**entry) for entry in scores],
        problems=[ProblemNote(**entry) for entry in data["problems"]],
        times=[Time(**entry) for entry in data["times"]],
        run=Run(**data["run"]) if data["run"] else None,
    )


def overview(summary: Summary) -> list[Line]:
    """Summarize scores over problems: one line per family and entrant."""
    seconds = {(time.family, time.problem, time.entrant): time.seconds for time in summary.times}
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in summary.scores:
        groups.setdefault((score.family, score.entrant), []).append(score)
    lines = []
    for (family, entrant), group in groups.items():
        parts = _pair_by_case(
            [dict(zip(s.numbers, s.headlines, strict=True)) for s in group],
            [s.problem for s in group],
        )
        means = [score.headline for score in group if score.headline is not None]
        shares = [s.fell / max(s.n - s.failed, 1) for s in group if s.fell is not None]
        asked = sum(len(score.numbers) for score in group)
        lines.append(
            Line(
                family,
                entrant,
                level=" and ".join(sorted({score.level for score in group} - {""})),
                mean=combine(parts) if parts else None,
                worst=min(means, default=None),
                problems=len(means),
                coverage=sum(score.n for score in group) / asked,
                failed=sum(score.failed for score in group),
                fallen=_average(shares),
                forward=_average(score.forward for score in group),
                backward=_average(score.backward for score in group),
                seconds=_average(seconds[family, score.problem, entrant] for score in group),
            )
        )
    return lines


def _pair_by_case(
    values: Sequence[dict[int, float | None]], problems: Sequence[str]
) -> list[tuple[float, list[float]]]:
    """Return parts for `combine`: problems of a case with the same models, averaged by model.

    Each problem weighs as much as every other.
    """
    sharing: dict[tuple[str, tuple[int, ...]], list[dict[int, float | None]]] = {}
    for found, problem in zip(values, problems, strict=True):
        known = tuple(number for number, value in found.items() if value is not None)
        if known:
            sharing.setdefault((problem.split("/")[0], known), []).append(found)
    total = sum(map(len, sharing.values()))
    return [
        (len(some) / total, [_average(found[number] for found in some) or 0.0 for number in known])
        for (_, known), some in sharing.items()
    ]


def compare_entrants(summary: Summary, family: str, a: str, b: str) -> Comparison:
    """Compare two entrants of a family on the models and problems at which both answered or failed.

    Raise ValueError if there are none.
    """
    mine, theirs = (
        {s.problem: s for s in summary if (s.family, s.entrant) == (family, name)}
        for name in (a, b)
    )
    problems, firsts, seconds = [], [], []
    for problem in (name for name in mine if name in theirs):
        first, second = (
            dict(zip(s.numbers, s.headlines, strict=True)) for s in (mine[problem], theirs[problem])
        )
        both = [i for i in first if first[i] is not None and second.get(i) is not None]
        if both:
            problems.append(problem)
            firsts.append({i: first[i] for i in both})
            seconds.append({i: second[i] for i in both})
    if not problems:
        raise ValueError(f"there is no model at which both {a} and {b} answered")
    differences = [
        {i: found[i] - other[i] for i in found}  # type: ignore[operator]
        for found, other in zip(firsts, seconds, strict=True)
    ]
    parts = _pair_by_case(differences, problems)
    each = [round(value, 9) for _, values in parts for value in values]
    return Comparison(
        family,
        a,
        b,
        problems,
        models=len(each),
        mean_a=combine(_pair_by_case(firsts, problems)),
        mean_b=combine(_pair_by_case(seconds, problems)),
        difference=combine(parts),
        ahead=sum(value > 0 for value in each),
        behind=sum(value < 0 for value in each),
        ties=sum(value == 0 for value in each),
    )
