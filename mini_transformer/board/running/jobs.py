"""Run one job of the board, an entrant on a problem at a seed, to a row of plain data.

It never raises. As a program (`python -m mini_transformer.board.running.jobs`) this is a child
process that answers jobs, see `isolation.child`.
"""

import contextlib
import copy
import json
import random
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import mini_transformer
from mini_transformer.board.families import (
    find_entrant,
    find_family,
    import_method,
    infer_family,
)
from mini_transformer.board.problem import Method, NotApplicable, Problem
from mini_transformer.board.running.passes import counting
from mini_transformer.isolation.child import serve
from mini_transformer.isolation.explaining import summarize
from mini_transformer.isolation.limits import OutOfTime, Output, undisturbed
from mini_transformer.model import Transformer

__all__ = ["DRAWS", "Job", "answer_frame", "check_metrics", "explain", "make_row", "run_job"]

DRAWS = 4  # random answers per seed; an even number, since random circuits come in pairs
PACKAGE = Path(mini_transformer.__file__).parent


@dataclass(frozen=True)
class Job:
    """What to run: plain data, so that it can be sent and hashed.

    `untrained` runs the entrant on an untrained model.
    """

    family: str
    problem: str
    entrant: str
    seed: int
    untrained: bool = False

    @property
    def row_name(self) -> str:
        """Name the entrant as the report does.

        >>> Job("probe", "facts/x", "linear", 0, untrained=True).row_name
        'linear (untrained)'
        """
        return f"{self.entrant} (untrained)" if self.untrained else self.entrant


def make_row(job: Job) -> dict[str, Any]:
    """Make the row of a job that has not been run."""
    return {
        "family": job.family,
        "problem": job.problem,
        "entrant": job.row_name,
        "seed": job.seed,
        "ok": False,
        "error": None,
        "metrics": {},
        "fell": None,
        "forward": 0.0,
        "backward": 0.0,
        "seconds": 0.0,
    }


def run_job(job: Job, method: Method | None = None) -> dict[str, Any]:
    """Run this job to its row: metrics, costs, and in one sentence what went wrong.

    `method` stands in for the entrant's own.

    >>> row = run_job(Job("circuit", "boolean_and/zero", "oracle", 0))
    >>> row["ok"], row["metrics"]["auroc_best"]
    (True, 1.0)
    """
    row = make_row(job)
    try:
        problem = _build(job.family, job.problem, job.seed)
        if job.entrant == "random":
            measured = _measure_random(problem)
        elif job.entrant == "oracle":
            measured = _measure_oracle(problem)
            row["about"] = _describe(problem)
        else:
            measured = _measure_method(job, problem, method, row)
        row["metrics"] = check_metrics(job.family, measured)
        if problem.trap and row["metrics"]:
            row["fell"] = bool(problem.trap.falls(row["metrics"]))
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
    return find_family(family).build(name, seed)


def _describe(problem: Problem) -> dict[str, Any]:
    """Return what the report says of a problem."""
    trap = problem.trap
    told = {"what": trap.what, "verdict": trap.verdict} if trap else None
    return {"note": problem.note, "trap": told}


def _measure_random(problem: Problem) -> dict[str, float]:
    """Average the metrics of several random answers."""
    first = problem.seed * DRAWS
    each = [problem.measure(problem.random(draw)) for draw in range(first, first + DRAWS)]
    known = [key for key in each[0] if all(found.get(key) is not None for found in each)]
    return {key: sum(found[key] for found in each) / DRAWS for key in known}


def _measure_oracle(problem: Problem) -> dict[str, Any]:
    family = find_family(problem.family)
    return problem.measure(family.check_answer(problem.oracle(), problem.arguments))


def _measure_method(
    job: Job, problem: Problem, method: Method | None, row: dict[str, Any]
) -> dict[str, Any]:
    """Run the method and measure its answer; its costs go into the row.

    The method gets a copy of the arguments, so that nothing that it changes is measured with.
    """
    family = find_family(job.family)
    arguments = problem.untrained if job.untrained else problem.arguments
    measure = problem.measure
    if job.untrained and problem.measure_untrained:
        measure = problem.measure_untrained
    models = [part for part in arguments if isinstance(part, Transformer)]
    n_layers = models[0].config.n_layers if models else 1

    with _undisturbed():
        method = method or find_entrant(job.family, job.entrant)
        given = copy.deepcopy(arguments)
        with counting() as cost:
            started = time.process_time()
            answer = method(*given)
            row["seconds"] = time.process_time() - started
        row["forward"], row["backward"] = cost.count_passes(n_layers, problem.n_prompts)
        metrics = measure(family.check_answer(answer, arguments))
        if problem.control and not job.untrained:
            again = method(*copy.deepcopy(problem.control.arguments))
            metrics = problem.control.add(metrics, again)
    return metrics


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Seed the global generators inside the block; afterwards restore them.

    What was printed is discarded.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        with undisturbed(Output()):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def check_metrics(family: str, metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics as plain numbers, without those that are not defined here (None).

    Raise ValueError if one is NaN or infinite, or if the headline is missing.
    """
    for name, value in metrics.items():
        if value is not None and not np.isfinite(value):
            raise ValueError(f"{name} came out as {value}: the answer cannot be measured")
    found = {name: float(value) for name, value in metrics.items() if value is not None}
    headline = find_family(family).headline
    if found and headline not in found:
        raise ValueError(f"{headline} is not defined for this answer")
    return found


def explain(error: BaseException) -> str:
    """Say what went wrong in one sentence, with the innermost line of the method's own code.

    >>> explain(ValueError("the answer is too long"))
    'the answer is too long'
    """
    if isinstance(error, OutOfTime):
        return "it was still running when its time was up"
    if isinstance(error, SystemExit):
        return "it stops Python (exit): return a value instead"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    if isinstance(error, (ValueError, KeyError)) and error.args and not own:
        return str(error.args[0])  # a sentence of ours
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return summarize(error) + where


def _is_own(file: str) -> bool:
    """Tell whether a file is neither this package's nor a library's."""
    return not (
        Path(file).is_relative_to(PACKAGE) or "site-packages" in file or file.startswith("<")
    )


def answer_frame(frame: bytes) -> bytes:
    """Answer one request to the child process, JSON to JSON.

    A job is answered with its row, `{"infer_family": method}` with the family. An empty frame,
    which asks whether the child is there, is answered with one.
    """
    if not frame:
        return b""
    request = json.loads(frame)
    if "infer_family" in request:
        return json.dumps(_tell_family(request["infer_family"])).encode()
    return json.dumps(run_job(Job(**request))).encode()


def _tell_family(method: str) -> dict[str, str]:
    try:
        with _undisturbed():
            return {"family": infer_family(import_method(method))}
    except BaseException as error:
        return {"error": explain(error)}


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a method's module is looked for where the command was given
    serve(answer_frame)
