"""Read and judge files in a process of its own, while the student's code runs in a sandbox.

A batch has one such process per core. What a student made (a zip, a notebook, what the code sends
back) can at worst keep the grader's own code busy, or make it large. Then this process is killed
and started again, and only that student's grade is lost. No student's code is imported here.

As a program (`python -P -m mini_transformer.course.lecturer.judge`) it answers orders that
come in frames, see `mini_transformer.isolation.child`.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.grading.draws import find_misjudged
from mini_transformer.course.grading.grade import CheckResult, ExerciseResult, Report, grade_student
from mini_transformer.course.grading.loading import StudentError
from mini_transformer.course.lecturer.isolated import PATIENCE, SECONDS_TO_START, IsolatedStudent
from mini_transformer.course.lecturer.sandbox import find_sandbox
from mini_transformer.course.lecturer.submissions import (
    Functions,
    Handed,
    Submission,
    read_submission,
)
from mini_transformer.course.lecturer.worker import go_first, limit_memory, lower
from mini_transformer.course.material import CourseError, Material, find_material
from mini_transformer.isolation.child import (
    Child,
    ChildDied,
    ChildError,
    ChildFlooded,
    ChildOutOfTime,
    serve,
)

with contextlib.suppress(ImportError):  # on Windows nothing is judged, except in a container
    import resource

FILE_SECONDS = 300.0  # that all calls to one file may take together; an honest one takes a few
READ_SECONDS = 20  # of a processor, for all that one student handed in; it takes milliseconds
FILES = 50  # judged by one process before it is replaced, so that its memory stays small
MEMORY = 2**30  # bytes of addresses besides the interpreter with torch


@dataclass(frozen=True)
class Order:
    """Say what to judge, and how: the source of one student's answers to lesson `key`.

    It is plain data, so that it can be sent to another process. Without `draws` (by exercise),
    inputs are those of a learner's own `minilab grade`.
    """

    key: str
    source: str
    base_seed: int
    seconds: int | float  # that one call may take
    sandbox: str  # see `find_sandbox`
    material: tuple[str, ...] = ()  # the four folders, if they are not those that are installed
    draws: dict[str, int] | None = None


@dataclass(frozen=True)
class Trial:
    """Ask whether a draw of an exercise's inputs tells wrong answers from right ones."""

    key: str
    exercise: str
    base_seed: int
    draw: int
    material: tuple[str, ...] = ()
    seconds: int | float = 10.0


def list_folders(material: Material) -> tuple[str, ...]:
    """List a course's folders for an order: none, if they are those that are installed."""
    return () if material == find_material() else tuple(map(str, astuple(material)))


def read_folders(order: Order | Trial) -> Material:
    return Material(*map(Path, order.material)) if order.material else find_material()


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
    sandbox = find_sandbox(order.sandbox)
    students: list[IsolatedStudent] = []

    def load(parameters: Mapping[str, str]) -> IsolatedStudent:
        students.append(
            HurriedStudent(name, source, order.base_seed, parameters, order.seconds, sandbox)
        )
        students[0].draws = order.draws
        return students[0]

    try:
        return grade_student(read_folders(order), order.key, load)
    finally:
        for student in students:
            student.close()


def try_draw(trial: Trial) -> bool:
    """Say whether a draw misjudges none of the answers that come with its exercise."""
    material = read_folders(trial)
    (exercise,) = (e for e in read_exercises(material, trial.key) if e.name == trial.exercise)
    return not any(find_misjudged(material, exercise, trial.base_seed, trial.draw))


