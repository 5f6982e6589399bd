"""The board: does a method find what is really there?

`score(function)` in a notebook, `minilab board --method module:function` in a terminal; `run_board` is what both call.
"""

import functools
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["run_board", "score"]


def score(
    method: Callable[..., Any],
    family: str | None = None,
    cases: str | Sequence[str] | None = None,
    seeds: int = 3,
    seconds: int | float = 120.0,
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Score your function beside random, oracle and an untrained model; one entry per problem and entrant, see `summarise`.

    The family is told by its parameter names, or given. `cases` are toys, or problems (`toy/variant`); by default all. A
    function that can be imported by its name runs in child processes, so that it can hang or crash; one that was written in the
    notebook runs in this process, under an alarm, and a crash of Python is one of yours. ValueError where the family cannot be told.

    >>> from mini_transformer.methods import patch_edges
    >>> def my_method(model, clean, corrupt, metric, ablation):
    ...     return patch_edges(model, clean, corrupt, metric, ablation)
    >>> entries = score(my_method, cases=["boolean_and/zero"], seeds=1)
    >>> {entry["entrant"]: round(entry["metrics"]["auroc_best"]["mean"], 2) for entry in entries}["my_method"]
    1.0
    """
    from mini_transformer.board.families import infer_family
    from mini_transformer.board.run import find_families, list_jobs, run_here, run_jobs
    from mini_transformer.board.summary import summarise

    (family,) = find_families(family or infer_family(method))
    importable = find_name(method)
    name = importable or str(getattr(method, "__name__", "method"))
    jobs = [
        job
        for job in list_jobs([family], name, cases, seeds)
        if job.entrant in (name, "random", "oracle")
    ]
    if not jobs:
        raise ValueError(
            "no cases were given, but at least one is needed; leave `cases` out for all of them"
        )
    rows = (
        run_jobs(jobs, workers=workers, seconds=seconds)
        if importable
        else run_here(jobs, method, name, seconds)
    )
    return summarise(rows)["scores"]


def find_name(method: Callable[..., Any]) -> str | None:
    """`module:function`, if a child process that imports it would get this very function; None for one from a notebook.

    >>> find_name(json.dumps), find_name(lambda: None)
    ('json:dumps', None)
    """
    module, name = getattr(method, "__module__", None), getattr(method, "__qualname__", "")
    if (
        not module
        or module == "__main__"
        or getattr(sys.modules.get(module), "__file__", None) is None
    ):
        return None
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    return f"{module}:{name}" if found is method else None


def run_board(
    families: str | Sequence[str] | None = None,
    method: str | None = None,
    out: Path | None = None,
    *,
    seeds: int = 3,
    quick: bool = False,
    cases: str | Sequence[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run the board and return its summary; with `out`, keep rows there as they come, and write board.json and board.html.

    `method` is `module:function`, of the one family given. `options` are those of `run_jobs`.
    """
    from mini_transformer.board.exhibits import compare_mechanisms
    from mini_transformer.board.families import FAMILIES
    from mini_transformer.board.page import render_page
    from mini_transformer.board.run import list_jobs, run_jobs
    from mini_transformer.board.summary import summarise
    from mini_transformer.isolation.files import write_atomically

    families = [families] if isinstance(families, str) else list(families or FAMILIES)
    jobs = list_jobs(families, method, cases, seeds, quick)
    summary = summarise(run_jobs(jobs, out=out, **options))
    if cases is None and families == list(FAMILIES):
        summary["mechanisms"] = compare_mechanisms(seeds)
    if out is not None:
        write_atomically(out / "board.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "board.html", render_page(summary))
    return summary
