"""docs/board.md is true: its tables are those of the run that is kept beside it, and that run
still comes out so.
"""

import json
import re

import pytest
from board_page import PAGE, SHOWN, fill_in, list_fallen

from mini_transformer.board.families import load_families
from mini_transformer.board.report.summary import Score, Summary
from mini_transformer.board.report.table import is_reference
from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.board.running.judge import judge

TEXT, KEPT = PAGE.read_text(), json.loads(SHOWN.read_text())


def test_the_tables_are_those_of_the_run_that_is_kept():
    assert fill_in(TEXT, KEPT) == TEXT, "run: python tests/repo/board_page.py"


def test_every_trap_of_the_board_is_on_the_page():
    traps = {
        f"`{name}` ({key})" for key, family in load_families().items() for name in family.traps
    }
    assert traps == {row[0] for row in KEPT["traps"]}


def test_every_entrant_of_every_family_is_on_the_page():
    shown = {(row[0], re.sub(r" \[.*\]", "", row[1])) for row in KEPT["overview"]}
    for name, family in load_families().items():
        assert {(name, entrant) for entrant in (*family.entrants, *family.references)} <= shown


@pytest.mark.parametrize("family", load_families())
def test_trivial_answers_lose_by_far_and_the_first_has_answered_all(family):
    rows = [row for row in KEPT["overview"] if row[0] == family]
    means = {re.sub(r" \[.*\]", "", row[1]): float(row[2]) for row in rows if row[2]}
    best = max(mean for name, mean in means.items() if not is_reference(family, name))
    trivial = [mean for name, mean in means.items() if is_reference(family, name)]
    trivial.remove(means["oracle"])
    assert means["oracle"] == 1
    assert max(trivial) <= best - 0.15
    assert rows[0][5] == "all"


@pytest.mark.parametrize("family", KEPT["checks"])
def test_cheap_methods_still_score_what_they_did(family):
    problem, entrant, value = KEPT["checks"][family]
    draw = Draw(KEPT["run"]["split"], KEPT["run"]["seed"])
    row = judge(Job(family, problem, entrant, 0), draw, Answerer().answer)
    assert row["metrics"][load_families()[family].headline] == pytest.approx(value, abs=1e-3)


def test_references_are_not_counted_as_methods_that_fell():
    headline = load_families()["circuit"].headline
    scores = [
        Score("circuit", "p", name, "", [0], {headline: [1.0]}, [], 0, 1, None, None)
        for name in ("mine", "random", "oracle", "mine (untrained)")
    ]
    assert list_fallen(Summary(scores, [], []), "circuit", "p") == "mine 1 of 1"
