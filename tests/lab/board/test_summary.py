"""Rows to means, intervals and lines of the report."""

import json
import math

import numpy as np
import pytest
from sample_board import CIRCUIT, make_row, make_rows, make_summary

from mini_transformer.board.summary import find_interval, overview, summarise


def find(entries: list[dict], entrant: str, family: str = "circuit") -> dict:
    (entry,) = [
        entry for entry in entries if entry["entrant"] == entrant and entry["family"] == family
    ]
    return entry


def test_the_interval_is_students_t_over_the_seeds() -> None:
    found = find_interval([0.8, 0.9, 1.0])
    half = 4.302653 * 0.1 / math.sqrt(3)  # t with two degrees of freedom, from a table
    assert found == {
        "mean": 0.9,
        "low": pytest.approx(0.9 - half, abs=1e-5),
        "high": pytest.approx(0.9 + half, abs=1e-5),
    }
    assert find_interval([0.7]) == {"mean": 0.7, "low": None, "high": None}
    assert find_interval([]) == {"mean": None, "low": None, "high": None}
    assert find_interval([None, 0.4, 0.4]) == {"mean": 0.4, "low": 0.4, "high": 0.4}


def test_the_interval_holds_the_truth_in_19_of_20_draws() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, 3))
    held = [found["low"] <= 3.0 <= found["high"] for found in map(find_interval, draws.tolist())]
    assert 0.93 < np.mean(held) < 0.97


def test_each_score_is_a_mean_over_seeds_and_failures_are_kept_in_words() -> None:
    scores = make_summary()["scores"]
    good = find(scores, "good")
    assert (good["n"], good["metrics"]["auroc_best"]["mean"], good["forward"]) == (3, 0.9, 4.0)
    mine = find(scores, "[bold]mine[/bold]")
    assert (mine["n"], mine["errors"], mine["metrics"]) == (
        0,
        ["ValueError: <b>no</b> [red]such[/red] edge"],
        {},
    )
    assert find(scores, "fooled", "probe")["fell"] == 2


def test_only_seeds_that_went_well_are_averaged() -> None:
    good = make_row(CIRCUIT, "mine", 0, metrics={"auroc_best": 0.6}, forward=8.0)
    bad = make_row(CIRCUIT, "mine", 1, ok=False, error="it was slow", forward=0.0)
    (score,) = summarise([good, bad])["scores"]
    assert (score["n"], score["metrics"]["auroc_best"]["mean"], score["forward"]) == (1, 0.6, 8.0)
    assert score["errors"] == ["it was slow"]


def test_times_are_kept_apart_and_all_else_is_the_same_without_them() -> None:
    rows = make_rows()
    slower = [{**row, "seconds": row["seconds"] * 7} for row in rows]
    one, other = summarise(rows), summarise(slower)
    assert one.pop("times") != other.pop("times")
    assert json.dumps(one) == json.dumps(other)


def test_the_overview_counts_a_failure_as_nothing_found_and_an_empty_row_not_at_all() -> None:
    lines = overview(make_summary())
    assert find(lines, "good")["mean"] == 0.9
    failed = find(lines, "[bold]mine[/bold]")
    assert (failed["mean"], failed["failed"], failed["problems"]) == (0.0, 1, 1)
    empty = find(lines, "empty")
    assert (empty["mean"], empty["failed"], empty["problems"]) == (None, 0, 0)
    assert find(lines, "fooled", "probe")["traps"] == [1, 1]
    assert find(lines, "careful", "probe")["traps"] == [0, 1]
    assert find(lines, "good")["traps"] == [0, 0]


def test_what_is_known_of_each_problem_is_listed_once() -> None:
    known = make_summary()["problems"]
    assert [entry["problem"] for entry in known] == ["a_toy/zero", "a_trap/unread"]
    assert known[1]["trap"]["verdict"] == "it is used"
