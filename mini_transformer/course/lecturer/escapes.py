"""Try to break out of this machine's sandbox, so that `minilab doctor` need not trust it.

The probes run as a submission would, and what they did is checked from outside. The project's
tests hold all attacks that are known to defeat a plain test run.
"""

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mini_transformer.course.grading.loading import StudentError
from mini_transformer.course.lecturer.isolated import IsolatedStudent
from mini_transformer.course.lecturer.sandbox import DISK, MEMORY, PROCESSES, Sandbox

PROBES = b"""
import os, pathlib, socket, subprocess, sys, time

def connect(port):
    return socket.socket().connect_ex(("127.0.0.1", port)) == 0

def read(path):
    return pathlib.Path(path).read_text()

def write(path):
    return pathlib.Path(path).write_text("written by a probe")

def fill(size):
    for part in range(8):
        pathlib.Path(f"filling{part}").write_bytes(bytes(size // 8))
    return size

def take(size):
    return len(bytearray(size))

def multiply(count):
    for started in range(count):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    return count

def outlive(marker):
    sleep = "import time; time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", sleep, marker], start_new_session=True)
    return 1
"""


def try_sandbox(sandbox: Sandbox) -> list[str]:
    """List what the probes managed to do; the list is empty if the sandbox holds.

    Raise CourseError if the sandbox does not even start.
    """
    marker = f"probe-{secrets.token_hex(8)}"
    with (
        tempfile.TemporaryDirectory(dir=Path.home(), prefix=".minilab-probe-") as home,
        socket.socket() as server,
    ):
        server.bind(("127.0.0.1", 0))
        server.listen()
        (Path(home) / "secret").write_text(marker)

        with IsolatedStudent("probes.py", PROBES, sandbox=sandbox) as student:
            attempts: dict[str, Callable[[], bool]] = {
                "reaches the network": lambda: student.call("connect", server.getsockname()[1]),
                "reads your home": lambda: student.call("read", f"{home}/secret") == marker,
                "writes outside": lambda: bool(student.call("write", f"{home}/written")),
                "fills the disk": lambda: student.call("fill", 4 * DISK) > DISK,
                "takes all memory": lambda: student.call("take", 4 * MEMORY) > MEMORY,
                "starts any number of processes": lambda: (
                    student.call("multiply", 2 * PROCESSES) > PROCESSES
                ),
            }
            broken = [what for what, attempt in attempts.items() if succeeds(attempt)]

        with IsolatedStudent("probes.py", PROBES, sandbox=sandbox) as student:

            def outlive() -> bool:
                return student.call("outlive", marker) == 1 and await_running(marker, True)

            if not succeeds(outlive):
                broken.append("cannot start a process at all")

    if not await_running(marker, False):
        broken.append("outlives its time")
    return broken


def succeeds(attempt: Callable[[], bool]) -> bool:
    try:
        return attempt()
    except StudentError:
        return False


def await_running(marker: str, wanted: bool, seconds: float = 5.0) -> bool:
    """Wait until a process with `marker` runs, or until none does; say whether it came true.

    The kernel takes a moment to start a process, and to end all processes of a sandbox.
    """
    until = time.monotonic() + seconds
    while is_running(marker) != wanted and time.monotonic() < until:
        time.sleep(0.05)
    return is_running(marker) == wanted


def is_running(marker: str) -> bool:
    return bool(find_running(marker))


def find_running(marker: str) -> list[int]:
    """Find the other processes of this machine that have `marker` on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text(errors="replace")
        except OSError:  # it has just ended
            continue
        if marker in command and process.name != str(os.getpid()):
            found.append(int(process.name))
    return found
