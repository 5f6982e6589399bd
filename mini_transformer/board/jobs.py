"""One job of the board: an entrant on a problem at a seed, run in this process, to a row of plain data. It never raises.

As a program (`python -m mini_transformer.board.jobs`) it is a lane: it answers jobs that come in frames, see `child`.
"""

import contextlib
import copy
import json
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mini_transformer.board import entrants, problems
from mini_transformer.board.costs import counting
from mini_transformer.board.families import FAMILIES, NotApplicable, check_answer, infer_family
from mini_transformer.board.problem import Problem
from mini_transformer.isolation.child import serve
from mini_transformer.isolation.explaining import summarize
from mini_transformer.isolation.limits import OutOfTime, Output, undisturbed
from mini_transformer.model import Transformer

DRAWS = 4  # random answers per seed; an even number, since random circuits come in pairs
HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """What to run: plain data, so that it can be sent and hashed. `untrained` runs the entrant on an untrained model."""

    family: str
    problem: str
    entrant: str
    seed: int
    untrained: bool = False

    @property
    def row_name(self) -> str:
        """The entrant's name in the report.

        >>> Job("probe", "facts/x", "linear", 0, untrained=True).row_name
        'linear (untrained)'
        """
        return f"{self.entrant} (untrained)" if self.untrained else self.entrant


def make_row(job: Job) -> dict[str, Any]:
    """The row of a job that has not been run."""
    costs = dict.fromkeys(("forward", "backward", "seconds"), 0.0)
    which = {
        "family": job.family,
        "problem": job.problem,
        "entrant": job.row_name,
        "seed": job.seed,
    }
    return {**which, "ok": False, "error": None, "metrics": {}, "fell": None, **costs}


def run_job(job: Job, method: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The row of this job: metrics, costs, and in one sentence what went wrong. `method` stands in for the entrant's own.

    >>> row = run_job(Job("circuit", "boolean_and/zero", "oracle", 0))
    >>> row["ok"], row["metrics"]["auroc_best"]
    (True, 1.0)
    """
    row = make_row(job)
    try:
        problem = _build(job.family, job.problem, job.seed)
        measured = (
            _measure_random(problem)
            if job.entrant == "random"
            else _measure_method(job, problem, method, row)
        )
        row["metrics"] = check_metrics(job.family, measured)
        row["fell"] = (
            bool(problem.trap.falls(row["metrics"])) if problem.trap and row["metrics"] else None
        )
        if job.entrant == "oracle":
            trap = (
                {"what": problem.trap.what, "verdict": problem.trap.verdict}
                if problem.trap
                else None
            )
            row["about"] = {"note": problem.note, "trap": trap}
        row["ok"] = True
    except NotApplicable:
        row["ok"] = True
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        row["error"] = explain(error)
    return row


@lru_cache(maxsize=4)
def _build(family: str, name: str, seed: int) -> Problem:
    return problems.build(family, name, seed)


def _measure_random(problem: Problem) -> dict[str, float]:
    """The mean over several random answers."""
    first = problem.seed * DRAWS
    each = [problem.measure(problem.random(draw)) for draw in range(first, first + DRAWS)]
    known = [key for key in each[0] if all(found.get(key) is not None for found in each)]
    return {key: sum(found[key] for found in each) / DRAWS for key in known}


def _measure_method(
    job: Job, problem: Problem, method: Callable[..., Any] | None, row: dict[str, Any]
) -> dict[str, Any]:
    """Run the method on a copy of what it gets, so that nothing that it changes is measured with; costs go into the row."""
    if job.entrant == "oracle":
        return problem.measure(check_answer(job.family, problem.oracle(), problem.arguments))
    arguments = problem.untrained if job.untrained else problem.arguments
    measure = (
        problem.measure_untrained
        if job.untrained and problem.measure_untrained
        else problem.measure
    )
    n_layers = next(
        (part.config.n_layers for part in arguments if isinstance(part, Transformer)), 1
    )
    with _undisturbed():
        method = method or entrants.find(job.family, job.entrant)
        given = copy.deepcopy(arguments)
        with counting() as cost:
            started = time.process_time()
            answer = method(*given)
            row["seconds"] = time.process_time() - started
        row["forward"], row["backward"] = cost.count_passes(n_layers, problem.n_prompts)
        metrics = measure(check_answer(job.family, answer, arguments))
        if problem.control and not job.untrained:
            metrics = problem.control.add(
                metrics, method(*copy.deepcopy(problem.control.arguments))
            )
    return metrics


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A method that draws from the global generators gets the same score twice, and nothing that it sets or prints stays."""
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        with undisturbed(Output()):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def check_metrics(family: str, metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics as plain numbers, without those that are not defined here (None); ValueError if one is NaN."""
    for name, value in metrics.items():
        if value is not None and not np.isfinite(value):
            raise ValueError(f"{name} came out as {value}: the answer cannot be measured")
    found = {name: float(value) for name, value in metrics.items() if value is not None}
    if found and FAMILIES[family].headline not in found:
        raise ValueError(f"{FAMILIES[family].headline} is not defined for this answer")
    return found


def explain(error: BaseException) -> str:
    """What went wrong, in one sentence, with the innermost line that is not the package's own.

    >>> explain(ValueError("the answer is too long"))
    'the answer is too long'
    """
    if isinstance(error, OutOfTime):
        return "it was still running when its time was up"
    if isinstance(error, SystemExit):
        return "it stops Python (exit): return a value instead"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not Path(frame.filename).is_relative_to(HERE)
    ]
    own = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and not frame.filename.startswith("<")
    ]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    if isinstance(error, (ValueError, KeyError)) and error.args and not own:
        return str(error.args[0])  # a sentence of ours
    return summarize(error) + where


def answer_frame(frame: bytes) -> bytes:
    """A job as JSON to its row as JSON; `{"infer_family": method}` to its family; nothing, which asks who is there, to nothing."""
    if not frame:
        return b""
    request = json.loads(frame)
    return json.dumps(
        _tell_family(request["infer_family"])
        if "infer_family" in request
        else run_job(Job(**request))
    ).encode()


def _tell_family(method: str) -> dict[str, str]:
    try:
        with _undisturbed():
            return {"family": infer_family(entrants.import_method(method))}
    except BaseException as error:
        return {"error": explain(error)}


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a method's module is looked for where the command was given
    serve(answer_frame)
