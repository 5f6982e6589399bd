"""Run a student's code in a sandboxed process that graders can talk to as to any student.

Values are sent, values and sentences come back. The right answers are known on this side only. A
process that died is started again, and the file loaded again, for the next call.
"""

import secrets
import select
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mini_transformer.course.grading.effects import SENTENCES, Effect
from mini_transformer.course.grading.grade import Report, grade_student
from mini_transformer.course.grading.loading import NotWrittenError, StudentError
from mini_transformer.course.grading.student import Call, Student
from mini_transformer.course.grading.values import NotAValueError, receive
from mini_transformer.course.lecturer.forks import ForkedWorker
from mini_transformer.course.lecturer.sandbox import Sandbox, find_sandbox, list_environment
from mini_transformer.course.lecturer.wire import WireError, decode, encode
from mini_transformer.course.material import CourseError, Material
from mini_transformer.isolation.child import (
    Child,
    ChildDied,
    ChildError,
    ChildFlooded,
    ChildOutOfTime,
)

SECONDS_TO_START = 300  # torch takes 2 s to import on a machine that has nothing else to do
# The worker counts only the time it had a processor. Here the clock counts, so wait longer.
PATIENCE = 8
TRIES = 3  # a function that ended the process this often is not called again
LARGEST_SOURCE = 2**20  # bytes
MOST_LINES = 21  # of what the code printed; an honest worker sends no more


def grade_isolated(
    material: Material,
    key: str,
    source: bytes,
    base_seed: int = 0,
    *,
    seconds: float = 10.0,
    sandbox: Sandbox | None = None,
) -> Report:
    """Judge the answers to lesson `key` in this source, inside a sandbox.

    By default it is the sandbox that this machine has. The report says what is wrong with the file.
    Raise CourseError if there is no sandbox, or if it does not start.
    """
    name = f"ex{key}.py"
    students: list[IsolatedStudent] = []

    def load(parameters: Mapping[str, str]) -> IsolatedStudent:
        students.append(IsolatedStudent(name, source, base_seed, parameters, seconds, sandbox))
        return students[0]

    try:
        return grade_student(material, key, load)
    finally:
        for student in students:
            student.close()


