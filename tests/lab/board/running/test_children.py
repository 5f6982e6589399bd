"""Child processes: whatever a method does costs its own row only."""

import json

import misbehaving
import pytest
from sample_jobs import DRAW, name_jobs
from sample_problem import make_problem

from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.children import (
    BUILT_IN,
    Lane,
    ask_family,
    close_children,
    find_name,
    find_owner,
)
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.board.running.judge import judge

PROBLEM = make_problem()


@pytest.fixture(scope="module")
def lane():
    lane = Lane(problems={("forge/zero", 0): PROBLEM})
    yield lane
    lane.close()
    close_children()


def test_whatever_a_method_does_costs_its_own_row_only(lane: Lane) -> None:
    names = ("exits_at_once", "honest", "segfaults", "hangs", "prints_much")
    rows = [
        lane.run(job, DRAW, 60 if job.entrant != "misbehaving:hangs" else 1)
        for job in name_jobs(*names)
    ]
    assert [row["ok"] for row in rows] == [False, True, False, False, True]
    assert rows[0]["error"] == "its process did not survive: it ended with status 0"
    assert rows[2]["error"] == "its process did not survive: it was killed by SIGSEGV"
    assert rows[3]["error"] == "it was still running after 1 s, and was stopped"
    assert rows[1]["metrics"] == rows[4]["metrics"]


def test_the_row_of_two_children_is_that_of_this_process(lane: Lane) -> None:
    job = Job("erasure", "planted/apart", "leace", 1)
    there, here = lane.run(job, DRAW, 60), judge(job, DRAW, Answerer().answer)
    assert here["ok"]
    assert json.dumps({**there, "seconds": 0}) == json.dumps({**here, "seconds": 0})


def test_a_method_from_elsewhere_says_what_its_code_is_and_a_built_in_one_does_not(
    lane: Lane,
) -> None:
    (job,) = name_jobs("honest")
    assert "misbehaving" in lane.run(job, DRAW, 60)["depends"]["files"]
    assert find_owner(job) == "misbehaving"
    built_in = Job("circuit", "forge/zero", "edge_patching", 0)
    assert find_owner(built_in) == BUILT_IN


def test_a_judge_that_was_given_no_seed_tells_its_own(lane: Lane) -> None:
    told = lane.tell_draw(Draw(seed=None))
    assert told.seed == lane.tell_draw(Draw(seed=None)).seed > 2**32
    assert lane.tell_draw(DRAW) == DRAW


@pytest.mark.slow
def test_the_death_of_the_judge_is_a_row_and_the_next_job_has_another(lane: Lane) -> None:
    job = Job("erasure", "planted/apart", "oracle", 1)
    judging = lane.start("")
    judging.process.kill()
    assert "the judge did not survive: it was killed by SIGKILL" in lane.run(job, DRAW, 60)["error"]
    assert lane.run(job, DRAW, 60)["ok"]


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
