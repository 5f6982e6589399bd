"""Load one submission inside the sandbox, and answer calls of its functions.

The worker gives up its rights before it reads any submission. From then on nothing here is
protected from the code that it runs, and need not be: whatever that code does to this process, only
values leave it, and these are judged elsewhere.
"""

import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mini_transformer.course.lecturer import sandbox
from mini_transformer.isolation.child import serve


def limit_self(user: str) -> None:
    """Become `user`, with limits that cannot be raised again.

    `user` is a number, or "same" or "unsafe", which keep the present user.
    """
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000")  # when the machine runs out of memory, this process goes first

    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: sandbox.DISK,
        resource.RLIMIT_NOFILE: sandbox.OPEN_FILES,
        resource.RLIMIT_CPU: sandbox.CPU_SECONDS,
    }
    if user != "unsafe":  # outside a sandbox all processes of the lecturer would count
        limits[resource.RLIMIT_NPROC] = sandbox.PROCESSES
    for limit, value in limits.items():
        lower(limit, value)

    if user.isdigit():
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))


def limit_memory() -> None:
    """Allow `MEMORY` bytes of addresses more than there are now (Linux only).

    Call it when all packages are loaded.
    """
    memory = Path("/proc/self/statm")
    if memory.exists():
        used = int(memory.read_text().split()[0]) * resource.getpagesize()
        lower(resource.RLIMIT_AS, used + sandbox.MEMORY)


def lower(limit: int, value: int) -> None:
    """Set a limit for good, unless there is a lower one."""
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


class Worker:
    """Answer requests: to say that it is there, to load a file, and to call its functions."""

    def __init__(self) -> None:
        self.student: Any = None
        self.pid = os.getpid()

    def answer(self, frame: bytes) -> bytes:
        """Answer one frame with one frame. An empty frame asks whether the worker is there."""
        from mini_transformer.course.lecturer.wire import WireError, decode, encode

        if not frame:
            return b""
        request = decode(frame, models=True)
        number = request.pop("number")
        reply = self.reply(request)

        # If a submission forked, this code runs twice: only the first process answers.
        if os.getpid() != self.pid:
            os._exit(1)

        always = {"number": number, "output": self.student.output if self.student else []}
        try:
            return encode(reply | always)
        except WireError as error:
            sentence = f"{request.get('function')} returned no value: {error}"
            return encode({"error": sentence} | always)

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request, and put what is wrong with the file into the reply."""
        from mini_transformer.course.grading.loading import NotWrittenError, StudentError

        try:
            return self.call(**request) if "function" in request else self.load(**request)
        except NotWrittenError as error:
            return {"unwritten": str(error)}
        except StudentError as error:
            final = self.student is not None and str(error) in self.student.out_of_time.values()
            sentence = str(error).replace(f"{Path.cwd()}/", "")
            return {"error": sentence, "final": final, "effects": write_effects(error.effects)}

    def load(
        self, name: str, source: str, parameters: dict[str, str], seconds: float
    ) -> dict[str, Any]:
        from mini_transformer.course.grading.student import InProcessStudent

        path = Path.cwd() / name
        path.write_bytes(bytes.fromhex(source))
        self.student = InProcessStudent(path, parameters=parameters, seconds=seconds)
        return {
            "remarks": self.student.remarks,
            "called": {name: self.student.find_called(name) for name in parameters},
            "unused": {name: self.student.find_unused(name) for name in parameters},
        }

    def call(self, function: str, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        value = self.student.call(function, *args, **kwargs)
        call = self.student.calls.pop()
        return {"value": value, "effects": write_effects(call.effects), "runs": list(call.runs)}


def write_effects(effects: Iterable[Any]) -> dict[str, str]:
    return {effect.kind: effect.where for effect in effects}


def main(user: str) -> None:
    limit_self(user)
    # These import torch, which must be loaded before memory is counted.
    from mini_transformer.course.grading import student  # noqa: F401
    from mini_transformer.course.lecturer import wire  # noqa: F401

    limit_memory()
    serve(Worker().answer)


if __name__ == "__main__":
    main(sys.argv[1])
