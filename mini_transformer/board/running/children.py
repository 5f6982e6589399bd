"""Run jobs in child processes, one per worker thread.

A method that hangs, exits or crashes so costs its own row only.
"""

import functools
import importlib
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from mini_transformer.board.problem import Method
from mini_transformer.board.running.jobs import Job, make_row
from mini_transformer.isolation.child import Child, ChildError, ChildOutOfTime
from mini_transformer.isolation.per_thread import OnePerThread

__all__ = ["ask_family", "close_children", "find_name", "run_in_child"]

START = 300  # seconds that a child may take to import all that it needs, on a machine that is busy


def run_in_child(job: Job, seconds: int | float) -> dict[str, Any]:
    """Run a job to its row in this thread's child process. Never raise.

    A child that fails is replaced for the next job.
    """
    try:
        return json.loads(_children.get().ask(json.dumps(asdict(job)).encode(), seconds))
    except ChildOutOfTime:
        sentence = f"it was still running after {seconds:g} s, and was stopped"
    except (ChildError, OSError) as error:
        sentence = f"its process did not survive: {error}"
    return {**make_row(job), "error": sentence}


def ask_family(method: str) -> str:
    """Infer the family of `module:function`, imported in a child process, by its parameters.

    Raise ValueError if it cannot be told.
    """
    request = json.dumps({"infer_family": method}).encode()
    try:
        found = json.loads(_children.get().ask(request, START))
    except ChildError as error:
        raise ValueError(f"{method} could not be imported: {error}") from None
    if "error" in found:
        raise ValueError(found["error"])
    return found["family"]


def find_name(method: Method) -> str | None:
    """Return `module:function` if a child process that imports it gets this very function.

    Return None for a function from a notebook.

    >>> find_name(json.dumps), find_name(lambda: None)
    ('json:dumps', None)
    """
    module = getattr(method, "__module__", None)
    name = getattr(method, "__qualname__", "")
    if not module or module == "__main__":
        return None
    if getattr(sys.modules.get(module), "__file__", None) is None:
        return None
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    return f"{module}:{name}" if found is method else None


def close_children() -> None:
    """Kill the child processes of all threads."""
    _children.close()


def _start_child() -> Child:
    """Start a child that sees the modules that we see, and computes in one thread."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "OMP_NUM_THREADS": "1",
    }
    child = Child([sys.executable, "-m", "mini_transformer.board.running.jobs"], env=env)
    child.ask(b"", START)
    return child


_children = OnePerThread(_start_child, end=Child.kill, is_lost=lambda child: child.is_dead)
