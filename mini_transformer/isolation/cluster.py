"""Connect to a Dask cluster, or start one on this machine."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


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
