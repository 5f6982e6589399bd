"""The program inside the sandbox: it loads one submission, calls its functions when asked, and answers with values or sentences.

It gives up its rights before it reads any submission. From then on nothing here is protected from the code that it runs, and need not be: whatever
that code does to this process, all that leaves it are values, which are judged elsewhere.
"""

import os
import resource
import sys
from pathlib import Path
from typing import Any

from mini_transformer.child import serve
from mini_transformer.course import sandbox


def limit_self(user: str) -> None:
    """Become `user` (a number; "same" and "unsafe" stay who they are), with limits that cannot be raised again."""
    if (score := Path("/proc/self/oom_score_adj")).exists():
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
    """Allow `MEMORY` bytes of addresses more than there are now, with all packages loaded (Linux)."""
    if (used := Path("/proc/self/statm")).exists():
        most = int(used.read_text().split()[0]) * resource.getpagesize() + sandbox.MEMORY
        lower(resource.RLIMIT_AS, most)


def lower(limit: int, value: int) -> None:
    """Set a limit for good, unless there is a lower one."""
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


class Worker:
    """Answers requests: nothing (are you there?), a file to load, and calls of its functions."""

    def __init__(self) -> None:
        self.student: Any = None
        self.pid = os.getpid()

    def answer(self, frame: bytes) -> bytes:
        from mini_transformer.course.wire import WireError, decode, encode

        if not frame:
            return b""
        request = decode(frame, models=True)
        number = request.pop("number")
        reply = self.reply(request)
        if os.getpid() != self.pid:  # a submission forked and came back twice: only one of them answers
            os._exit(1)
        always = {"number": number, "output": self.student.output if self.student else []}
        try:
            return encode(reply | always)
        except WireError as error:
            return encode({"error": f"{request.get('function')} returned no value: {error}"} | always)

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        from mini_transformer.course.loading import NotWrittenError, StudentError

        try:
            return self.call(**request) if "function" in request else self.load(**request)
        except NotWrittenError as error:
            return {"unwritten": str(error)}
        except StudentError as error:
            final = self.student is not None and str(error) in self.student.out_of_time.values()
            return {"error": str(error).replace(f"{Path.cwd()}/", ""), "final": final}

    def load(self, name: str, source: str, parameters: dict[str, str], seconds: float) -> dict[str, Any]:
        from mini_transformer.course.student import InProcessStudent

        path = Path.cwd() / name
        path.write_bytes(bytes.fromhex(source))
        self.student = InProcessStudent(path, parameters=parameters, seconds=seconds)
        called = {name: self.student.find_called(name) for name in parameters}
        return {"remarks": self.student.remarks, "called": called}

    def call(self, function: str, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"value": self.student.call(function, *args, **kwargs)}


def main(user: str) -> None:
    limit_self(user)
    from mini_transformer.course import student, wire  # noqa: F401  # torch, before memory is counted

    limit_memory()
    serve(Worker().answer)


if __name__ == "__main__":
    main(sys.argv[1])
