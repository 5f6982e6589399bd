"""Load one submission inside the sandbox, and answer calls of its functions.

In a sandbox the program is a nursery, which forks a worker for each submission; see `forks`.
The worker gives up its rights before it reads any submission. From then on nothing here is
protected from the code that it runs, and need not be: whatever that code does to this process, only
values leave it, and these are judged elsewhere.
"""

import contextlib
import os
import secrets
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from mini_transformer.course.lecturer import sandbox
from mini_transformer.course.lecturer.syscalls import close_doors, set_dumpable
from mini_transformer.isolation.child import serve

with contextlib.suppress(ImportError):  # on Windows there are no workers, except in a container
    import resource


def limit_self(user: str) -> None:
    """Become `user`, with limits that cannot be raised again.

    `user` is a number, or "same" or "unsafe", which keep the present user.
    """
    go_first(1000)
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


def go_first(score: int) -> None:
    """When the machine is out of memory, end this process before those of a lower score."""
    own = Path("/proc/self/oom_score_adj")
    if own.exists() and int(own.read_text()) < score:  # only root may lower it
        own.write_text(str(score))


def limit_memory(more: int, for_good: bool = True) -> None:
    """Allow `more` bytes of addresses than there are now (Linux only).

    Call it when all packages are loaded.
    """
    memory = Path("/proc/self/statm")
    if memory.exists():
        used = int(memory.read_text().split()[0]) * resource.getpagesize()
        lower(resource.RLIMIT_AS, used + more, for_good)


def lower(limit: int, value: int, for_good: bool = True) -> None:
    """Set a limit, unless there is a lower one; for good, or for this process alone."""
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value if for_good else hard))


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


def give_up_rights(user: str) -> None:
    """Set all limits, for good, before any submission is read."""
    limit_self(user)
    limit_memory(sandbox.MEMORY)
    if user != "unsafe":
        close_doors()


# What a nursery is asked for, each one byte (see `forks`), and its answer.
FORK, CLEAR, CLEAR_AT_END = b"f", b"c", b"e"
SECONDS_TO_WATCH = 0.2
STATUS = struct.Struct("i")  # as os.waitpid gives it; -1 if the worker was still running


def serve_forks(user: str) -> None:
    """Be a nursery: fork a worker for each socket that comes, watch it, and clear up after it."""
    try:
        control = socket.socket(fileno=os.dup(0))
    except OSError:  # somebody only tries whether the sandbox starts
        return
    set_dumpable(False)  # a worker may be the same user, and must not write into this memory
    kept = survey(Path("/tmp")) | survey(Path("/dev/shm"))
    worker = 0
    while True:
        while worker and not select.select([control], [], [], SECONDS_TO_WATCH)[0]:
            if measure_others() > sandbox.MEMORY:
                os.kill(-1, signal.SIGKILL)  # all but this one and the first, which is bubblewrap
        order, sockets, *_ = socket.recv_fds(control, 1, 1)
        if not order:
            os._exit(0)
        status = await_end(worker) if worker and order == CLEAR_AT_END else -1
        clear_up(kept)
        worker = 0
        if order == FORK:
            worker = os.fork()
            if worker == 0:
                control.close()
                become_worker(sockets[0], user)
        for each in sockets:
            os.close(each)
        control.sendall(STATUS.pack(status))


def become_worker(theirs: int, user: str) -> None:
    """Answer what comes over the socket `theirs`, in a session of its own, and end."""
    os.setsid()
    for standard in (0, 1):
        os.dup2(theirs, standard)
    os.close(theirs)
    set_dumpable(True)
    give_up_rights(str(secrets.choice(sandbox.FREE_UIDS)) if user == "own" else user)
    serve(Worker().answer)
    os._exit(0)


def await_end(worker: int, seconds: float = 1.0) -> int:
    """Return how a worker ended, or -1 if it does not."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    return -1


def measure_others() -> int:
    """Add up the memory that all other processes of this sandbox hold, but for what was forked.

    Each may have as much as all together, so that one may have it all.
    """
    here = Path("/proc/self/statm")
    own = int(here.read_text().split()[1])
    more = 0
    for process in Path("/proc").glob("[0-9]*/statm"):
        with contextlib.suppress(OSError):  # one has just ended
            more += max(0, int(process.read_text().split()[1]) - own)
    return more * resource.getpagesize()


def clear_up(kept: dict[Path, int | None]) -> None:
    """Kill every other process of this sandbox, and remove what it did not hold at first."""
    here = {"1", str(os.getpid())}
    while [name for name in os.listdir("/proc") if name.isdigit() and name not in here]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all but this one and the first, which is bubblewrap
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
    for folder, mode in kept.items():
        if mode is not None:
            folder.chmod(mode)
            empty_folder(folder, kept)


def survey(top: Path) -> dict[Path, int | None]:
    """List what a folder holds at first: folders of its file system with their modes, else None."""
    kept: dict[Path, int | None] = {}
    waiting = [top]
    while waiting:
        path = waiting.pop()
        state = path.lstat()
        is_own = stat.S_ISDIR(state.st_mode) and state.st_dev == top.stat().st_dev
        kept[path] = stat.S_IMODE(state.st_mode) if is_own else None
        waiting += path.iterdir() if is_own else ()
    return kept


def empty_folder(folder: Path, kept: Collection[Path]) -> None:
    """Remove all in a folder but what is kept.

    There is no recursion, because trees may be deeper than calls and longer than paths.
    """
    count = 0
    while paths := [folder / name for name in os.listdir(folder) if folder / name not in kept]:
        for path in paths:
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                continue
            path.chmod(0o700)
            for inside in os.listdir(path):
                count += 1
                os.rename(path / inside, folder / f"moved.{count}")
            path.rmdir()


def main(user: str) -> None:
    # These import torch, before memory is counted, and what most answers import.
    from mini_transformer.course.grading import student  # noqa: F401
    from mini_transformer.course.lecturer import wire  # noqa: F401

    if user == "another":  # it may write the present folder, and nothing else
        user = str(secrets.choice(sandbox.FREE_UIDS))
        os.chown(".", int(user), -1)
    if user == "unsafe" or user.isdigit():
        give_up_rights(user)
        serve(Worker().answer)
    else:
        serve_forks(user)


if __name__ == "__main__":
    main(sys.argv[1])
