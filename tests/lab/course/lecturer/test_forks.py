"""A worker that is forked finds what a new sandbox would hold, whatever was there before it."""

import contextlib
import time

import pytest
from sandboxed import find_or_skip

from mini_transformer.course.grading.loading import StudentError
from mini_transformer.course.lecturer import sandbox
from mini_transformer.course.lecturer.forks import Nursery
from mini_transformer.course.lecturer.isolated import IsolatedStudent

NURSERY = 2  # its number in the sandbox

LEAVES = b"""
import os, resource, signal, socket, subprocess, sys, time
from pathlib import Path

def leave_files():
    Path("/tmp/note").write_text("42")
    Path("/dev/shm/note").write_text("42")
    os.symlink("/etc", "/tmp/link")
    deep = Path("/tmp/deep")
    for _ in range(3000):
        os.mkdir("deep")
        os.chdir("deep")
    os.chmod("/tmp/deep", 0)
    return 1

def leave_a_process():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    leave_a_socket = socket.socket(socket.AF_UNIX)
    leave_a_socket.bind("\\0left")
    return 1

def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    return 1

def kill(pid):
    os.kill(pid, signal.SIGKILL)
    return 1

def lower(pid):
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (5, 5))
    return 1

def slow_down(pid):
    os.setpriority(os.PRIO_PROCESS, pid, 19)
    return 1

def pin(pid):
    os.sched_setaffinity(pid, {0})
    return 1

def write_memory(pid):
    with open(f"/proc/{pid}/mem", "r+b") as memory:
        memory.seek(0x400000)
        memory.write(b"x")
    return 1

def take_together(processes, size):
    ready, told = os.pipe()
    for _ in range(processes):
        if os.fork() == 0:
            taken = b"x" * size
            os.write(told, b"x")
            time.sleep(60)
    for _ in range(processes):
        os.read(ready, 1)
    return 1

def look():
    return [
        sorted(os.listdir("/tmp")),
        os.listdir("/dev/shm"),
        len([name for name in os.listdir("/proc") if name.isdigit()]),
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        os.getpriority(os.PRIO_PROCESS, 0),
        len(os.sched_getaffinity(0)),
    ]
"""


@pytest.fixture(params=["as this user", "as if without rights"])
def where(request, monkeypatch):
    """A sandbox with a user of its own for each worker under root, and with one for all."""
    if request.param == "as if without rights":
        monkeypatch.setattr(sandbox, "is_root", lambda: False)
    return find_or_skip()


def open_student(where, seconds=5.0):
    return IsolatedStudent("ex01_samples.py", LEAVES, seconds=seconds, sandbox=where)


def look(where):
    with open_student(where) as student:
        return student.call("look")


def test_what_one_leaves_behind_is_gone_for_the_next(where):
    fresh = look(where)
    with open_student(where) as student:
        assert student.call("leave_files") == 1
        assert student.call("leave_a_process") == 1
        nursery = student.child.nursery
    assert look(where) == fresh
    assert not nursery.process.is_dead


@pytest.mark.parametrize("harm", ["lower", "slow_down", "pin", "write_memory"])
def test_nobody_can_change_the_nursery(where, harm):
    fresh = look(where)
    with (
        open_student(where) as student,
        pytest.raises(StudentError, match=r"PermissionError|OSErr"),
    ):
        student.call(harm, NURSERY)
    assert look(where) == fresh


def test_a_nursery_that_was_stopped_or_killed_is_replaced(where, monkeypatch):
    monkeypatch.setattr("mini_transformer.course.lecturer.forks.SECONDS_TO_CLEAR", 1)
    fresh = look(where)
    for harm in ("stop", "kill"):
        with open_student(where) as student, contextlib.suppress(StudentError):
            student.call(harm, NURSERY)  # another user may not
        assert look(where) == fresh


def test_all_processes_of_a_submission_have_one_budget_of_memory():
    share = sandbox.MEMORY // 4
    with open_student(find_or_skip(), seconds=60.0) as student:
        assert student.call("take_together", 2, share) == 1
        with pytest.raises(StudentError, match="killed by SIGKILL"):
            student.call("take_together", 6, share)  # each may have four times as much


def test_two_at_a_time_have_two_sandboxes(where):
    with open_student(where) as one, open_student(where) as other:
        assert one.child.nursery is not other.child.nursery
        assert one.call("look") == other.call("look")


def test_a_fork_is_quick(where):
    look(where)
    assert Nursery.free[where]
    started = time.monotonic()
    look(where)
    assert time.monotonic() - started < 2  # importing torch alone takes about as long
