"""Provide judges for the threads of a batch, on this machine or on a Dask cluster.

On a cluster, files are read and results kept on this machine, by one process for all threads. Only
one file's source is sent to a worker. Each worker needs this package and a sandbox.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from mini_transformer.course.lecturer.judge import Judge, Order, Trial
from mini_transformer.course.lecturer.submissions import Functions, Handed, Submission
from mini_transformer.isolation.cluster import open_cluster
from mini_transformer.isolation.per_thread import OnePerThread


class RemoteJudge(Judge):
    """Ask a free worker of the cluster. If that worker is lost, Dask asks another one."""

    reader = Judge()
    is_reading = threading.Lock()

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client = client

    def read(self, handed: Handed, functions: Functions, wanted: Mapping[str, str]) -> Submission:
        with self.is_reading:
            return self.reader.read(handed, functions, wanted)

    def ask_data(self, order: Order | Trial) -> dict[str, Any]:
        return self.client.submit(ask_here, order, pure=False).result()


def ask_here(order: Order | Trial) -> dict[str, Any]:
    """Ask this worker's own judge for what it says of one file, or of a draw."""
    return _judges.get().ask_data(order)


def close_here() -> None:
    """End the judges of all threads of this process."""
    _judges.close()


_judges = OnePerThread(Judge, end=Judge.close)  # a judge starts its lost process again by itself


@contextlib.contextmanager
def open_judges(n: int | None = None, dask: str | None = None) -> Iterator["queue.Queue[Judge]"]:
    """Open `n` judges, which end with the block.

    By default there is one per core, or one per thread of the cluster at the address `dask`. Raise
    ValueError if Dask is not installed, or if no cluster answers there.
    """
    with open_cluster(dask, close_here) if dask else contextlib.nullcontext() as client:
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
            RemoteJudge.reader.close()
