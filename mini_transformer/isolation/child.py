"""Talk to a child process in frames of bytes, so that it can harm nobody but itself.

A frame is its length (8 bytes, big end first) and that many bytes. Frames go to the child's
standard input and come from its standard output, which are a socket. What they hold is the caller's
business, and nothing here is unpickled. Whatever goes wrong (it dies, is out of time, sends too
much), the child and its process group are killed, and an exception says which it was. A process
that left the group (`setsid`) is not reached: to hold code that means harm, start it in a sandbox
with its own processes. Linux and macOS.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

HEADER = struct.Struct(">Q")
LARGEST = 64 * 2**20  # bytes in one frame
QUESTION, ANSWER = b"?", b"="  # what a frame of `serve_asking` begins with


class ChildError(Exception):
    """The child is dead and of no more use; the message says why."""


class ChildDied(ChildError):
    """The child ended, or closed its output, before its answer was complete.

    `killed` says whether somebody killed it (SIGKILL), such as a machine without memory.
    """

    def __init__(self, message: str, killed: bool = False) -> None:
        super().__init__(message)
        self.killed = killed


class ChildOutOfTime(ChildError):
    """The child did not read, or did not answer, within the seconds given."""


class ChildFlooded(ChildError):
    """The child announced a frame that is larger than the limit."""


class Child:
    """Run a command in a session of its own.

    Use it in a `with`: at the end it is killed with all of its group. `largest` bounds a frame in
    bytes, both ways. `options` are those of Popen (env, cwd, stderr: by default shown to nobody).

    >>> import sys
    >>> upper = "from mini_transformer.isolation.child import serve; serve(bytes.upper)"
    >>> with Child([sys.executable, "-c", upper]) as child:
    ...     child.ask(b"abc", seconds=60)
    b'ABC'
    """

    def __init__(self, argv: Sequence[str], *, largest: int = LARGEST, **options: Any) -> None:
        self.largest = largest
        self.socket, theirs = socket.socketpair()
        with theirs:
            own: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "start_new_session": True}
            self.process = subprocess.Popen(
                argv, **{"stderr": subprocess.DEVNULL, **options, **own}
            )

    @property
    def is_dead(self) -> bool:
        """Say whether the child was killed, by `kill` or by a failure."""
        return self.socket.fileno() == -1

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def ask(self, payload: bytes, seconds: int | float) -> bytes:
        """Send a frame and wait for the answer, both within `seconds`.

        Raise what `send` and `receive` raise.
        """
        until = time.monotonic() + seconds
        self.send(payload, seconds)
        return self.receive(until - time.monotonic())

    def send(self, payload: bytes, seconds: int | float) -> None:
        """Send one frame.

        Raise ValueError if the payload is larger than `largest`, ChildDied or ChildOutOfTime if it
        cannot be sent.
        """
        if len(payload) > self.largest:
            raise ValueError(
                f"the payload has {len(payload)} bytes, but a frame may have at most {self.largest}"
            )
        with self._killing_on_failure():
            self._limit(time.monotonic() + seconds)
            self.socket.sendall(HEADER.pack(len(payload)) + payload)

    def receive(self, seconds: int | float) -> bytes:
        """Receive the next frame, complete within `seconds`.

        Raise ChildDied, ChildOutOfTime or ChildFlooded; the child is dead then.
        """
        until = time.monotonic() + seconds
        with self._killing_on_failure():
            (length,) = HEADER.unpack(self._read(HEADER.size, until))
            if length > self.largest:
                raise ChildFlooded(
                    f"it sent {length} bytes, more than the {self.largest} that are allowed"
                )
            return self._read(length, until)

    def kill(self) -> None:
        """Kill the child and every process of its group, and wait for its end.

        It may be called twice.
        """
        if not self.is_dead:
            with contextlib.suppress(
                ProcessLookupError, PermissionError
            ):  # the latter if all are zombies, on macOS
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.socket.close()

    def _limit(self, until: float) -> None:
        self.socket.settimeout(
            max(until - time.monotonic(), 1e-6)
        )  # 0 would mean: do not wait, and fail otherwise

    def _read(self, length: int, until: float) -> bytes:
        got = bytearray()
        while len(got) < length:
            self._limit(until)
            some = self.socket.recv(min(length - len(got), 2**20))
            if not some:
                raise ConnectionError
            got += some
        return bytes(got)

    @contextlib.contextmanager
    def _killing_on_failure(self) -> Iterator[None]:
        if self.is_dead:
            raise ChildDied("it was killed before")
        try:
            yield
        except BaseException as error:
            how, was_killed = (
                self._await_end() if isinstance(error, ConnectionError) else ("", False)
            )
            self.kill()
            if isinstance(error, TimeoutError):
                raise ChildOutOfTime("it was still running") from None
            if isinstance(error, ConnectionError):
                raise ChildDied(how, killed=was_killed) from None
            raise

    def _await_end(self) -> tuple[str, bool]:
        """Say in words how the process ended, and whether it was killed."""
        try:
            return describe_end(self.process.wait(timeout=1))
        except subprocess.TimeoutExpired:
            return describe_end(None)


def describe_end(code: int | None) -> tuple[str, bool]:
    """Say in words how a process ended, from its exit code, and whether it was killed (SIGKILL).

    >>> describe_end(3), describe_end(-9), describe_end(None)[0]
    (('it ended with status 3', False), ('it was killed by SIGKILL', True), 'it closed its output')
    """
    if code is None:
        return "it closed its output", False
    if code >= 0:
        return f"it ended with status {code}", False
    return f"it was killed by {signal.Signals(-code).name}", code == -signal.SIGKILL


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Answer each frame with a frame until there are no more; this is the child's side.

    From here on prints go to standard error, and there is no standard input. If the parent is gone,
    also by `kill -9`, this process group ends, even in the middle of an answer.
    """
    read, write = _open_line()
    while (frame := read()) is not None:
        write(answer(frame))


def serve_asking(answer: Callable[[bytes, Callable[[bytes], bytes]], bytes]) -> None:
    """Answer as `serve` does; `answer(frame, ask)` may `ask(question)` the parent on the way.

    A frame to the parent begins with QUESTION or ANSWER, one byte. It answers a question with the
    next frame that it sends.
    """
    read, write = _open_line()

    def ask(question: bytes) -> bytes:
        write(QUESTION + question)
        if (reply := read()) is None:
            raise SystemExit
        return reply

    while (frame := read()) is not None:
        write(ANSWER + answer(frame, ask))


def _open_line() -> tuple[Callable[[], bytes | None], Callable[[bytes], None]]:
    """Take over standard input and output, and return how to read and write frames there."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, args=(requests.fileno(),), daemon=True).start()

    def read() -> bytes | None:
        header = requests.read(HEADER.size)
        return requests.read(*HEADER.unpack(header)) if len(header) == HEADER.size else None

    def write(frame: bytes) -> None:
        replies.write(HEADER.pack(len(frame)) + frame)
        replies.flush()

    return read, write


def _end_with_parent(requests: int) -> None:
    poll = select.poll()
    poll.register(requests, 0)  # nothing but the loss of the other end is reported
    poll.poll()
    os.killpg(0, signal.SIGKILL)