def read(handed: dict[str, Any], functions: Functions, wanted: dict[str, str]) -> Submission:
    """Read what a student handed in. This process ends if that takes more than READ_SECONDS.

    Raise CourseError if a file that is wanted is not there, LostError for what nobody foresaw.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + READ_SECONDS, False)
    try:
        paths = [(Path(path), name) for path, name in handed["paths"]]
        return read_submission(Handed(**{**handed, "paths": paths}), functions, wanted)
    except (CourseError, MemoryError):
        raise
    except Exception as error:
        raise LostError(f"an unforeseen error ({type(error).__name__}: {error})") from None
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))


def answer_frame(frame: bytes) -> bytes:
    """Read, judge or try a draw as a JSON order asks. Return what came out, or why nothing did.

    An empty frame asks whether this process is ready; the answer is an empty frame.
    """
    if not frame:
        return b""
    asked = json.loads(frame)
    try:
        if "draw" in asked:
            data = {"tells": try_draw(Trial(**asked))}
        elif "handed" in asked:
            data = read(**asked).as_data()
        else:
            data = judge(Order(**asked)).as_data()
        return json.dumps(data).encode()
    except CourseError as error:
        kind = "lost" if isinstance(error, LostError) else "failed"
        return json.dumps({kind: str(error)}).encode()
    except OSError as error:  # a full disk, for example: the machine's doing
        return json.dumps({"lost": str(error)}).encode()


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
        """Ask for the report on one file. Raise as `ask_data` does."""
        return read_report(self.ask_data(order))

    def try_draw(self, trial: Trial) -> bool:
        """Ask whether a draw tells wrong answers from right ones. Raise as `ask_data` does."""
        return self.ask_data(trial)["tells"]

    def ask_data(self, order: Order | Trial) -> dict[str, Any]:
        """Ask for what `answer_frame` returns.

        Raise CourseError if there is none for a reason that is not the student's, and
        UnjudgeableError if it is the student's.
        """
        if self.judged >= FILES:
            self.close()
        limit = SECONDS_TO_START + FILE_SECONDS + 2 * PATIENCE * order.seconds
        data = self.ask_twice(asdict(order), limit, "judging what came back", UnjudgeableError)
        self.judged += 1
        return data

    def read(self, handed: Handed, functions: Functions, wanted: Mapping[str, str]) -> Submission:
        """Ask for the files of one student. Raise what `ask` raises."""
        given = {**vars(handed), "paths": [(str(path), name) for path, name in handed.paths]}
        asked = {"handed": given, "functions": dict(functions), "wanted": dict(wanted)}
        limit = PATIENCE * READ_SECONDS  # by the clock, which a disk may keep waiting
        data = self.ask_twice(asked, limit, "reading what was handed in", LostError)
        return Submission.from_data(data)

    def ask_twice(
        self, asked: dict[str, Any], limit: int | float, doing: str, too_late: type[Exception]
    ) -> dict[str, Any]:
        """Ask the process, and once more if it died. `doing` begins the sentence on a failure.

        Raise `too_late` if there is no answer within `limit` seconds.
        """
        for is_last in (False, True):
            if self.child is None or self.child.is_dead:
                self.start()
            assert self.child is not None
            try:
                data = json.loads(self.child.ask(json.dumps(asked).encode(), limit))
                break
            except ChildDied as error:  # perhaps by accident: a machine without memory kills
                if is_last:
                    problem = f"{doing} ends the process that judges ({error})"
                    # What the machine did is no mark.
                    raise (LostError if error.killed else UnjudgeableError)(problem) from None
            except ChildOutOfTime:
                problem = f"{doing} took more than {limit:g} s, and was stopped"
                raise too_late(problem) from None
            except ChildFlooded as error:
                problem = f"{doing} makes a report that is too long"
                raise UnjudgeableError(f"{problem}: {error}") from None
        for kind, error_type in (("lost", LostError), ("failed", CourseError)):
            if kind in data:
                raise error_type(data[kind])
        return data

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
            raise LostError(f"the judging process does not start: {error}") from None

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()


class UnjudgeableError(Exception):
    """What a student made keeps the grader from reading or judging it, and earns nothing."""


class LostError(CourseError):
    """The machine ended the judging process, which is no mark for anybody."""


def main() -> None:
    limit_memory(MEMORY, for_good=False)  # the sandbox's worker sets its own
    lower(resource.RLIMIT_CORE, 0)
    go_first(500)  # before the command, after what the students' code runs in
    serve(answer_frame)


if __name__ == "__main__":
    main()
