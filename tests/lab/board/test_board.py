"""`board.score` and `board.run_board`: one's own function beside the references, as objects and as
files.
"""

import json
import os
import time
from pathlib import Path

import misbehaving
import pytest
from sample_jobs import PROBLEM

from mini_transformer import board
from mini_transformer.board.report.summary import read_summary
from mini_transformer.board.running.children import close_children


@pytest.fixture(autouse=True)
def _children():
    yield
    close_children()


def test_a_function_from_a_notebook_is_scored_here_and_an_importable_one_in_a_child() -> None:
    def mine(model, clean, corrupt, metric, ablation):
        seen.append(os.getpid())
        return misbehaving.honest(model, clean, corrupt, metric, ablation)

    seen: list[int] = []
    here = board.score(mine, cases=[PROBLEM], seeds=1)
    assert set(seen) == {os.getpid()}
    there = board.score(misbehaving.honest, cases=[PROBLEM], seeds=1, workers=1)
    assert [score.entrant for score in here] == ["mine", "random", "oracle", "mine (untrained)"]
    assert here[0].metrics == there[0].metrics
    assert isinstance(here[0], board.Score)
    assert isinstance(here[0].metrics["auroc_best"], board.Interval)


def test_a_function_from_a_notebook_that_does_not_end_is_ended() -> None:
    def forever(model, clean, corrupt, metric, ablation):
        while True:
            time.sleep(0.01)

    scores = board.score(forever, cases=[PROBLEM], seeds=1, seconds=0.3)
    assert scores[0].errors == ["it was still running when its time was up"]
    assert scores[1].entrant == "random"
    assert not scores[1].errors


def test_a_case_that_no_problem_of_the_family_has_is_said() -> None:
    with pytest.raises(
        KeyError, match=r"no case of these families is called 'boolean_adn'; nearest: 'boolean_and'"
    ):
        board.score(misbehaving.honest, cases=["backup_head", "boolean_adn"])


def test_a_string_is_one_case() -> None:
    scores = board.score(misbehaving.honest, cases="boolean_and/zero", seeds=1)
    assert {score.problem for score in scores} == {"boolean_and/zero"}


def test_no_case_at_all_is_said() -> None:
    with pytest.raises(ValueError, match="no cases were given, but at least one is needed"):
        board.score(misbehaving.honest, cases=[])


def test_what_is_written_is_what_is_returned(tmp_path: Path) -> None:
    summary = board.run_board("erasure", out=tmp_path, seeds=1, cases="unused_feature/y", workers=1)
    assert isinstance(summary, board.Summary)
    assert [score.entrant for score in summary.scores][:1] == ["leace"]
    kept = json.loads((tmp_path / "board.json").read_text())
    assert sorted(kept) == ["problems", "scores", "times"]  # mechanisms with the whole board only
    assert read_summary(kept) == summary
    assert "leace" in (tmp_path / "board.html").read_text()
