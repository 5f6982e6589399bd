"""The audit of proxies: rank correlations of figures written down here."""

import pytest

from mini_transformer.board.report.proxies import correlate_proxy, make_section
from mini_transformer.board.report.summary import Score, Summary

NAMES = ["sae_matryoshka", "sae_topk", "sae_l1", "matching_pursuit"]


def make_score(entrant, truths, explained, codes):
    values = {"classification": truths, "explained_variance": explained, "l0": codes}
    return Score("features", "trees/narrow", entrant, "", [0, 1], values, [], 0, None, None, None)


SUMMARY = Summary(
    [
        make_score("sae_matryoshka", [0.9, 0.8], [0.1, 0.4], [1.0, 1.0]),
        make_score("sae_topk", [0.7, 0.6], [0.2, 0.3], [2.0, 2.0]),
        make_score("sae_l1", [0.5, 0.4], [0.3, 0.2], [3.0, 4.0]),
        make_score("matching_pursuit", [0.3, 0.2], [0.4, 0.1], [4.0, 3.0]),
        make_score("random_points", [0.1, 0.1], [9.0, 9.0], [9.0, None]),
    ],
    [],
    [],
)


def test_correlations_are_per_model_and_lower_is_better_for_codes():
    found = correlate_proxy(SUMMARY, "explained_variance", {*NAMES})
    assert found.mean == pytest.approx(0)  # -1 at one model and 1 at the other
    assert (found.low, found.high) == (-1, 1)
    codes = correlate_proxy(SUMMARY, "l0", {*NAMES})
    assert codes.mean == pytest.approx((1 + 0.8) / 2)
    assert correlate_proxy(SUMMARY, "l0", {"sae_l1"}) is None
    assert correlate_proxy(SUMMARY, "loss", {*NAMES}) is None


def test_the_section_says_both_and_is_left_out_without_dictionaries():
    section = make_section(SUMMARY)
    rows = {row[0]: row[1:] for row in section.rows}
    assert rows["few codes"][0] == "0.90 (0.80 to 1.00)"
    assert rows["low loss"] == ["", ""]
    assert make_section(Summary([], [], [])) is None
