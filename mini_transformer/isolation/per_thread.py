"""Keep one helper, such as a child process, for each thread of a pool."""

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Owned = TypeVar("Owned")


class OnePerThread(Generic[Owned]):
    """Make a helper for each thread that asks, keep it, and close all of them together.

    `is_lost(helper)` says that a helper is dead: its thread then gets a new one. `end(helper)`
    closes it.
    """

    def __init__(
        self,
        make: Callable[[], Owned],
        end: Callable[[Owned], None],
        is_lost: Callable[[Owned], bool] = lambda owned: False,
    ) -> None:
        self.make = make
        self.end = end
        self.is_lost = is_lost
        self.own = threading.local()
        self.all: set[Owned] = set()

    def get(self) -> Owned:
        """Return this thread's helper. Make one if there is none, or if it is lost."""
        owned: Owned | None = getattr(self.own, "value", None)
        if owned is None or self.is_lost(owned) or owned not in self.all:
            if owned is not None:
                self.all.discard(owned)
            owned = self.make()
            self.own.value = owned
            self.all.add(owned)
        return owned

    def close(self) -> None:
        """Close the helpers of all threads."""
        while self.all:
            with contextlib.suppress(KeyError):  # another thread may have taken the last one
                self.end(self.all.pop())
