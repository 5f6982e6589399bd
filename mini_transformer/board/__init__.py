"""The board: does a method find what is really there?

Call `score(function)` in a notebook, or `minilab board --method module:function` in a terminal.
`run_board` runs all built-in methods on all problems, `compare` puts two on the same models.
`find_family(name)` says what a method takes and returns, its headline and all metrics.
"""

import datetime
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mini_transformer.board.families import find_family
from mini_transformer.board.problem import Control, Family, NotApplicable, Problem, Trap
from mini_transformer.board.report.summary import Comparison, Interval, Run, Score, Summary

__all__ = [
    "Comparison",
    "Control",
    "Family",
    "Interval",
    "NotApplicable",
    "Problem",
    "Run",
    "Score",
    "Summary",
    "Trap",
    "compare",
    "find_family",
    "plot",
    "run_board",
    "score",
    "show",
]

BESIDE = 3  # built-in methods that `score` shows by default, the first of the family

Entrant = str | Callable[..., Any]


def score(
    method: Callable[..., Any],
    family: str | None = None,
    cases: str | Sequence[str] | None = None,
    models: int = 5,
    seconds: int | float = 120.0,
    workers: int | None = None,
    *,
    problems: Iterable[Problem] | None = None,
    beside: str | Sequence[str] = "best",
    split: str = "held-out",
    seed: int | None = None,
) -> Summary:
    """Score your function beside the best known, trivial references, and an untrained model.

    The summary is a sequence of scores, each of one entrant on one problem; `show` prints it,
    `plot` draws it. The family is told by the function's parameter names, or given. `cases` are
    problems (`case/variant`) or the part before the stroke; by default all. `problems` are some of
    your own instead, those of one name being models of one problem. `beside` is "best", "all" or
    "none", or names of built-in methods. Each time other models are drawn, unless `seed` says
    which; those of the split "tuning" are always the same.

    A function that can be imported by its name runs in child processes, so that it can hang or
    crash. One from a notebook runs in this process, under an alarm, and a crash of Python is one of
    yours. Raise ValueError if the family cannot be told.

    >>> def erase_nothing(activations, labels):
    ...     return lambda rows: rows
    >>> given = {"cases": "planted/apart", "models": 1, "beside": "none", "workers": 1}
    >>> scores = score(erase_nothing, "erasure", **given)
    >>> scores[0].entrant, scores[0].headline
    ('erase_nothing', 0.0)
    """
    from mini_transformer.board.families import infer_family, list_entrants
    from mini_transformer.board.report.summary import summarize
    from mini_transformer.board.running.run import (
        choose_families,
        list_jobs,
        list_own_jobs,
        run_anywhere,
    )

    own = list(problems or [])
    told = family or (own[0].family if own else infer_family(method))
    (family,) = choose_families(told)
    name, here = _name(method)
    known = list_entrants(family)
    entrants = {"best": known[:BESIDE], "all": known, "none": []}
    shown = entrants[beside] if isinstance(beside, str) else list(beside)
    if own:
        jobs = list_own_jobs(own, name, shown)
    else:
        jobs = list_jobs(family, name, cases, models, entrants=shown)
    jobs.sort(key=lambda job: job.entrant != name or job.untrained)
    rows, draw, notes = run_anywhere(
        jobs, split, seed, here=here, problems=own, workers=workers, seconds=seconds
    )
    return summarize(rows, _describe(draw, "board.score", notes))


def run_board(
    families: str | Sequence[str] | None = None,
    method: str | None = None,
    out: Path | None = None,
    *,
    models: int | None = None,
    quick: bool = False,
    cases: str | Sequence[str] | None = None,
    split: str = "held-out",
    seed: int | None = None,
    command: str = "board.run_board",
    **options: Any,
) -> Summary:
    """Run the board and return its summary.

    With `out`, keep rows there as they come, and write board.json and board.html. `method` is
    `module:function`, of the one family given. `models` are those of each problem, by default as
    many as the family says. `options` are those of `run_jobs`.
    """
    from mini_transformer.board.families import load_families
    from mini_transformer.board.report.page import render_page
    from mini_transformer.board.report.summary import summarize
    from mini_transformer.board.running.run import list_jobs, list_shortages, run_anywhere
    from mini_transformer.isolation.files import write_atomically

    chosen = [families] if isinstance(families, str) else list(families or load_families())
    jobs = list_jobs(chosen, method, cases, models, quick)
    rows, draw, notes = run_anywhere(jobs, split, seed, out, **options)
    run = _describe(draw, command, [*list_shortages(jobs, models), *notes])
    summary = summarize(rows, run)
    if out is not None:
        data = json.dumps(summary.as_data(), allow_nan=False)
        write_atomically(out / "board.json", data + "\n")
        write_atomically(out / "board.html", render_page(summary))
    return summary


def compare(
    a: Entrant,
    b: Entrant,
    family: str | None = None,
    cases: str | Sequence[str] | None = None,
    models: int | None = None,
    *,
    split: str = "held-out",
    seed: int | None = None,
    **options: Any,
) -> Comparison:
    """Put two methods on the same models: the mean difference, its interval, who is ahead where.

    A method is a built-in one's name, `module:function`, or a function. By default they meet on all
    problems of their family. `options` are those of `run_jobs`. Raise ValueError if the family
    cannot be told.

    >>> found = compare("linear", "class_means", "probe", "planted/read", 2, workers=1)
    >>> found.models, found.ahead
    (2, 2)
    """
    from mini_transformer.board.report.summary import compare_entrants, summarize
    from mini_transformer.board.running.run import find_common_family, list_jobs, run_anywhere

    pairs = [(one, {}) if isinstance(one, str) else _name(one) for one in (a, b)]
    names = [name for name, _ in pairs]
    family = family or find_common_family([a, b])
    here = pairs[0][1] | pairs[1][1]
    jobs = list_jobs(family, None, cases, models, entrants=names)
    jobs = [job for job in jobs if job.entrant in names and not job.untrained]
    rows, _, _ = run_anywhere(jobs, split, seed, here=here, **options)
    return compare_entrants(summarize(rows), family, *names)


def show(found: Summary | Comparison) -> None:
    """Print scores, or a comparison, as the command does."""
    from mini_transformer.board.report.table import show_board, show_comparison

    if isinstance(found, Comparison):
        show_comparison(found)
    else:
        show_board(found)


def plot(summary: Summary, family: str | None = None) -> Any:
    """Draw the mean of each entrant of a family (by default the first) with its interval."""
    from mini_transformer.board.report.figures import draw_means

    return draw_means(summary, family or summary[0].family)


def _name(method: Callable[..., Any]) -> tuple[str, dict[str, Callable[..., Any]]]:
    """Name a function, and say whether it must run here, since no other process can import it."""
    from mini_transformer.board.running.children import find_name

    if importable := find_name(method):
        return importable, {}
    name = f"{getattr(method, '__name__', 'method')}"
    return name, {name: method}


def _describe(draw: Any, command: str, notes: Sequence[str]) -> Run:
    import torch

    from mini_transformer import __version__

    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    versions = (__version__, now, platform.python_version(), torch.__version__)
    return Run(*versions, draw.split, draw.seed, command, list(notes))
