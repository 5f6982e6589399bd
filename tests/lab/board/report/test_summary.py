"""Rows to means, intervals and lines of the report."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from sample_board import CIRCUIT, make_row, make_rows, make_summary

from mini_transformer.board.report.summary import (
    Interval,
    Mechanism,
    find_interval,
    overview,
    read_summary,
    summarize,
)


def find(entries: list, entrant: str, family: str = "circuit") -> Any:
    (entry,) = [entry for entry in entries if entry.entrant == entrant and entry.family == family]
    return entry


def test_the_interval_is_students_t_over_the_seeds() -> None:
    found = find_interval([0.8, 0.9, 1.0])
    half = 4.302653 * 0.1 / math.sqrt(3)  # t with two degrees of freedom, from a table
    assert found.mean == 0.9
    assert (found.low, found.high) == pytest.approx((0.9 - half, 0.9 + half), abs=1e-5)
    assert find_interval([0.7]) == Interval(0.7, None, None)
    assert find_interval([]) == Interval(None, None, None)
    assert find_interval([None, 0.4, 0.4]) == Interval(0.4, 0.4, 0.4)


def test_the_interval_holds_the_truth_in_19_of_20_draws() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, 3))
    held = [found.low <= 3.0 <= found.high for found in map(find_interval, draws.tolist())]
    assert 0.93 < np.mean(held) < 0.97


def test_each_score_is_a_mean_over_seeds_and_failures_are_kept_in_words() -> None:
    scores = make_summary().scores
    good = find(scores, "good")
    assert (good.n, good.metrics["auroc_best"].mean, good.forward) == (3, 0.9, 4.0)
    mine = find(scores, "[bold]mine[/bold]")
    assert (mine.n, mine.errors, mine.metrics) == (
        0,
        ["ValueError: <b>no</b> [red]such[/red] edge"],
        {},
    )
    assert find(scores, "fooled", "probe").fell == 2
    assert find(scores, "good").fell is None


def test_only_seeds_that_went_well_are_averaged() -> None:
    good = make_row(CIRCUIT, "mine", 0, metrics={"auroc_best": 0.6}, forward=8.0)
    bad = make_row(CIRCUIT, "mine", 1, ok=False, error="it was slow", forward=0.0)
    (score,) = summarize([good, bad]).scores
    assert (score.n, score.metrics["auroc_best"].mean, score.forward) == (1, 0.6, 8.0)
    assert score.errors == ["it was slow"]


def test_times_are_kept_apart_and_all_else_is_the_same_without_them() -> None:
    rows = make_rows()
    slower = [{**row, "seconds": row["seconds"] * 7} for row in rows]
    one, other = summarize(rows).as_data(), summarize(slower).as_data()
    assert one.pop("times") != other.pop("times")
    assert json.dumps(one) == json.dumps(other)


def test_the_overview_counts_a_failure_as_nothing_found_and_an_empty_row_not_at_all() -> None:
    lines = overview(make_summary())
    assert find(lines, "good").mean == 0.9
    failed = find(lines, "[bold]mine[/bold]")
    assert (failed.mean, failed.failed, failed.problems) == (0.0, 1, 1)
    empty = find(lines, "empty")
    assert (empty.mean, empty.failed, empty.problems) == (None, 0, 0)
    assert (find(lines, "fooled", "probe").fallen, find(lines, "fooled", "probe").met) == (1, 1)
    assert (find(lines, "careful", "probe").fallen, find(lines, "careful", "probe").met) == (0, 1)
    assert (find(lines, "good").fallen, find(lines, "good").met) == (0, 0)


def test_what_is_known_of_each_problem_is_listed_once() -> None:
    known = make_summary().problems
    assert [entry.problem for entry in known] == ["a_toy/zero", "a_trap/unread"]
    assert known[1].trap["verdict"] == "it is used"


def test_the_headline_of_a_score_is_that_of_its_family() -> None:
    scores = make_summary().scores
    assert find(scores, "good").headline == 0.9  # auroc_best
    assert find(scores, "fooled", "probe").headline == 0.9  # cosine
    assert find(scores, "empty").headline is None


def test_a_summary_can_be_read_back_from_its_file() -> None:
    summary = dataclasses.replace(
        make_summary(), mechanisms=[Mechanism("clock", 0, 1.0, 0.4, 0.7, 0.8)]
    )
    data = json.loads(json.dumps(summary.as_data()))
    assert list(data) == ["scores", "problems", "times", "mechanisms"]
    assert read_summary(data) == summary
    assert "mechanisms" not in make_summary().as_data()
