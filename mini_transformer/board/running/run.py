"""List the jobs of a board and run them, keeping rows as soon as they are there."""

import contextlib
import itertools
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mini_transformer.board.families import (
    check_cases,
    find_family,
    infer_family,
    list_entrants,
    load_families,
)
from mini_transformer.board.problem import Method, Problem
from mini_transformer.board.running.children import (
    Lane,
    ask_family,
    close_children,
    run_in_child,
)
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.board.running.keys import find_change, make_key
from mini_transformer.isolation.cluster import open_cluster
from mini_transformer.isolation.files import write_atomically
from mini_transformer.isolation.journal import Journal

__all__ = [
    "SECONDS",
    "choose_families",
    "find_common_family",
    "list_jobs",
    "list_own_jobs",
    "list_shortages",
    "open_draw",
    "run_anywhere",
    "run_jobs",
]

Row = dict[str, Any]
SECONDS = 120.0  # that one job may take; the slowest built-in one takes a tenth of it
FEW = 2  # models of a first look


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
    models: int | None = None,
    quick: bool = False,
    entrants: Sequence[str] | None = None,
) -> list[Job]:
    """List the jobs of a board: each problem, each of its models, each entrant.

    Entrants are the built-in methods (or those given), `method`, one's own, the trivial references,
    random answers and the right one. The first method of a family, and one's own, also run on an
    untrained model. Raise ValueError for fewer than one model, or for no case at all.

    >>> [job.row_name for job in list_jobs(["erasure"], models=1, quick=True)][-3:]
    ['random', 'oracle', 'leace (untrained)']
    """
    if models is not None and models < 1:
        raise ValueError(f"models is {models}, but at least one is needed")
    if cases is not None and not cases:
        raise ValueError(
            "no cases were given, but at least one is needed; leave `cases` out for all of them"
        )
    families = [families] if isinstance(families, str) else list(families)
    check_cases(families, cases)
    jobs = []
    for name in families:
        family = find_family(name)
        lines = _list_lines(name, list_entrants(name) if entrants is None else entrants, method)
        for problem in family.list_problems(cases, quick):
            few = min(FEW, family.models) if quick else None
            for number in family.list_numbers(problem, models or few):
                jobs += [Job(name, problem, entrant, number, blank) for entrant, blank in lines]
    return list(dict.fromkeys(jobs))


def _list_lines(family: str, entrants: Sequence[str], own: str | None) -> list[tuple[str, bool]]:
    """List the entrants of a problem, and whether each is asked about an untrained model."""
    mine = [own] if own else []
    references = find_family(family).references
    lines = [(entrant, False) for entrant in (*entrants, *mine, *references, "random", "oracle")]
    return lines + [(entrant, True) for entrant in (*entrants[:1], *mine)]


def list_own_jobs(problems: Sequence[Problem], own: str, entrants: Sequence[str]) -> list[Job]:
    """List the jobs of problems that the caller has built; those of one name are its models."""
    return [
        Job(problem.family, problem.name, entrant, number, blank)
        for (_, number), problem in _number(problems).items()
        for entrant, blank in _list_lines(problem.family, entrants, own)
    ]


def _number(problems: Sequence[Problem]) -> dict[tuple[str, int], Problem]:
    """Number the problems of each name."""
    numbered: dict[tuple[str, int], Problem] = {}
    for problem in problems:
        numbered[problem.name, sum(name == problem.name for name, _ in numbered)] = problem
    return numbered


def list_shortages(jobs: Sequence[Job], models: int | None) -> list[str]:
    """Say of which problems there are fewer models than asked for."""
    if models is None:
        return []
    short = {
        job.problem: there
        for job in jobs
        if (there := len(find_family(job.family).list_numbers(job.problem, models))) < models
    }
    return [f"{name} has {there} models, not {models}" for name, there in short.items()]


def find_common_family(methods: Sequence[str | Method]) -> str:
    """Return the one family that all of these are of. Raise ValueError if it cannot be told."""
    fits = set(load_families())
    for method in methods:
        if not isinstance(method, str):
            fits &= {infer_family(method)}
        elif ":" in method:
            fits &= set(choose_families(None, method))
        else:
            fits &= {
                name
                for name in load_families()
                if method in (*list_entrants(name), *find_family(name).references)
            }
    if len(fits) != 1:
        said = " and ".join(map(str, methods))
        raise ValueError(f"{said} are of {len(fits)} families in common: say which by `family`")
    return fits.pop()


