"""Judging in a process of its own, one file after the other: the verdict is computed here, the student's code runs in a sandbox.

The batch has one of these per core. What a student's code sends back can at worst keep the grader's own code busy, or make it large:
then this process is killed and started again, and only that file's grade is lost. No student's code is imported here.

As a program (`python -P -m mini_transformer.course.judge`) it answers orders that come in frames, see `mini_transformer.child`.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mini_transformer.child import Child, ChildDied, ChildError, ChildFlooded, ChildOutOfTime, serve
from mini_transformer.course.isolated import PATIENCE, SECONDS_TO_START, IsolatedStudent
from mini_transformer.course.loading import StudentError
from mini_transformer.course.material import CourseError, Material, find_material
from mini_transformer.course.report import CheckResult, ExerciseResult, Report, grade_student
from mini_transformer.course.sandbox import NO_SANDBOX, find_sandbox

FILE_SECONDS = 300.0  # that all calls to one file may take together; an honest one takes a few
FILES = 50  # that one process judges before it is replaced, so that what it gathers in memory stays small
MEMORY = 8 * 2**30  # bytes of addresses; torch itself takes about 1 GB of them


@dataclass(frozen=True)
class Order:
    """What to judge, as plain data: the source of one student's answers to lesson `key`, and how."""

    key: str
    source: str
    base_seed: int
    seconds: int | float  # that one call may take
    unsafe: bool
    material: tuple[str, ...] = ()  # the four folders, if they are not those that are installed


class HurriedStudent(IsolatedStudent):
    """One whose file may take `FILE_SECONDS` in all: what it has answered until then counts."""

    started = 0.0

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        self.started = self.started or time.monotonic()
        if time.monotonic() - self.started > FILE_SECONDS:
            raise StudentError(f"{self.name} took more than {FILE_SECONDS:g} s in all: {name} was not called any more")
        return super().call(name, *args, **kwargs)


def judge(order: Order) -> Report:
    """The report on one file. CourseError if the sandbox is missing or does not start."""
    sandbox, students = NO_SANDBOX if order.unsafe else find_sandbox(), []

    def load(parameters: Mapping[str, str]) -> IsolatedStudent:
        name, source = f"ex{order.key}.py", order.source.encode()
        students.append(HurriedStudent(name, source, order.base_seed, parameters, order.seconds, sandbox))
        return students[0]

    try:
        material = Material(*map(Path, order.material)) if order.material else find_material()
        return grade_student(material, order.key, load)
    finally:
        for student in students:
            student.close()


def answer_frame(frame: bytes) -> bytes:
    """An order as JSON to its report as JSON, or to why there is none; nothing, which asks who is there, to nothing."""
    if not frame:
        return b""
    try:
        return json.dumps(judge(Order(**json.loads(frame))).as_data()).encode()
    except CourseError as error:
        return json.dumps({"failed": str(error)}).encode()


def read_report(data: dict[str, Any]) -> Report:
    """The report that `Report.as_data` was made from."""
    results = []
    for result in data["exercises"]:
        checks = tuple(CheckResult(**check) for check in result["checks"])
        results.append(ExerciseResult(**{**result, "checks": checks}))
    return Report(data["key"], results, data["problem"], data["output"])


class Judge:
    """The other side: a judging process that is started when it is needed, and again if it was lost."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.judged = 0

    def ask(self, order: Order) -> Report:
        """The report on one file. CourseError if there is none, for a reason that is not the student's."""
        try:
            data = self.ask_once(order)
        except ChildDied:  # perhaps by accident: a machine without memory kills what it likes
            try:
                data = self.ask_once(order)
            except ChildDied as error:
                raise UnjudgeableError(f"judging what came back ends the process that judges ({error})") from None
        if "failed" in data:
            raise CourseError(data["failed"])
        return read_report(data)

    def ask_once(self, order: Order) -> dict[str, Any]:
        if self.judged == FILES:
            self.close()
        if self.child is None or self.child.is_dead:
            self.start()
        assert self.child is not None
        self.judged += 1
        limit = SECONDS_TO_START + FILE_SECONDS + 2 * PATIENCE * order.seconds
        try:
            return json.loads(self.child.ask(json.dumps(asdict(order)).encode(), limit))
        except ChildOutOfTime:
            raise UnjudgeableError(f"judging took more than {limit:g} s, and was stopped") from None
        except ChildFlooded as error:
            raise UnjudgeableError(f"judging what came back makes a report that is too long: {error}") from None

    def start(self) -> None:
        # -P: a student's json.py in the folder where the command was given is not imported
        self.child, self.judged = Child([sys.executable, "-P", "-m", "mini_transformer.course.judge"]), 0
        try:
            self.child.ask(b"", SECONDS_TO_START)
        except ChildError as error:
            raise CourseError(f"the judging process does not start: {error}") from None

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()


class UnjudgeableError(Exception):
    """What the student's code sends back keeps the grader from judging it: this is the student's, and earns nothing."""


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))  # a limit that the sandbox's worker may set anew
    serve(answer_frame)


if __name__ == "__main__":
    main()
