"""The board: does a method find what is really there?

Call `score(function)` in a notebook, or `minilab board --method module:function` in a terminal.
`run_board` runs all built-in methods on all problems.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mini_transformer.board.report.summary import Interval, Score, Summary

__all__ = ["Interval", "Score", "Summary", "run_board", "score"]


def score(
    method: Callable[..., Any],
    family: str | None = None,
    cases: str | Sequence[str] | None = None,
    seeds: int = 3,
    seconds: int | float = 120.0,
    workers: int | None = None,
) -> list[Score]:
    """Score your function beside a random answer, the right one, and an untrained model.

    Each `Score` is one entrant on one problem. The family is told by the function's parameter
    names, or given. `cases` are toys, or problems (`toy/variant`); by default all. A function that
    can be imported by its name runs in child processes, so that it can hang or crash. One from a
    notebook runs in this process, under an alarm, and a crash of Python is one of yours. Raise
    ValueError if the family cannot be told.

    >>> from mini_transformer.methods import patch_edges
    >>> def my_method(model, clean, corrupt, metric, ablation):
    ...     return patch_edges(model, clean, corrupt, metric, ablation, direction="noise")
    >>> scores = score(my_method, cases="boolean_and/zero", seeds=1)
    >>> scores[0].entrant, round(scores[0].metrics["auroc_best"].mean, 2)
    ('my_method', 1.0)
    """
    from mini_transformer.board.families import infer_family
    from mini_transformer.board.report.summary import summarize
    from mini_transformer.board.running.children import find_name
    from mini_transformer.board.running.run import choose_families, list_jobs, run_here, run_jobs

    (family,) = choose_families(family or infer_family(method))
    importable = find_name(method)
    name = importable or str(getattr(method, "__name__", "method"))
    shown = (name, "random", "oracle")
    jobs = [job for job in list_jobs(family, name, cases, seeds) if job.entrant in shown]
    if not jobs:
        raise ValueError(
            "no cases were given, but at least one is needed; leave `cases` out for all of them"
        )
    if importable:
        rows = run_jobs(jobs, workers=workers, seconds=seconds)
    else:
        rows = run_here(jobs, method, name, seconds)
    return summarize(rows).scores


def run_board(
    families: str | Sequence[str] | None = None,
    method: str | None = None,
    out: Path | None = None,
    *,
    seeds: int = 3,
    quick: bool = False,
    cases: str | Sequence[str] | None = None,
    **options: Any,
) -> Summary:
    """Run the board and return its summary.

    With `out`, keep rows there as they come, and write board.json and board.html. `method` is
    `module:function`, of the one family given. `options` are those of `run_jobs`.
    """
    from mini_transformer.board.families import load_families
    from mini_transformer.board.report.clock_and_pizza import compare_mechanisms
    from mini_transformer.board.report.page import render_page
    from mini_transformer.board.report.summary import summarize
    from mini_transformer.board.running.run import list_jobs, run_jobs
    from mini_transformer.isolation.files import write_atomically

    every = list(load_families())
    families = [families] if isinstance(families, str) else list(families or every)
    summary = summarize(run_jobs(list_jobs(families, method, cases, seeds, quick), out, **options))
    if cases is None and families == every:
        summary = dataclasses.replace(summary, mechanisms=compare_mechanisms(seeds))
    if out is not None:
        data = json.dumps(summary.as_data(), indent=1, allow_nan=False)
        write_atomically(out / "board.json", data + "\n")
        write_atomically(out / "board.html", render_page(summary))
    return summary
