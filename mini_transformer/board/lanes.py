"""Lanes: each worker thread has one child process for its jobs, so that a method that hangs, exits or crashes costs its row only."""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from mini_transformer.board.jobs import Job, make_row
from mini_transformer.isolation.child import Child, ChildError, ChildOutOfTime
from mini_transformer.isolation.pool import OnePerThread

START = 300  # seconds that a child may take to import all that it needs, on a machine that is busy


def run_in_lane(job: Job, seconds: int | float) -> dict[str, Any]:
    """The row of a job, run in this thread's child process; never raises. A child that fails is replaced for the next job."""
    try:
        return json.loads(_lanes.get().ask(json.dumps(asdict(job)).encode(), seconds))
    except ChildOutOfTime:
        sentence = f"it was still running after {seconds:g} s, and was stopped"
    except (ChildError, OSError) as error:
        sentence = f"its process did not survive: {error}"
    return {**make_row(job), "error": sentence}


def ask_family(method: str) -> str:
    """The family of `module:function` by its parameters, imported in a child process; ValueError if it cannot be told."""
    try:
        found = json.loads(_lanes.get().ask(json.dumps({"infer_family": method}).encode(), START))
    except ChildError as error:
        raise ValueError(f"{method} could not be imported: {error}") from None
    if "error" in found:
        raise ValueError(found["error"])
    return found["family"]


def close_lanes() -> None:
    """Kill the child processes of all threads."""
    _lanes.close()


def _open_lane() -> Child:
    """Start a child that sees the modules that we see; a thread of its own is all that it gets."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "OMP_NUM_THREADS": "1",
    }
    child = Child([sys.executable, "-m", "mini_transformer.board.jobs"], env=env)
    child.ask(b"", START)
    return child


_lanes = OnePerThread(_open_lane, end=Child.kill, is_lost=lambda child: child.is_dead)
