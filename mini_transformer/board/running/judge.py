"""Judge one job, an entrant on a problem and a model, to a row of plain data.

The judge builds the problem, asks for an answer, and measures it against the truth. As a program
(`python -m mini_transformer.board.running.judge`) this is a child process: it answers a job with
its row, and asks its parent for the method's answer on the way.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, lru_cache
from typing import Any

import numpy as np

from mini_transformer.board.families import find_family
from mini_transformer.board.problem import NotApplicable, Problem
from mini_transformer.board.running.answering import explain, seeded
from mini_transformer.board.running.jobs import Draw, Job, draw_seed, make_row
from mini_transformer.board.running.parcels import open_answer, pack, unpack
from mini_transformer.board.running.passes import Cost
from mini_transformer.isolation.child import serve_asking
from mini_transformer.model import Transformer

__all__ = ["DRAWS", "Ask", "build_problem", "check_metrics", "judge"]

DRAWS = 4  # random answers per model; an even number, since random circuits come in pairs

Ask = Callable[[bytes], bytes]
Row = dict[str, Any]


def judge(job: Job, draw: Draw, ask: Ask, problem: Problem | None = None) -> Row:
    """Run this job to its row: metrics, costs, and in one sentence what went wrong. Never raise.

    `ask(frame)` has a method answer, see `answering`. `problem` is built if it is not given.

    >>> row = judge(Job("erasure", "planted/apart", "oracle", 0), Draw("tuning"), ask=bytes)
    >>> row["ok"], row["metrics"]["balance"]
    (True, 1.0)
    """
    row = make_row(job)
    try:
        with seeded():
            _fill_in(row, job, problem or build_problem(job, draw), ask)
        row["ok"] = True
    except NotApplicable:
        row["ok"] = True
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        row |= {"error": explain(error), "metrics": {}}
    return row


def build_problem(job: Job, draw: Draw) -> Problem:
    """Build the problem of a job, or return one built lately."""
    shipped = find_family(job.family).shipped.get(job.problem)
    return _build(job.family, job.problem, draw_seed(draw, job.number, shipped))


@lru_cache(maxsize=4)
def _build(family: str, name: str, seed: int) -> Problem:
    with seeded():
        return find_family(family).build(name, seed)


def _fill_in(row: Row, job: Job, problem: Problem, ask: Ask) -> None:
    """Measure the entrant's answer and put all that is found into the row."""
    family = find_family(job.family)
    if job.entrant == "random":
        metrics = _measure_random(problem)
    elif job.entrant == "oracle":
        answer = family.check_answer(problem.oracle(), problem.arguments)
        metrics, row["level"] = problem.measure(answer), family.level(answer)
        row["about"] = _describe(problem)
    else:
        metrics = _measure_method(row, job, problem, ask)
    row["metrics"] = check_metrics(job.family, metrics)
    if problem.trap and row["metrics"]:
        row["fell"] = bool(problem.trap.falls(row["metrics"]))


def _describe(problem: Problem) -> Row:
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


def _measure_method(row: Row, job: Job, problem: Problem, ask: Ask) -> dict[str, Any]:
    """Have the method answer, and measure its answer; its costs go into the row."""
    family = find_family(job.family)
    blank = job.untrained
    arguments = problem.untrained if blank else problem.arguments
    options = problem.options
    if blank and problem.untrained_options is not None:
        options = problem.untrained_options

    def say(**request: Any) -> Mapping[str, Any]:
        return _read(ask(pack(request)))

    def run(given: tuple, named: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
        which = {"family": job.family, "entrant": job.entrant}
        found = say(do="run", **which, arguments=given, options=dict(named))
        answer = open_answer(
            found["answer"],
            lambda name, *parts: say(do="call", place=found["place"], name=name, arguments=parts)[
                "value"
            ],
        )
        return found, answer

    found, answer = run(arguments, options)
    row["seconds"] = float(found["seconds"])
    models = [part for part in arguments if isinstance(part, Transformer)]
    n_layers = models[0].config.n_layers if models else 1
    passes = Cost(*found["passes"]).count_passes(n_layers, problem.n_prompts)
    row["forward"], row["backward"] = passes
    answer = family.check_answer(answer, arguments)
    row["level"] = family.level(answer)
    metrics = ((blank and problem.measure_untrained) or problem.measure)(answer)
    if problem.control and not blank:
        metrics = problem.control.add(metrics, run(problem.control.arguments, options)[1])
    return metrics


def _read(frame: bytes) -> Mapping[str, Any]:
    """Read a reply. Raise what it says went wrong."""
    reply = unpack(frame)
    if not isinstance(reply, dict):
        raise ValueError("what answers for the method sends something else than a reply")
    if "error" in reply:
        raise ValueError(reply["error"])
    if "not_applicable" in reply:
        raise NotApplicable
    return reply


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


def answer_frame(frame: bytes, ask: Ask) -> bytes:
    """Answer a request to the child process, JSON to JSON; an empty one with nothing.

    A job is answered with its row, a draw alone with its seed: where that is None, the judge draws
    one, which nobody else knows until it is asked for.
    """
    if not frame:
        return b""
    request = json.loads(frame)
    draw = Draw(**request["draw"])
    if draw.seed is None:
        draw = Draw(draw.split, _draw_here())
    found = judge(Job(**request["job"]), draw, ask) if "job" in request else asdict(draw)
    return json.dumps(found).encode()


@cache
def _draw_here() -> int:
    return secrets.randbits(64)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    serve_asking(answer_frame)
