"""Erasure problems: too little, too much, and what only an MLP still reads."""

import pytest

from mini_transformer.board.families.erasure.problems import build
from mini_transformer.methods import fit_leace


def test_taking_everything_out_or_nothing_is_no_erasure():
    problem = build("unused_feature/y", 0)
    nothing, everything = (
        problem.measure(lambda x: x),
        problem.measure(lambda x: x.mean(dim=0).expand_as(x)),
    )
    assert (nothing["balance"], nothing["leakage"], nothing["damage"]) == (0, 1, 0)
    assert (everything["balance"], everything["leakage"], everything["damage"]) == (0, 0, 1)
    assert everything["change"] == pytest.approx(1)


def test_what_no_line_can_read_an_mlp_still_can():
    problem = build("style_grammar/sentiment", 0)
    found = problem.measure(fit_leace(*problem.arguments))
    assert found["leakage"] < 0.15
    assert found["mlp_leakage"] > 0.9


def test_the_topic_is_erased_beside_the_sentiment_that_stays():
    problem = build("style_grammar/topic", 0)
    assert problem.note.startswith("topic, on fresh texts; sentiment and register are to be kept")
    sentiment = build("style_grammar/sentiment", 0)
    assert (problem.arguments[0] == sentiment.arguments[0]).all()
    assert (problem.arguments[1] != sentiment.arguments[1]).any()
