"""Child processes: whatever a method does costs its own row only."""

import json

import misbehaving
import pytest
from sample_jobs import name_jobs

from mini_transformer.board.running.children import (
    ask_family,
    close_children,
    find_name,
    run_in_child,
)
from mini_transformer.board.running.jobs import run_job


@pytest.fixture(autouse=True)
def _children():
    yield
    close_children()


def test_whatever_a_method_does_costs_its_own_row_only() -> None:
    names = ("exits_at_once", "honest", "segfaults", "hangs", "prints_much")
    rows = [
        run_in_child(job, 60 if job.entrant != "misbehaving:hangs" else 2)
        for job in name_jobs(*names)
    ]
    assert [row["ok"] for row in rows] == [False, True, False, False, True]
    assert rows[0]["error"] == "its process did not survive: it ended with status 0"
    assert rows[2]["error"] == "its process did not survive: it was killed by SIGSEGV"
    assert rows[3]["error"] == "it was still running after 2 s, and was stopped"
    assert rows[1]["metrics"] == rows[4]["metrics"]


def test_the_row_of_a_child_is_that_of_this_process() -> None:
    (job,) = name_jobs("honest")
    there, here = run_in_child(job, 60), run_job(job)
    assert json.dumps({**there, "seconds": 0}) == json.dumps({**here, "seconds": 0})


def test_the_family_of_a_method_is_told_without_importing_it_here() -> None:
    assert ask_family("misbehaving:honest") == "circuit"
    with pytest.raises(ValueError, match="has the parameters of no family"):
        ask_family("misbehaving:takes_nonsense")
    with pytest.raises(ValueError, match="no_such_module:f cannot be imported"):
        ask_family("no_such_module:f")


def test_a_name_is_given_if_a_child_would_import_this_very_function(monkeypatch) -> None:
    def mine():
        pass

    honest = misbehaving.honest
    assert find_name(honest) == "misbehaving:honest"
    assert find_name(mine) is None
    monkeypatch.setattr(misbehaving, "honest", mine)  # the name now stands for another function
    assert find_name(honest) is None
