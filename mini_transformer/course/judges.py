"""Judges for the threads of a batch: on this machine, or on the workers of a Dask cluster.

On a cluster the files are read here, and results are kept here; what is sent to a worker is one file's source, and each worker
needs this package and a sandbox.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Iterator
from typing import Any

from mini_transformer.course.judge import Judge, Order
from mini_transformer.course.report import Report

_own = threading.local()
_all: set[Judge] = set()  # of all threads of a Dask worker


class RemoteJudge(Judge):
    """Asks a judge on one of the cluster's workers, whichever is free; if that is lost, Dask asks another."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client = client

    def ask(self, order: Order) -> Report:
        return self.client.submit(ask_here, order, pure=False).result()


def ask_here(order: Order) -> Report:
    """The report on one file, on the worker that runs this."""
    if not hasattr(_own, "judge"):
        _own.judge = Judge()
        _all.add(_own.judge)
    return _own.judge.ask(order)


def close_here() -> None:
    while _all:
        _all.pop().close()


@contextlib.contextmanager
def open_judges(n: int | None = None, dask: str | None = None) -> Iterator["queue.Queue[Judge]"]:
    """`n` judges, by default one per core, or per thread of the cluster at this address; they end with the block.

    ValueError if Dask is not installed, or does not answer there.
    """
    with open_cluster(dask) if dask else contextlib.nullcontext() as client:
        threads = sum(client.nthreads().values()) if client else os.cpu_count()
        judges = [RemoteJudge(client) if client else Judge() for _ in range(n or threads or 1)]
        free: queue.Queue[Judge] = queue.Queue()
        for one in judges:
            free.put(one)
        try:
            yield free
        finally:
            for one in judges:
                one.close()


@contextlib.contextmanager
def open_cluster(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--dask needs Dask: pip install 'mini-transformer[dask]'") from None
    try:
        client = Client(address, timeout=20)
    except (OSError, ValueError) as error:
        raise ValueError(f"no Dask cluster answers at {address}: {error}") from None
    with client:
        try:
            yield client
        finally:
            client.run(close_here)
