"""`board.score`, `board.compare` and `board.run_board`: as objects and as files."""

import json
import os
from pathlib import Path

import misbehaving
import pytest
from sample_problem import make_problem

from mini_transformer import board
from mini_transformer.board.report.summary import read_summary
from mini_transformer.board.running.children import close_children

CASE = "planted/apart"


@pytest.fixture(scope="module", autouse=True)
def _children():
    yield
    close_children()


@pytest.mark.slow
def test_a_function_from_a_notebook_is_scored_here_and_an_importable_one_in_a_child() -> None:
    def mine(activations, labels):
        seen.append(os.getpid())
        return misbehaving.keep(activations, labels)

    seen: list[int] = []
    given = {"family": "erasure", "cases": [CASE], "models": 1, "seed": 4, "beside": "none"}
    given["workers"] = 1
    here = board.score(mine, **given)
    assert set(seen) == {os.getpid()}
    there = board.score(misbehaving.keep, **given)
    references = [*board.find_family("erasure").references, "random", "oracle", "mine (untrained)"]
    assert [score.entrant for score in here] == ["mine", *references]
    assert here[0].metrics == there[0].metrics
    assert isinstance(here[0], board.Score)
    assert isinstance(here[0].metrics["balance"], board.Interval)
    assert (here.run.seed, here.run.split) == (4, "held-out")


@pytest.mark.slow
def test_the_best_known_stand_beside_mine_and_problems_can_be_my_own() -> None:
    problems = [make_problem(seed) for seed in range(2)]
    found = board.score(misbehaving.honest, problems=problems, beside=["edge_patching"])
    names = list(dict.fromkeys(score.entrant for score in found))
    assert names[:2] == ["misbehaving:honest", "edge_patching"]
    assert found[0].numbers == [0, 1]
    assert found[0].errors == []
    assert {score.problem for score in found} == {"sample/zero"}
    labels = board.plot(found).axes[0].get_yticklabels()
    assert "misbehaving:honest" in [label.get_text() for label in labels]


def test_what_cannot_be_asked_is_said() -> None:
    with pytest.raises(KeyError, match=r"no case of these families is called 'forgee'; nearest"):
        board.score(misbehaving.honest, cases=["forge/zero", "forgee"])
    with pytest.raises(ValueError, match="no cases were given, but at least one is needed"):
        board.score(misbehaving.honest, cases=[])
    with pytest.raises(ValueError, match="of family probe or erasure: say which by `family`"):
        board.score(misbehaving.takes_activations)


@pytest.mark.slow
def test_two_methods_meet_on_the_same_models_also_two_functions() -> None:
    def mine(activations, labels):
        return misbehaving.keep(activations, labels)

    found = board.compare("leace", mine, "erasure", CASE, 2, seed=1, workers=1)
    assert isinstance(found, board.Comparison)
    assert (found.a, found.b, found.models, found.ahead) == ("leace", "mine", 2, 2)
    assert found.difference.mean > 0.1


@pytest.mark.slow
def test_what_is_written_is_what_is_returned(tmp_path: Path) -> None:
    summary = board.run_board("erasure", out=tmp_path, models=1, cases=CASE, workers=1)
    assert isinstance(summary, board.Summary)
    assert summary[0].entrant == "leace"
    kept = json.loads((tmp_path / "board.json").read_text())
    assert sorted(kept) == ["problems", "run", "scores", "times"]
    assert read_summary(kept) == summary
    assert "leace" in (tmp_path / "board.html").read_text()
    assert json.loads((tmp_path / "seed.json").read_text())["seed"] == summary.run.seed
