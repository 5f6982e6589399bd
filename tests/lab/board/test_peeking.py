"""A method that looks for the truth, instead of finding it, scores as a random answer does."""

import peeking
import pytest
from sample_problem import make_problem, run_on

from mini_transformer import board
from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.children import Lane
from mini_transformer.board.running.jobs import Draw, Job

PEEKERS = ("walk_frames", "search_memory", "search_modules", "try_seeds")


@pytest.fixture(scope="module")
def lane():
    lane = Lane()
    yield lane
    lane.close()


def find_headline(row: dict) -> float:
    assert row["error"] is None, row["error"]
    return row["metrics"][board.find_family("circuit").headline]


@pytest.mark.parametrize("name", PEEKERS)
def test_in_another_process_nothing_is_found(name: str, lane: Lane) -> None:
    draw = Draw(seed=11)
    found = lane.run(Job("circuit", peeking.PROBLEM, f"peeking:{name}", 0), draw, 120)
    random = lane.run(Job("circuit", peeking.PROBLEM, "random", 0), draw, 120)
    assert find_headline(found) < find_headline(random) + 0.25


def test_in_a_notebook_nothing_is_found_either(lane: Lane) -> None:
    of_other_tests = peeking.list_things()

    def walk(model, clean, corrupt, metric, ablation):
        return peeking.walk_frames(model, clean, corrupt, metric, ablation)

    def search(model, clean, corrupt, metric, ablation):
        return peeking.search_memory(model, clean, corrupt, metric, ablation, of_other_tests)

    lane.here = {"walk": Answerer(walk), "search": Answerer(search)}
    for name in lane.here:
        row = lane.run(Job("circuit", peeking.PROBLEM, name, 0), Draw(seed=None), 120)
        assert find_headline(row) < 0.5


@pytest.mark.parametrize("name", ["walk_frames", "search_memory"])
def test_what_stands_in_the_same_process_would_be_found(name: str) -> None:
    """The peekers are good at it: a problem judged beside them is solved."""
    assert find_headline(run_on(make_problem(), name=f"peeking:{name}")) == 1


def test_models_of_the_tuning_split_would_be_found(lane: Lane) -> None:
    job = Job("circuit", peeking.PROBLEM, "peeking:try_seeds", 1)
    assert find_headline(lane.run(job, Draw("tuning"), 120)) == 1


def test_an_answer_cannot_reach_into_the_judge() -> None:
    """What the judge holds of an answer is data or a call; no class of the method's comes."""

    class Scores(list):
        def __eq__(self, other):
            raise AssertionError("the method's code runs in the judge")

    def method(model, clean, corrupt, metric, ablation):
        return Scores(range(12))

    assert run_on(make_problem(), method)["error"] is None
    assert Answerer(method).answers == {}
