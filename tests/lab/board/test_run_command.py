"""`minilab board`: one's own method beside the built-in ones, kept in a folder, as a table or as
data.
"""

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mini_transformer.board import families
from mini_transformer.board.families import find_family
from mini_transformer.cli import app

CASE = "planted/apart"


@pytest.fixture(autouse=True)
def _small_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """One problem, two models and one method of one family; the children know all of them."""
    whole = find_family("erasure")
    small = dataclasses.replace(
        whole,
        problems={CASE: whole.problems[CASE]},
        traps={},
        quick=(CASE,),
        entrants={"leace": whole.entrants["leace"]},
        references={},
        models=2,
    )
    every = {**families.load_families(), "erasure": small}
    monkeypatch.setattr(families, "load_families", lambda: every)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["board", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_one_s_own_method_is_scored_beside_the_others_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, out, table = tmp_path / "calls", tmp_path / "out", tmp_path / "board.csv"
    monkeypatch.setenv("CALLS", str(calls))
    given = ("--method", "misbehaving:keep", "--family", "erasure", "--jobs", "1")
    given += ("--cases", CASE, "--out", str(out), "--csv", str(table))
    status, shown, _ = run(*given, "--json")
    summary = json.loads(shown)
    assert status == 0
    mine = "misbehaving:keep"
    assert [score["entrant"] for score in summary["scores"]] == [
        "leace",
        mine,
        "random",
        "oracle",
        "leace (untrained)",
        f"{mine} (untrained)",
    ]
    assert summary["scores"][1]["numbers"] == [0, 1]
    assert summary["scores"][1]["metrics"]["balance"][1] is not None
    assert summary["run"]["command"].startswith("minilab")
    assert json.loads((out / "board.json").read_text()) == summary
    assert mine in (out / "board.html").read_text()
    assert f"erasure,{CASE},{mine},,0,balance," in table.read_text()
    assert calls.read_text().count("called") == 4  # two models, trained and untrained
    status, shown, _ = run(*given)
    assert status == 0
    assert mine in shown
    assert f"--seed {summary['run']['seed']}" in shown
    assert calls.read_text().count("called") == 4
    status, shown, _ = run("compare", "leace", mine, "--family", "erasure", "--out", str(out))
    assert status == 0
    assert "ahead at 2 of 2 models" in shown
    assert calls.read_text().count("called") == 4


@pytest.mark.slow
def test_a_method_that_fails_is_said_and_is_the_exit_status(tmp_path: Path) -> None:
    given = ("--family", "erasure", "--quick", "--jobs", "1", "--models", "1", "--out")
    status, shown, _ = run(*given, str(tmp_path), "--method", "misbehaving:takes_activations")
    assert status == 1
    says = f"misbehaving:takes_activations on {CASE}: the method returned None: did you forget"
    assert shown.count(says) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--family", "circus"), "no family is called 'circus'; there are circuit, features"),
        (
            ("--method", "misbehaving"),
            "the method is 'misbehaving', but must be given as module:function",
        ),
        (("compare", "leace"), "'compare leace' is not `compare A B`"),
        (("--split", "test", "--family", "erasure"), "the split is 'test', but must be held-out"),
    ],
    ids=["family", "method", "compare", "split"],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    status, _, said = run(*arguments)
    assert status == 2
    assert said.startswith(sentence)
    assert said.count("\n") == 1