def open_draw(split: str, seed: int | None = None, out: Path | None = None) -> Draw:
    """Return the models of a run: by `seed`, else those that the folder knows, else new ones.

    The folder keeps the first.
    """
    kept = None if out is None else out / "seed.json"
    if seed is None and kept is not None and kept.exists():
        seed = int(json.loads(kept.read_text())["seed"])
    draw = Draw(split, secrets.randbits(64) if seed is None else seed)
    if kept is not None and not kept.exists():
        write_atomically(kept, json.dumps({"seed": draw.seed}) + "\n")
    return draw


def run_jobs(
    jobs: Sequence[Job],
    draw: Draw,
    out: Path | None = None,
    workers: int | None = None,
    dask: str | None = None,
    seconds: int | float = SECONDS,
    progress: bool = False,
) -> tuple[list[Row], list[str]]:
    """Run these jobs to rows, in their order, whatever the number of workers.

    Return the rows, and notes on those that were kept and no longer hold. By default there is one
    worker per core. `out` is the folder that keeps the rows; those that are there already are not
    computed again, as long as the code of their method is the same. `dask` is the address of a
    cluster, or "local". `seconds` is what one job may take.
    """
    from tqdm import tqdm

    journal = Journal(out / "rows.jsonl") if out else None
    keys = {job: make_key(job, draw, seconds) for job in jobs}
    rows, notes = find_rows(keys, journal.entries if journal else {})
    left = [job for job in keys if job not in rows]
    bar = tqdm(total=len(keys), initial=len(rows), disable=not progress, unit="job", smoothing=0.05)
    with bar:
        for job, row in _run_in_children(left, draw, workers, dask, seconds):
            rows[job] = row
            if journal:
                journal.append(keys[job], row)
            bar.update()
    return [{k: v for k, v in rows[job].items() if k != "depends"} for job in jobs], notes


def find_rows(
    keys: Mapping[Job, str], known: Mapping[str, Row]
) -> tuple[dict[Job, Row], list[str]]:
    """Find the rows that are known and still hold, and say why others do not."""
    rows, notes = {}, {}
    for job, key in keys.items():
        if key in known:
            row = known[key]
            depends = row.get("depends", {"files": {}, "packages": {}})
            change = "its process has not said what it imported" if depends is None else None
            if change := change or find_change(depends):
                notes[job.entrant] = f"{job.entrant} is run again, since {change}"
            else:
                rows[job] = row
    return rows, list(notes.values())


def run_anywhere(
    jobs: Sequence[Job],
    split: str,
    seed: int | None,
    out: Path | None = None,
    *,
    here: Mapping[str, Method] | None = None,
    problems: Sequence[Problem] = (),
    **options: Any,
) -> tuple[list[Row], Draw, list[str]]:
    """Run these jobs to rows, each where it can be run; return the draw of models and notes, too.

    Methods in `here` have no importable name: they run in this process, under an alarm, and one
    that ends Python ends the board. They run first, on models that the judge's process draws and
    nobody here knows. `problems` are built by the caller, and judged here. `options` are those of
    `run_jobs`.
    """
    here = here or {}
    mine = [job for job in jobs if problems or job.entrant in here]
    rows: dict[Job, Row] = {}
    draw = Draw(split, seed)
    if mine:
        lane = Lane(here, _number(problems))
        try:
            seconds = options.get("seconds", SECONDS)
            rows |= {job: lane.run(job, draw, seconds) for job in mine}
            draw = draw if problems else lane.tell_draw(draw)
        finally:
            lane.close()
    rest = [job for job in jobs if job not in rows]
    draw = open_draw(split, draw.seed, out)
    found, notes = run_jobs(rest, draw, out, **options)
    rows |= dict(zip(rest, found, strict=True))
    return [rows[job] for job in jobs], draw, notes


def _run_in_children(
    jobs: Sequence[Job], draw: Draw, workers: int | None, dask: str | None, seconds: int | float
) -> Iterator[tuple[Job, Row]]:
    """Yield each job with its row, as they are done: all of a problem and a model together."""
    from joblib import delayed

    groups = [list(group) for _, group in itertools.groupby(jobs, lambda j: (j.problem, j.number))]
    if jobs:
        with _open_workers(workers, dask) as parallel:
            for pairs in parallel(delayed(_run_group)(group, draw, seconds) for group in groups):
                yield from pairs


def _run_group(jobs: Sequence[Job], draw: Draw, seconds: int | float) -> list[tuple[Job, Row]]:
    return [(job, run_in_child(job, draw, seconds)) for job in jobs]


@contextlib.contextmanager
def _open_workers(workers: int | None, dask: str | None) -> Iterator[Any]:
    """Make joblib's Parallel, on threads (each has its children) or on the workers of a cluster."""
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
