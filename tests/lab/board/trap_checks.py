"""What must be true of every trap: somebody falls, somebody else does not, the right answer does
not.
"""

import pytest

from mini_transformer.board.families import find_family
from mini_transformer.board.running.jobs import Job, run_job


def fell(family: str, name: str, entrant: str, seed: int = 1) -> bool | None:
    row = run_job(Job(family, name, entrant, seed))
    assert row["error"] is None
    return row["fell"]


def check_falls(family: str, name: str, faller: str, other: str | None) -> None:
    assert fell(family, name, faller) is True
    assert other is None or fell(family, name, other) is False


def check_oracle(family: str, name: str, falls: bool = False) -> None:
    """`falls`: not even the right answer can tell."""
    record = find_family(family)
    for seed in range(3):
        problem = record.build(name, seed)
        found = problem.measure(record.check_answer(problem.oracle(), problem.arguments))
        assert found[record.headline] == pytest.approx(1, abs=1e-6)
        assert problem.trap.falls(found) == falls


def check_words(family: str, name: str) -> None:
    trap = find_family(family).build(name).trap
    assert trap.what.endswith(".")
    assert 10 < len(trap.verdict) < 90
    assert not trap.verdict.endswith(".")
