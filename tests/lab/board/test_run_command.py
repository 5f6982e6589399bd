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


@pytest.fixture(autouse=True)
def _small_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """One problem and one built-in method of one family; the child processes know all of them."""
    whole = find_family("circuit")
    small = dataclasses.replace(
        whole,
        problems={"boolean_and/zero": whole.problems["boolean_and/zero"]},
        traps={},
        quick=("boolean_and/zero",),
        entrants={"eap": whole.entrants["eap"]},
    )
    every = {**families.load_families(), "circuit": small}
    monkeypatch.setattr(families, "load_families", lambda: every)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["board", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_one_s_own_method_is_scored_beside_the_others_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    given = (
        "--method",
        "misbehaving:honest",
        "--seeds",
        "2",
        "--jobs",
        "1",
        "--out",
        str(tmp_path / "out"),
    )
    status, shown, _ = run(*given, "--json")
    summary = json.loads(shown)
    assert status == 0
    entrants_shown = [score["entrant"] for score in summary["scores"]]
    mine = "misbehaving:honest"
    assert entrants_shown == [
        "eap",
        mine,
        "random",
        "oracle",
        "eap (untrained)",
        f"{mine} (untrained)",
    ]
    assert summary["scores"][1]["n"] == 2
    assert summary["scores"][1]["metrics"]["auroc_best"]["low"] is not None
    assert json.loads((tmp_path / "out" / "board.json").read_text()) == summary
    assert mine in (tmp_path / "out" / "board.html").read_text()
    assert calls.read_text().count("called") == 4  # two seeds, trained and untrained
    status, shown, _ = run(*given, "--family", "circuit")
    assert status == 0
    assert mine in shown
    assert calls.read_text().count("called") == 4


def test_a_method_that_fails_is_said_and_is_the_exit_status(tmp_path: Path) -> None:
    given = (
        "--family",
        "circuit",
        "--quick",
        "--jobs",
        "1",
        "--time-limit",
        "2",
        "--out",
        str(tmp_path),
    )
    status, shown, _ = run(*given, "--method", "misbehaving:hangs")
    assert status == 1
    assert (
        "misbehaving:hangs on boolean_and/zero: it was still running after 2 s, and was stopped"
        in shown
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--family", "circus"), "no family is called 'circus'; there are circuit, features"),
        (
            ("--method", "misbehaving"),
            "the method is 'misbehaving', but must be given as module:function",
        ),
    ],
    ids=["family", "method"],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    status, _, said = run(*arguments)
    assert status == 2
    assert said.startswith(sentence)
    assert said.count("\n") == 1
