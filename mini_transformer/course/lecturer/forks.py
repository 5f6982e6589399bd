"""Start a worker for each submission by forking one sandboxed process that has imported torch.

Importing torch takes longer than running most submissions. So a sandbox holds one process, the
nursery, that has imported it, has read nothing of any student, and forks. What a submission could
leave for the next one is gone before that begins: the nursery kills every other process of the
sandbox and empties /tmp and /dev/shm, the only places that can be written. What has no place there
(the keyring, System V memory, queues) is refused by the worker's filter, as are calls that change
another process. So a fork finds what a new sandbox would hold. If the nursery does not answer, the
whole sandbox is killed, and the next submission gets another.
"""

import contextlib
import os
import socket
import struct
from typing import ClassVar

from mini_transformer.course.lecturer.sandbox import Sandbox, list_environment
from mini_transformer.course.lecturer.worker import CLEAR, CLEAR_AT_END, FORK, STATUS
from mini_transformer.isolation.child import (
    LARGEST,
    Child,
    ChildDied,
    ChildError,
    describe_end,
)

SECONDS_TO_CLEAR = 20  # a nursery that takes longer is replaced


class Nursery:
    """Hold one sandbox whose process forks workers, one at a time."""

    free: ClassVar[dict[Sandbox, list["Nursery"]]] = {}  # those that have no worker now

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.process = Child(sandbox.command, env=list_environment())

    @classmethod
    def take(cls, sandbox: Sandbox) -> "Nursery":
        """Take one that has no worker, or start one."""
        waiting = cls.free.setdefault(sandbox, [])
        with contextlib.suppress(IndexError):
            return waiting.pop()
        return cls(sandbox)

    def give_back(self) -> None:
        if not self.process.is_dead:
            self.free.setdefault(self.sandbox, []).append(self)

    def ask(self, order: bytes, seconds: int | float, sockets: tuple[int, ...] = ()) -> int | None:
        """Give an order; return how the last worker ended (as `os.waitpid` says), if it did.

        Raise ChildDied if the nursery does not answer; it is dead then.
        """
        control = self.process.socket
        try:
            control.settimeout(seconds)
            socket.send_fds(control, [order], sockets)
            answer = control.recv(STATUS.size)
            (status,) = STATUS.unpack(answer)
        except (OSError, struct.error) as error:
            self.process.kill()
            raise ChildDied(f"it does not answer ({error})") from None
        return None if status < 0 else status


class ForkedWorker(Child):
    """Talk to a worker that a nursery has forked, as to any child process.

    Raise ChildDied if the sandbox does not start within `seconds`.
    """

    def __init__(self, sandbox: Sandbox, seconds: int | float) -> None:
        self.largest = LARGEST
        for tries in reversed(range(2)):  # a submission may have hurt a nursery that waited
            self.nursery = Nursery.take(sandbox)
            self.socket, theirs = socket.socketpair()
            try:
                with theirs:
                    self.nursery.ask(FORK, seconds, (theirs.fileno(),))
                return
            except ChildError:
                self.socket.close()
                if not tries:
                    raise

    def kill(self) -> None:
        """End the worker and all that it has started; what it has written is removed."""
        if not self.is_dead:
            self.socket.close()
            with contextlib.suppress(ChildError):
                self.nursery.ask(CLEAR, SECONDS_TO_CLEAR)
            self.nursery.give_back()

    def _await_end(self) -> tuple[str, bool]:
        """Say in words how the worker ended, and whether it was killed."""
        try:
            status = self.nursery.ask(CLEAR_AT_END, SECONDS_TO_CLEAR)
        except ChildError as error:
            return str(error), False
        return describe_end(None if status is None else os.waitstatus_to_exitcode(status))
