"""Keep one helper process per worker thread, and connect to a Dask cluster."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

Owned = TypeVar("Owned")


class OnePerThread(Generic[Owned]):
    """Make a helper for each thread that asks, keep it, and close all of them together.

    `is_lost` tells whether a helper is of no more use: the thread then gets a new one. `end` closes
    a helper.
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


@contextlib.contextmanager
def open_cluster(
    address: str, close: Callable[[], None], workers: int | None = None
) -> Iterator[Any]:
    """Connect to a Dask cluster by its address, or start one here for "local".

    At the end, `close()` runs on each worker. Raise ValueError if Dask is not installed, or if no
    scheduler answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ValueError("--dask needs Dask: pip install 'mini-transformer[dask]'") from None

    with contextlib.ExitStack() as stack:
        if address == "local":
            local = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(local).scheduler_address
        try:
            client = Client(address, timeout=20)
        except (OSError, ValueError):
            raise ValueError(
                f"no Dask scheduler answers at {address!r}: give its tcp://host:port, or local"
            ) from None
        stack.enter_context(client)
        stack.callback(client.run, close)
        yield client
