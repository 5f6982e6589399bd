"""A child process that misbehaves in every way costs its caller an exception and nothing else."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mini_transformer.isolation.child import (
    Child,
    ChildDied,
    ChildError,
    ChildFlooded,
    ChildOutOfTime,
)

SERVER = "from mini_transformer.isolation.child import serve\n"
# What a child that does not use `serve` does by hand.
RAW = (
    "import os, struct, sys, time\n"
    "def write(data): sys.stdout.buffer.write(data); sys.stdout.flush()\n"
)


def start(code: str, **options: object) -> Child:
    return Child([sys.executable, "-c", textwrap.dedent(code)], **options)


def await_true(condition: Callable[[], bool], seconds: int = 30) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # a zombie that nobody has waited for is not running
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_frames_of_every_size_come_back_as_they_were_sent() -> None:
    with start(SERVER + "serve(lambda frame: frame[::-1])") as child:
        for payload in (b"", b"\0", bytes(range(256)), os.urandom(3_000_000)):
            assert child.ask(payload, seconds=60) == payload[::-1]


def test_what_the_child_prints_is_no_part_of_its_answers() -> None:
    code = (
        SERVER + "import os\ndef answer(frame):\n"
        "  print('noise'); os.system('echo noise'); return frame\nserve(answer)"
    )
    with start(code) as child:
        assert child.ask(b"quiet", seconds=60) == b"quiet"


def test_the_child_cannot_read_the_requests_to_come() -> None:
    with start(SERVER + "import sys\nserve(lambda frame: sys.stdin.buffer.read())") as child:
        assert child.ask(b"first", seconds=60) == b""


def test_a_child_that_hangs_is_out_of_time_and_killed() -> None:
    with start(SERVER + "import time\nserve(lambda frame: time.sleep(1000))") as child:
        started = time.monotonic()
        with pytest.raises(ChildOutOfTime, match="still running"):
            child.ask(b"", seconds=1)
        assert time.monotonic() - started < 10
        assert child.process.returncode == -signal.SIGKILL


def test_a_child_that_swallows_every_exception_is_killed_all_the_same() -> None:
    code = (
        "import signal, time\n"
        "for s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
    )
    code += "while True:\n  try: time.sleep(1000)\n  except: pass"
    with start(code) as child, pytest.raises(ChildOutOfTime):
        child.ask(b"", seconds=1)
    assert not is_running(child.process.pid)


def test_a_child_that_does_not_read_is_out_of_time() -> None:
    with start("import time; time.sleep(1000)") as child, pytest.raises(ChildOutOfTime):
        child.send(bytes(20_000_000), seconds=1)


def test_a_frame_that_comes_drop_by_drop_does_not_stretch_the_time() -> None:
    code = RAW + "write(struct.pack('>Q', 1000))\nwhile True: write(b'x'); time.sleep(.1)"
    with start(code) as child:
        started = time.monotonic()
        with pytest.raises(ChildOutOfTime):
            child.receive(2)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        ("import os; os._exit(0)", "it ended with status 0"),
        ("import os; os.kill(os.getpid(), 11)", "it was killed by SIGSEGV"),
        ("raise ValueError", "it ended with status 1"),
        ("import os, time; os.close(0); os.close(1); time.sleep(1000)", "it closed its output"),
    ],
    ids=["exit", "exit-at-once", "segmentation-fault", "exception", "closed"],
)
def test_a_child_that_ends_says_how(code: str, end: str) -> None:
    with start(code) as child:
        with pytest.raises(ChildDied, match=end):
            child.receive(60)
        assert not is_running(child.process.pid)


def test_half_a_frame_is_no_answer() -> None:
    with (
        start(RAW + "write(struct.pack('>Q', 100) + b'half')") as child,
        pytest.raises(ChildDied, match="status 0"),
    ):
        child.receive(60)
    with start(RAW + "write(b'123')") as child, pytest.raises(ChildDied, match="status 0"):
        child.receive(60)


def test_a_frame_that_is_announced_too_large_is_not_read() -> None:
    code = RAW + "write(struct.pack('>Q', 1 << 60))\nwhile True: write(bytes(1 << 20))"
    with (
        start(code, largest=1000) as child,
        pytest.raises(ChildFlooded, match="1152921504606846976 bytes, more than the 1000"),
    ):
        child.receive(60)
    assert not is_running(child.process.pid)


def test_the_largest_frame_allowed_is_sent_and_received_and_no_larger_one() -> None:
    with start(SERVER + "serve(lambda frame: frame * 2)", largest=1000) as child:
        with pytest.raises(ValueError, match="has 1001 bytes, but a frame may have at most 1000"):
            child.send(bytes(1001), seconds=60)
        assert child.ask(bytes(500), seconds=60) == bytes(1000)
        with pytest.raises(ChildFlooded):
            child.ask(bytes(501), seconds=60)


def test_after_a_failure_the_child_is_dead_and_says_so() -> None:
    with start("import time; time.sleep(1000)") as child:
        with pytest.raises(ChildOutOfTime):
            child.receive(0.1)
        for use in (
            lambda: child.receive(1),
            lambda: child.send(b"", 1),
            lambda: child.ask(b"", 1),
        ):
            with pytest.raises(ChildError, match="it was killed before"):
                use()
        child.kill()


def test_the_children_of_the_child_end_with_it() -> None:
    code = (
        SERVER + "import subprocess\n"
        "serve(lambda frame: str(subprocess.Popen(['sleep', '1000']).pid).encode())"
    )
    with start(code) as child:
        grandchild = int(child.ask(b"", seconds=60))
        assert is_running(grandchild)
    assert await_true(lambda: not is_running(grandchild))


@pytest.mark.parametrize(
    "busy", ["time.sleep(1000)", "[0 for _ in iter(int, 1)]"], ids=["sleeping", "computing"]
)
def test_a_child_ends_in_the_middle_of_an_answer_when_its_parent_is_killed(busy: str) -> None:
    inner = (
        f"import os, time\\nfrom mini_transformer.isolation.child import serve\\ndef "
        f"answer(f):\\n  if f: {busy}\\n  return str(os.getpid()).encode()\\nserve(answer)"
    )
    parent = f"""
        import sys
        from mini_transformer.isolation.child import Child
        child = Child([sys.executable, "-c", "{inner}"])
        print(child.ask(b"", 60).decode(), flush=True)
        child.ask(b"be busy", 1000)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(parent)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        time.sleep(0.3)
        assert is_running(grandchild)
    finally:
        process.kill()
        process.communicate()
    assert await_true(lambda: not is_running(grandchild))


def test_an_interrupt_while_waiting_kills_the_child_too() -> None:
    with start("import time; time.sleep(1000)") as child:
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                child.receive(60)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert child.process.returncode == -signal.SIGKILL
