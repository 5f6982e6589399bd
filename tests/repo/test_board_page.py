"""docs/board.md is true: its tables are those of the run that is kept beside it, and that run
still comes out so.
"""

import json
import re

import pytest
from board_page import KINDS, PAGE, SHOWN, TRAPS, fill_in, list_sides

from mini_transformer.board.families import load_families
from mini_transformer.board.report.summary import Score, Summary
from mini_transformer.board.running.jobs import Job, run_job

TEXT, KEPT = PAGE.read_text(), json.loads(SHOWN.read_text())
CHEAP = (
    "edge_patching",
    "eap",
    "class_means",
    "varying_axes",
    "principal_axes",
    "attention_patterns",
)


def test_the_tables_are_those_of_the_run_that_is_kept():
    assert fill_in(TEXT, KEPT) == TEXT, "run: python tests/repo/board_page.py"


def test_every_figure_stands_in_a_table():
    prose = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", TEXT, flags=re.DOTALL)
    assert re.findall(r"(?<![\d.])\d?\.\d+", re.sub(r"\d{4}\.\d{5}", "", prose)) == []


def test_every_trap_of_the_board_is_on_the_page():
    known = {(name, trap) for name, family in load_families().items() for trap in family.traps}
    assert known == {problem for met in TRAPS.values() for problem in met}


@pytest.mark.parametrize(
    "entry", KEPT["traps"], ids=lambda entry: f"{entry['family']}-{entry['problem']}"
)
def test_cheap_methods_still_fall_or_stand_as_the_page_says(entry):
    seeds = range(3)
    for entrant in set(CHEAP) & {*entry["fell"], *entry["stood"]}:
        rows = [run_job(Job(entry["family"], entry["problem"], entrant, seed)) for seed in seeds]
        assert any(row["fell"] for row in rows) == (entrant in entry["fell"]), entrant


def test_the_ablations_still_measure_what_the_page_says():
    for entry in KEPT["kinds"]:
        problem = KINDS[entry["question"]][entry["kind"]]
        rows = [run_job(Job("circuit", problem, "edge_patching", seed)) for seed in range(3)]
        assert sum(row["metrics"]["auroc_best"] for row in rows) / 3 == pytest.approx(
            entry["auroc"], abs=1e-3
        )


def test_references_are_not_counted_as_methods_that_fell():
    scores = [
        Score("circuit", "p", name, 1, [], 1, {}, None, None)
        for name in ("mine", "random", "oracle", "mine (untrained)")
    ]
    summary = Summary(scores, [], [])
    assert list_sides(summary, "circuit", "p") == {"fell": ["mine"], "stood": []}
