"""The door of the zoo: every case is described, and quick to load."""

import time

import pytest

from mini_transformer import toys


def test_every_case_is_described_by_one_line() -> None:
    rows = toys.describe()
    assert [row["name"] for row in rows] == toys.names()
    assert all(20 < len(row["what"]) < 125 for row in rows)
    assert len({row["what"] for row in rows}) == len(rows)


@pytest.mark.parametrize("name", toys.names())
def test_loading_is_quick(name: str) -> None:
    toys.load(name)  # imports
    start = time.perf_counter()
    for _ in range(3):
        toys.load(name)
    assert (
        time.perf_counter() - start
    ) / 3 < 0.1 * 3  # the bound is 100 ms; a busy machine may take three times as long