class IsolatedStudent(Student):
    """Run a file of this name and text in a process of its own.

    The process ends with the `with` or with `close`. The interface and the sentences are those of
    InProcessStudent. `seconds` is the time that one call may take; waiting for a busy processor
    does not count. Treat all that comes back as untrusted text, also the words of a StudentError.
    Raise StudentError if the file cannot be loaded, CourseError if there is no sandbox or if it
    does not start.
    """

    def __init__(
        self,
        name: str,
        source: bytes,
        base_seed: int = 0,
        parameters: Mapping[str, str] | None = None,
        seconds: float = 10.0,
        sandbox: Sandbox | None = None,
    ) -> None:
        if len(source) > LARGEST_SOURCE:
            raise StudentError(f"{name} has {len(source)} bytes, at most {LARGEST_SOURCE} are read")
        super().__init__(base_seed, parameters)
        self.name = name
        self.seconds = seconds
        self.sandbox = sandbox or find_sandbox()
        self.order = {
            "name": name,
            "source": source.hex(),
            "parameters": dict(parameters or {}),
            "seconds": seconds,
        }
        self.noted: dict[str, dict] = {"remarks": {}, "called": {}, "unused": {}}
        self.printed: list[str] = []
        self.given_up: dict[str, str] = {}  # function -> why it is not called again
        self.deaths: Counter[str] = Counter()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "IsolatedStudent":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, and with it all processes that it has started."""
        if hasattr(self, "child"):
            self.child.kill()
        self.folder.cleanup()

    @property
    def remarks(self) -> dict[str, str]:
        return self.noted["remarks"]

    @property
    def output(self) -> list[str]:
        return self.printed

    def find_called(self, name: str) -> list[str]:
        return self.noted["called"].get(name, [])

    def find_unused(self, name: str) -> list[str]:
        return self.noted["unused"].get(name, [])

    def start(self) -> None:
        """Start the process and load the file.

        Raise CourseError if the process does not start, because no answer is to blame for that.
        """
        command = self.sandbox.command
        self.folder.cleanup()  # it may belong to the user that the process before became
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        try:
            if self.sandbox.is_safe:
                self.child: Child = ForkedWorker(self.sandbox, SECONDS_TO_START)
            else:
                self.child = Child(command, env=list_environment(), cwd=self.folder.name)
            self.child.ask(b"", SECONDS_TO_START)
        except (ChildError, OSError) as error:
            reason = find_reason(command, self.folder.name) or error
            raise CourseError(f"the sandbox does not start: {reason}") from None
        self.load()

    def load(self) -> None:
        """Let the process run the file. Raise StudentError if the file cannot be loaded."""
        reply = self.ask(self.order, self.name)
        try:
            self.noted["remarks"] = {
                str(name): str(text) for name, text in reply["remarks"].items()
            }
            for what in ("called", "unused"):
                self.noted[what] = {
                    str(name): list(map(str, names)) for name, names in reply[what].items()
                }
        except (KeyError, AttributeError, TypeError):
            raise StudentError(f"{self.name} disturbs the process that loads it") from None

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Call:
        for blamed in (name, self.name):
            if blamed in self.given_up:
                raise StudentError(self.given_up[blamed])

        if self.child.is_dead or speaks_unasked(self.child):
            self.child.kill()
            self.start()

        reply = self.ask({"function": name, "args": args, "kwargs": kwargs}, name)
        try:
            value = receive(reply.get("value"))
            runs = tuple(tuple(map(int, shape)) for shape in reply["runs"])
            return Call(name, args, kwargs, value, read_effects(reply["effects"]), runs)
        except NotAValueError as error:
            raise StudentError(f"{name} returned {error}") from None
        except (KeyError, AttributeError, TypeError, ValueError):
            raise StudentError(f"{name} disturbs the process that it runs in") from None

    def ask(self, request: dict[str, Any], name: str) -> dict[str, Any]:
        """Send one request and return its reply.

        Raise StudentError for whatever goes wrong, and blame it on `name`, a function or the file.
        """
        number = secrets.token_hex(8)  # a reply that was written before the request lacks it
        frame = encode(request | {"number": number})
        try:
            reply = decode(self.child.ask(frame, PATIENCE * self.seconds))
            if not isinstance(reply, dict) or reply.get("number") != number:
                raise WireError("it is no reply to what was asked")
        except ChildOutOfTime:
            self.given_up[name] = (
                f"{name} was still running after {self.seconds:g} s: is there an endless loop?"
            )
            raise StudentError(self.given_up[name]) from None
        except (ChildDied, ChildFlooded, WireError) as error:
            self.child.kill()
            sentence = explain_death(name, error)
            self.deaths[name] += 1
            if self.deaths[name] == TRIES:
                self.given_up[name] = sentence
            raise StudentError(sentence) from None

        output = reply.get("output")
        lines = output[:MOST_LINES] if isinstance(output, list) else []
        self.printed = [line for line in lines if isinstance(line, str)]
        if "unwritten" in reply:
            raise NotWrittenError(str(reply["unwritten"]))
        if "error" in reply:
            if reply.get("final") is True:
                self.given_up[name] = str(reply["error"])
            try:
                effects = read_effects(reply.get("effects", {}))
            except (KeyError, AttributeError, TypeError):
                effects = ()
            raise StudentError(str(reply["error"]), effects)
        return reply


def read_effects(told: Any) -> tuple[Effect, ...]:
    """Read effects, by kind where they are. Raise KeyError or AttributeError for what is none."""
    return tuple(Effect(kind, str(where)) for kind, where in told.items() if SENTENCES[kind])


def speaks_unasked(child: Child) -> bool:
    """Say whether bytes have come, or the end of them, without a request."""
    return bool(select.select([child.socket], [], [], 0)[0])


def explain_death(name: str, error: ChildError | WireError) -> str:
    if isinstance(error, ChildDied):
        return f"{name} ends the process that it runs in ({error}): return a value instead"
    if isinstance(error, ChildFlooded):
        return f"{name} sends back too much: {error}"
    return f"{name} sends back what is no value: {error}"


def find_reason(command: list[str], folder: str) -> str:
    """Run the command alone in this folder, and return the last line of its standard error.

    Return an empty string if the command does not end.
    """
    try:
        tried = subprocess.run(
            command,
            env=list_environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = tried.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said else ""
