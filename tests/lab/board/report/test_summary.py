"""Rows to means, intervals, lines of the report, and comparisons."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from sample_board import CIRCUIT, HEADLINES, make_row, make_rows, make_summary

from mini_transformer.board.report.summary import (
    compare_entrants,
    overview,
    read_summary,
    summarize,
)
from mini_transformer.intervals import find_interval

HEADLINE = HEADLINES["circuit"]


def find(entries: Any, entrant: str, family: str = "circuit") -> Any:
    (entry,) = [entry for entry in entries if entry.entrant == entrant and entry.family == family]
    return entry


def score_all(entrant: str, problem: str, values: list[float | None]) -> list[dict]:
    """Rows of one entrant: a value per model, None where it has nothing to say."""
    return [
        make_row(("circuit", problem), entrant, i, metrics={} if x is None else {HEADLINE: x})
        for i, x in enumerate(values)
    ]


def test_each_score_has_its_values_model_by_model_and_their_interval() -> None:
    good = find(make_summary(), "good")
    assert (good.n, good.numbers, good.headlines) == (3, [0, 1, 2], [0.8, 0.9, 1.0])
    assert good.metrics[HEADLINE] == find_interval([0.8, 0.9, 1.0])
    assert good.headline == pytest.approx(0.9)
    assert good.metrics["f1_best"] == (0.5, 0.5, 0.5)
    assert (good.forward, good.level, good.fell) == (4.0, "edges", None)
    assert find(make_summary(), "fooled", "probe").fell == 2
    assert find(make_summary(), "empty").headline is None


def test_a_failed_run_counts_0_and_is_kept_in_words() -> None:
    good = make_row(CIRCUIT, "mine", 0, metrics={HEADLINE: 0.6, "f1_best": 1.0}, forward=8.0)
    bad = make_row(CIRCUIT, "mine", 1, ok=False, error="it was slow", forward=0.0)
    (score,) = summarize([good, bad]).scores
    assert (score.n, score.failed, score.errors) == (2, 1, ["it was slow"])
    assert score.headline == 0.3
    assert score.metrics["f1_best"].mean == 1.0
    assert score.forward == 8.0
    lost = find(make_summary(), "[bold]mine[/bold]")
    assert (lost.headline, lost.failed) == (0.0, 3)
    line = find(overview(make_summary()), "[bold]mine[/bold]")
    assert (line.mean.mean, line.coverage, line.failed) == (0.0, 1.0, 3)


def test_a_method_that_had_nothing_to_say_somewhere_has_a_coverage_below_1() -> None:
    lines = overview(make_summary())
    assert find(lines, "shy").coverage == 2 / 3
    assert find(lines, "shy").mean.mean == 1.0
    assert (find(lines, "empty").coverage, find(lines, "empty").mean) == (0.0, None)
    assert find(lines, "good").coverage == 1.0


def test_the_share_of_models_at_which_a_method_fell_is_a_mean_over_traps() -> None:
    lines = overview(make_summary())
    assert find(lines, "fooled", "probe").fallen == pytest.approx(2 / 3)
    assert find(lines, "careful", "probe").fallen == 0
    assert find(lines, "good").fallen is None


def test_problems_of_a_case_are_drawn_together_and_each_weighs_the_same() -> None:
    values = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    twice = score_all("m", "forge/zero", values) + score_all("m", "forge/mean", values)
    apart = score_all("m", "forge/zero", values) + score_all("m", "other/mean", values)
    together, by_itself = (find(overview(summarize(rows)), "m").mean for rows in (twice, apart))
    assert together == find_interval(values)  # twice the same models say no more than once
    assert by_itself.high - by_itself.low < together.high - together.low
    uneven = score_all("m", "forge/zero", [1.0] * 6) + score_all("m", "twin/x", [0.0, 0.0])
    assert find(overview(summarize(uneven)), "m").mean.mean == 0.5


def test_two_methods_are_compared_model_by_model() -> None:
    rows = score_all("a", "forge/zero", [0.9, 0.8, 0.7, 0.5, None])
    rows += score_all("b", "forge/zero", [0.8, 0.7, 0.6, 0.5, 0.9])
    rows += score_all("a", "forge/mean", [0.9, 0.8, 0.7, 0.5, 0.0])
    rows += score_all("b", "forge/mean", [0.8, 0.7, 0.6, 0.5, 1.0])
    found = compare_entrants(summarize(rows[:10]), "circuit", "a", "b")
    assert (found.models, found.ahead, found.behind, found.ties) == (4, 3, 0, 1)
    assert found.difference.mean == pytest.approx(0.075)
    assert found.mean_a.mean == pytest.approx(0.725)
    alone = found.mean_a.high - found.mean_a.low
    assert found.difference.high - found.difference.low < alone / 2  # pairing tells more
    both = compare_entrants(summarize(rows), "circuit", "a", "b")
    assert both.problems == ["forge/zero", "forge/mean"]
    with pytest.raises(ValueError, match="there is no model at which both a and c answered"):
        compare_entrants(summarize(rows), "circuit", "a", "c")


def test_times_are_kept_apart_and_all_else_is_the_same_without_them() -> None:
    rows = make_rows()
    slower = [{**row, "seconds": row["seconds"] * 7} for row in rows]
    one, other = summarize(rows).as_data(), summarize(slower).as_data()
    assert one.pop("times") != other.pop("times")
    assert json.dumps(one) == json.dumps(other)


def test_what_is_known_of_each_problem_is_listed_once() -> None:
    known = make_summary().problems
    assert [entry.problem for entry in known] == ["a_toy/zero", "a_trap/unread"]
    assert known[1].trap["verdict"] == "it is used"


def test_a_summary_is_a_sequence_and_can_be_read_back_from_its_file() -> None:
    summary = make_summary()
    assert [len(summary), summary[0], *summary][2:] == summary.scores
    data = json.loads(json.dumps(summary.as_data()))
    assert list(data) == ["scores", "problems", "times", "run"]
    assert data["scores"][0]["metrics"]["f1_best"] == [0.5, 0.5, 0.5]
    assert read_summary(data) == summary
    assert read_summary(json.loads(json.dumps(summarize(make_rows()).as_data()))).run is None


def test_every_value_is_a_line_of_the_csv(tmp_path: Path) -> None:
    make_summary().write_csv(tmp_path / "board.csv")
    with (tmp_path / "board.csv").open() as file:
        rows = list(csv.DictReader(file))
    good = [row for row in rows if row["entrant"] == "good" and row["metric"] == HEADLINE]
    assert [row["model"] + ":" + row["value"] for row in good] == ["0:0.8", "1:0.9", "2:1.0"]
    assert {row["level"] for row in good} == {"edges"}
    assert not [row for row in rows if row["entrant"] == "empty"]
