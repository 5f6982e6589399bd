"""A cluster is left as it was found, and one that is not there is said in a sentence.

Real clusters are tried where they are used: in `board/running` and `course/lecturer`.
"""

import sys
from types import SimpleNamespace

import pytest

from mini_transformer.isolation.cluster import open_cluster


class Client:
    """Stand in for Dask's client: it notes what happens to it, in order."""

    happened: list[str]

    def __init__(self, address, timeout):
        if address == "tcp://nobody:1":
            raise OSError("no answer")
        Client.happened = [f"connected to {address}"]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        Client.happened.append("left")

    def run(self, close):
        Client.happened.append(close())


class Cluster:
    scheduler_address = "tcp://here:2"

    def __init__(self, n_workers, **options):
        assert n_workers == 3

    def __enter__(self):
        return self

    def __exit__(self, *error):
        Client.happened.append("stopped")


@pytest.fixture
def dask(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "distributed", SimpleNamespace(Client=Client, LocalCluster=Cluster)
    )


def test_workers_close_before_the_client_leaves(dask):
    with open_cluster("tcp://there:1", lambda: "closed"):
        assert Client.happened == ["connected to tcp://there:1"]
    assert Client.happened[1:] == ["closed", "left"]


def test_a_cluster_that_was_started_here_is_stopped_at_the_end(dask):
    with pytest.raises(KeyError), open_cluster("local", lambda: "closed", workers=3):
        raise KeyError
    assert Client.happened == ["connected to tcp://here:2", "closed", "left", "stopped"]


def test_a_scheduler_that_does_not_answer_is_named(dask):
    with (
        pytest.raises(ValueError, match=r"no Dask scheduler answers at 'tcp://nobody:1': give its"),
        open_cluster("tcp://nobody:1", lambda: None),
    ):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ValueError, match=r"pip install 'mini-transformer\[dask\]'"),
        open_cluster("local", lambda: None),
    ):
        pass
