"""Judge files in a process of its own, while the student's code runs in a sandbox.

A batch has one such process per core. What a student's code sends back can at worst keep the
grader's own code busy, or make it large. Then this process is killed and started again, and only
that file's grade is lost. No student's code is imported here.

As a program (`python -P -m mini_transformer.course.lecturer.judge`) it answers orders that
come in frames, see `mini_transformer.isolation.child`.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mini_transformer.course.grading.grade import CheckResult, ExerciseResult, Report, grade_student
from mini_transformer.course.grading.loading import StudentError
from mini_transformer.course.lecturer.isolated import PATIENCE, SECONDS_TO_START, IsolatedStudent
from mini_transformer.course.lecturer.sandbox import NO_SANDBOX, find_sandbox
from mini_transformer.course.lecturer.worker import limit_memory
from mini_transformer.course.material import CourseError, Material, find_material
from mini_transformer.isolation.child import (
    Child,
    ChildDied,
    ChildError,
    ChildFlooded,
    ChildOutOfTime,
    serve,
)

FILE_SECONDS = 300.0  # that all calls to one file may take together; an honest one takes a few
FILES = 50  # judged by one process before it is replaced, so that its memory stays small
MEMORY = 2**30  # bytes of addresses besides the interpreter with torch


@dataclass(frozen=True)
class Order:
    """Say what to judge, and how: the source of one student's answers to lesson `key`.

    It is plain data, so that it can be sent to another process.
    """

    key: str
    source: str
    base_seed: int
    seconds: int | float  # that one call may take
    unsafe: bool
    material: tuple[str, ...] = ()  # the four folders, if they are not those that are installed


class HurriedStudent(IsolatedStudent):
    """Limit the calls to one student's file to FILE_SECONDS in all.

    Answers that were given before count.
    """

    started = 0.0

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function as IsolatedStudent does. Raise StudentError if the time is over."""
        self.started = self.started or time.monotonic()
        if time.monotonic() - self.started > FILE_SECONDS:
            limit = f"more than {FILE_SECONDS:g} s in all"
            raise StudentError(f"{self.name} took {limit}: {name} was not called any more")
        return super().call(name, *args, **kwargs)


def judge(order: Order) -> Report:
    """Judge one file. Raise CourseError if the sandbox is missing or does not start."""
    name = f"ex{order.key}.py"
    source = order.source.encode()
    sandbox = NO_SANDBOX if order.unsafe else find_sandbox()
    students: list[IsolatedStudent] = []

    def load(parameters: Mapping[str, str]) -> IsolatedStudent:
        students.append(
            HurriedStudent(name, source, order.base_seed, parameters, order.seconds, sandbox)
        )
        return students[0]

    try:
        material = Material(*map(Path, order.material)) if order.material else find_material()
        return grade_student(material, order.key, load)
    finally:
        for student in students:
            student.close()


def answer_frame(frame: bytes) -> bytes:
    """Judge an order given as JSON, and return its report, or why there is none, as JSON.

    An empty frame asks whether this process is ready; the answer is an empty frame.
    """
    if not frame:
        return b""
    try:
        order = Order(**json.loads(frame))
        return json.dumps(judge(order).as_data()).encode()
    except CourseError as error:
        return json.dumps({"failed": str(error)}).encode()


def read_report(data: dict[str, Any]) -> Report:
    """Make a report of the data that `Report.as_data` returned."""
    results = []
    for result in data["exercises"]:
        checks = tuple(CheckResult(**check) for check in result["checks"])
        results.append(ExerciseResult(**{**result, "checks": checks}))
    return Report(data["key"], results, data["problem"], data["output"])


class Judge:
    """Client of a judging process. Starts it on first use, and restarts it after a crash."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.judged = 0

    def ask(self, order: Order) -> Report:
        """Ask for the report on one file.

        Raise CourseError if there is none for a reason that is not the student's, and
        UnjudgeableError if it is the student's.
        """
        try:
            data = self.ask_once(order)
        except ChildDied:  # perhaps by accident: a machine without memory kills what it likes
            try:
                data = self.ask_once(order)
            except ChildDied as error:
                problem = f"judging what came back ends the process that judges ({error})"
                # What the machine did is no mark.
                raise (CourseError if error.killed else UnjudgeableError)(problem) from None
        if "failed" in data:
            raise CourseError(data["failed"])
        return read_report(data)

    def ask_once(self, order: Order) -> dict[str, Any]:
        """Send an order to a process that runs, and return the data of its report."""
        if self.judged == FILES:
            self.close()
        if self.child is None or self.child.is_dead:
            self.start()
        assert self.child is not None
        self.judged += 1

        limit = SECONDS_TO_START + FILE_SECONDS + 2 * PATIENCE * order.seconds
        frame = json.dumps(asdict(order)).encode()
        try:
            return json.loads(self.child.ask(frame, limit))
        except ChildOutOfTime:
            raise UnjudgeableError(f"judging took more than {limit:g} s, and was stopped") from None
        except ChildFlooded as error:
            problem = "judging what came back makes a report that is too long"
            raise UnjudgeableError(f"{problem}: {error}") from None

    def start(self) -> None:
        # A student's json.py in the current folder is not imported: -P, and no empty entry in the
        # path, which would mean that folder.
        path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        command = [sys.executable, "-P", "-m", "mini_transformer.course.lecturer.judge"]
        self.child = Child(command, env=env)
        self.judged = 0
        try:
            self.child.ask(b"", SECONDS_TO_START)
        except ChildError as error:
            raise CourseError(f"the judging process does not start: {error}") from None

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()


class UnjudgeableError(Exception):
    """The student's code sends back what keeps the grader from judging it, and earns nothing."""


def main() -> None:
    limit_memory(MEMORY, for_good=False)  # the sandbox's worker sets its own
    serve(answer_frame)


if __name__ == "__main__":
    main()
