"""List the jobs of a board and run them, keeping each row as soon as it is there."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mini_transformer.board.families import (
    check_cases,
    find_family,
    list_entrants,
    load_families,
)
from mini_transformer.board.problem import Method
from mini_transformer.board.running.children import ask_family, close_children, run_in_child
from mini_transformer.board.running.jobs import Job, run_job
from mini_transformer.board.running.keys import make_key
from mini_transformer.isolation.cluster import open_cluster
from mini_transformer.isolation.journal import Journal
from mini_transformer.isolation.limits import limited_time

__all__ = ["SECONDS", "choose_families", "list_jobs", "run_here", "run_jobs"]

Row = dict[str, Any]
SECONDS = 120.0  # that one job may take; the slowest built-in one takes a tenth of it


def choose_families(family: str | None, method: str | None = None) -> list[str]:
    """Return the family given, else that of the method `module:function`, else all.

    A method's family is told by its parameters. Raise ValueError if it cannot be told.
    """
    if family is not None:
        try:
            find_family(family)
        except KeyError as error:
            raise ValueError(error.args[0]) from None
    if method is not None and ":" not in method:
        raise ValueError(f"the method is {method!r}, but must be given as module:function")
    if family is not None:
        return [family]
    if method is None:
        return list(load_families())
    try:
        return [ask_family(method)]
    finally:
        close_children()


def list_jobs(
    families: str | Iterable[str],
    method: str | None = None,
    cases: str | Sequence[str] | None = None,
    seeds: int = 3,
    quick: bool = False,
) -> list[Job]:
    """List the jobs of a board: for each problem and seed every method, random, and oracle.

    The first method of a family, and `method`, one's own, also run on an untrained model.

    >>> [job.row_name for job in list_jobs(["erasure"], seeds=1, quick=True)][-3:]
    ['random', 'oracle', 'leace (untrained)']
    """
    families = [families] if isinstance(families, str) else list(families)
    check_cases(families, cases)
    jobs = []
    for name in families:
        family = find_family(name)
        own = [method] if method else []
        entrants = [*list_entrants(name), *own]
        lines = [(entrant, False) for entrant in (*entrants, "random", "oracle")]
        lines += [(entrant, True) for entrant in (*entrants[:1], *own)]
        for problem in family.list_problems(cases, quick):
            for seed in family.list_seeds(problem, seeds):
                jobs += [Job(name, problem, entrant, seed, blank) for entrant, blank in lines]
    return list(dict.fromkeys(jobs))


def run_jobs(
    jobs: Sequence[Job],
    out: Path | None = None,
    workers: int | None = None,
    dask: str | None = None,
    seconds: int | float = SECONDS,
    progress: bool = False,
) -> list[Row]:
    """Run these jobs to rows, in their order, whatever the number of workers.

    By default there is one worker per core. `out` is the folder that keeps the rows; those that are
    there already are not computed again. `dask` is the address of a cluster, or "local". `seconds`
    is what one job may take.
    """
    from tqdm import tqdm

    journal = Journal(out / "rows.jsonl") if out else None
    keys = {job: make_key(job, seconds) for job in jobs}
    known = journal.entries if journal else {}
    rows = {job: known[key] for job, key in keys.items() if key in known}
    left = [job for job in keys if job not in rows]
    bar = tqdm(total=len(keys), initial=len(rows), disable=not progress, unit="job", smoothing=0.05)
    with bar:
        for job, row in _run_in_children(left, workers, dask, seconds):
            rows[job] = row
            if journal:
                journal.append(keys[job], row)
            bar.update()
    return [rows[job] for job in jobs]


def run_here(
    jobs: Sequence[Job], method: Method, name: str, seconds: int | float = SECONDS
) -> list[Row]:
    """Run these jobs to rows in this process, `method` standing for the entrant `name`.

    This is for a function that has no importable name. An alarm ends what takes longer than
    `seconds`, but a method that ends or crashes Python ends the board, too.
    """
    rows = []
    for job in jobs:
        with limited_time(seconds):
            rows.append(run_job(job, method if job.entrant == name else None))
    return rows


def _run_in_children(
    jobs: Sequence[Job], workers: int | None, dask: str | None, seconds: int | float
) -> Iterator[tuple[Job, Row]]:
    """Yield each job with its row, as they are done."""
    from joblib import delayed

    if jobs:
        with _open_workers(workers, dask) as parallel:
            yield from parallel(delayed(_run_pair)(job, seconds) for job in jobs)


def _run_pair(job: Job, seconds: int | float) -> tuple[Job, Row]:
    return job, run_in_child(job, seconds)


@contextlib.contextmanager
def _open_workers(workers: int | None, dask: str | None) -> Iterator[Any]:
    """Make joblib's Parallel, on threads (each has its child) or on the workers of a cluster."""
    from joblib import Parallel, parallel_config

    workers = workers or os.cpu_count() or 1
    options = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "2*n_jobs"}
    if dask is None:
        try:
            yield Parallel(n_jobs=workers, backend="threading", **options)
        finally:
            close_children()
        return
    cluster = open_cluster(dask, close_children, workers)
    with cluster as client, parallel_config(backend="dask", client=client):
        yield Parallel(**options)
