"""Runs jobs: spread over the cores of this machine or over a Dask cluster, and each row kept as soon as it is there."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mini_transformer.board import entrants, problems
from mini_transformer.board.families import FAMILIES
from mini_transformer.board.jobs import Job, run_job
from mini_transformer.board.keys import make_key
from mini_transformer.board.lanes import ask_family, close_lanes, run_in_lane
from mini_transformer.isolation.journal import Journal
from mini_transformer.isolation.limits import limited_time
from mini_transformer.isolation.pool import open_cluster

Row = dict[str, Any]
SECONDS = 120.0  # that one job may take; the slowest built-in one takes a tenth of it


def list_jobs(
    families: str | Iterable[str],
    method: str | None = None,
    cases: str | Sequence[str] | None = None,
    seeds: int = 3,
    quick: bool = False,
) -> list[Job]:
    """The jobs of a board: for each problem and seed every method, random, oracle, and the first method on an untrained model.

    With a `method` of one's own, that on an untrained model, too.

    >>> [job.row_name for job in list_jobs(["erasure"], seeds=1, quick=True)][-3:]
    ['random', 'oracle', 'leace (untrained)']
    """
    jobs = []
    families = [families] if isinstance(families, str) else list(families)
    problems.check_cases(families, cases)
    for family in families:
        names = [*entrants.list_entrants(family), *([method] if method else [])]
        lines = [(name, False) for name in (*names, "random", "oracle")] + [(names[0], True)]
        lines += [(method, True)] if method else []
        for problem in problems.list_problems(family, cases, quick):
            for seed in problems.list_seeds(family, problem, seeds):
                jobs += [Job(family, problem, name, seed, untrained) for name, untrained in lines]
    return list(dict.fromkeys(jobs))


def run_jobs(
    jobs: Sequence[Job],
    out: Path | None = None,
    workers: int | None = None,
    dask: str | None = None,
    seconds: int | float = SECONDS,
    progress: bool = False,
) -> list[Row]:
    """The rows of these jobs, in their order, whatever the number of workers (by default one per core).

    `out` is the folder that keeps the rows; those that are there already are not computed again. `dask` is the address
    of a cluster, or "local". `seconds` is what one job may take.
    """
    from tqdm import tqdm

    journal = Journal(out / "rows.jsonl") if out else None
    keys = {job: make_key(job, seconds) for job in jobs}
    known = journal.entries if journal else {}
    rows = {job: known[key] for job, key in keys.items() if key in known}
    left = [job for job in keys if job not in rows]
    bar = tqdm(total=len(keys), initial=len(rows), disable=not progress, unit="job", smoothing=0.05)
    with bar:
        for job, row in _run_in_lanes(left, workers, dask, seconds):
            rows[job] = row
            if journal:
                journal.append(keys[job], row)
            bar.update()
    return [rows[job] for job in jobs]


def run_here(
    jobs: Sequence[Job], method: Callable[..., Any], name: str, seconds: int | float = SECONDS
) -> list[Row]:
    """The rows of these jobs in this process, `method` standing for the entrant `name`: for a function that has no importable name.

    An alarm ends what takes longer than `seconds`, but a method that ends or crashes Python ends the board, too.
    """
    rows = []
    for job in jobs:
        with limited_time(seconds):
            rows.append(run_job(job, method if job.entrant == name else None))
    return rows


def _run_in_lanes(
    jobs: Sequence[Job], workers: int | None, dask: str | None, seconds: int | float
) -> Iterator[tuple[Job, Row]]:
    """Each job with its row, as they are done."""
    from joblib import delayed

    if jobs:
        with _open_workers(workers, dask) as parallel:
            yield from parallel(delayed(_run_pair)(job, seconds) for job in jobs)


def _run_pair(job: Job, seconds: int | float) -> tuple[Job, Row]:
    return job, run_in_lane(job, seconds)


@contextlib.contextmanager
def _open_workers(workers: int | None, dask: str | None) -> Iterator[Any]:
    """joblib's Parallel, on threads (each has its lane) or on the workers of a cluster."""
    from joblib import Parallel, parallel_config

    options = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "2*n_jobs"}
    if dask is None:
        try:
            yield Parallel(n_jobs=workers or os.cpu_count() or 1, backend="threading", **options)
        finally:
            close_lanes()
        return
    cluster = open_cluster(dask, close_lanes, workers or os.cpu_count() or 1)
    with cluster as client, parallel_config(backend="dask", client=client):
        yield Parallel(**options)


def find_families(family: str | None, method: str | None = None) -> list[str]:
    """The family given; else that of the method `module:function`, by its parameters; else all. ValueError if it cannot be told."""
    if family is not None and family not in FAMILIES:
        raise ValueError(f"no family is called {family!r}; there are {', '.join(FAMILIES)}")
    if method is not None and ":" not in method:
        raise ValueError(f"the method is {method!r}, but must be given as module:function")
    if method is None or family is not None:
        return [family] if family else list(FAMILIES)
    try:
        return [ask_family(method)]
    finally:
        close_lanes()
