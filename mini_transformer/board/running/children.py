"""Run jobs between child processes: one that judges, and others that answer.

A method that hangs, exits or crashes so costs its own row only, and there is no truth in the memory
of its process. Methods from elsewhere have a process for each module.
"""

import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mini_transformer.board.families import find_family
from mini_transformer.board.problem import Method, Problem
from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.jobs import Draw, Job, make_row
from mini_transformer.board.running.judge import Ask, judge
from mini_transformer.board.running.parcels import pack, unpack
from mini_transformer.isolation.child import (
    ANSWER,
    QUESTION,
    Child,
    ChildError,
    ChildOutOfTime,
)
from mini_transformer.isolation.per_thread import OnePerThread

__all__ = ["Lane", "ask_family", "close_children", "find_name", "find_owner", "run_in_child"]

START = 300  # seconds that a child may take to import or build, on a machine that is busy
FOLDER = "mini_transformer.board.running"
JUDGE, BUILT_IN = "", "built-in"  # which child it is; the others are called like their module
Row = dict[str, Any]


class Lane:
    """Run jobs one after the other; children are kept, and replaced when they fail.

    `methods` are functions without an importable name, by the entrant that each stands for. They
    run in this process, which so must know neither a truth nor a seed. `problems` are built by the
    caller, by name and number, and are judged in this process.
    """

    def __init__(
        self,
        methods: Mapping[str, Method] | None = None,
        problems: Mapping[tuple[str, int], Problem] | None = None,
    ) -> None:
        self.here = {name: Answerer(method) for name, method in (methods or {}).items()}
        self.problems = problems or {}
        self.children: dict[str, Child] = {}

    def run(self, job: Job, draw: Draw, seconds: int | float) -> Row:
        """Run a job to its row. Never raise."""
        owner, spent = find_owner(job), 0.0

        def ask(question: bytes) -> bytes:
            """Have a question answered; a failure is an answer that says so."""
            nonlocal spent
            started = time.monotonic()
            try:
                asked = self.here.get(job.entrant) or self.start(owner)
                return asked.ask(question, max(seconds - spent, 1e-3))
            except ChildOutOfTime:
                return pack({"error": f"it was still running after {seconds:g} s, and was stopped"})
            except (ChildError, OSError, ValueError) as error:
                return pack({"error": f"its process did not survive: {error}"})
            finally:
                spent += time.monotonic() - started

        if (problem := self.problems.get((job.problem, job.number))) is not None:
            row = judge(job, draw, ask, problem)
        else:
            row = self.ask_judge(job, draw, ask)
        if owner in self.children and owner != BUILT_IN:
            row["depends"] = self.list_sources(owner)
        return row

    def ask_judge(self, job: Job, draw: Draw, ask: Ask) -> Row:
        """Have a job judged, and pass the judge's questions on. Its death is a row that says so."""
        try:
            child = self.start(JUDGE)
            request = {"job": asdict(job), "draw": asdict(draw)}
            reply = child.ask(json.dumps(request).encode(), START)
            while reply[:1] == QUESTION:
                reply = child.ask(ask(reply[1:]), START)
            return json.loads(reply.removeprefix(ANSWER))
        except (ChildError, OSError, ValueError) as error:
            return {**make_row(job), "error": f"the judge did not survive: {error}"}

    def list_sources(self, owner: str) -> Row | None:
        """Ask what code a method's process has imported; None if it is dead."""
        if self.children[owner].is_dead:
            return None
        try:
            return unpack(self.children[owner].ask(pack({"do": "list_sources"}), START))
        except (ChildError, OSError, ValueError):
            return None

    def tell_draw(self, draw: Draw) -> Draw:
        """Return the draw with the judge's own seed, where it was given none."""
        reply = self.start(JUDGE).ask(json.dumps({"draw": asdict(draw)}).encode(), START)
        return Draw(**json.loads(reply.removeprefix(ANSWER)))

    def start(self, owner: str) -> Child:
        """Return the child of that name, a new one if there is none alive.

        It sees the modules that we see, and computes in one thread.
        """
        child = self.children.get(owner)
        if child is None or child.is_dead:
            for other in self.children.keys() - {JUDGE, BUILT_IN, owner}:
                self.children.pop(other).kill()  # one module from elsewhere at a time
            program = "judge" if owner == JUDGE else "answering"
            env = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                "OMP_NUM_THREADS": "1",
            }
            child = Child([sys.executable, "-m", f"{FOLDER}.{program}"], env=env)
            child.ask(b"", START)
            self.children[owner] = child
        return child

    def close(self) -> None:
        """Kill the children."""
        while self.children:
            self.children.popitem()[1].kill()


def find_owner(job: Job) -> str:
    """Name the process that answers for an entrant: its module's, or that of built-in methods."""
    family = find_family(job.family)
    built_in = job.entrant in {*family.entrants, *family.references}
    return BUILT_IN if built_in else job.entrant.partition(":")[0]


def run_in_child(job: Job, draw: Draw, seconds: int | float) -> Row:
    """Run a job to its row in this thread's lane. Never raise."""
    return _lanes.get().run(job, draw, seconds)


def ask_family(method: str) -> str:
    """Infer the family of `module:function`, imported in a child process, by its parameters.

    Raise ValueError if it cannot be told.
    """
    try:
        child = _lanes.get().start(method.partition(":")[0])
        found = unpack(child.ask(pack({"do": "infer", "method": method}), START))
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
    _lanes.close()


_lanes = OnePerThread(Lane, end=Lane.close)
