"""Whatever a technique is given wrong is answered with one sentence: what was given, what is
expected.
"""

import functools
import inspect
import re

import pytest
import torch
from bad_inputs import ANY_VALUE, BAD, FITTED, OWN, SPARED, S, find_faults, list_cases
from every_call import CALLS, name_function

from mini_transformer import methods

FUNCTIONS = sorted({name_function(call) for call in CALLS})


def look() -> tuple:
    weights = [weight.clone() for weight in S.model.parameters()]
    listening = [name for name, point in S.model.hook_points.items() if point.on]
    return weights, torch.random.get_rng_state(), torch.get_num_threads(), listening


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_bad_value_is_answered_with_one_sentence_and_leaves_no_trace(function):
    before = look()
    assert find_faults(function) == {}
    torch.testing.assert_close(look(), before, rtol=0, atol=0)


@pytest.mark.parametrize("sentence", FITTED)
def test_what_was_fitted_answers_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        FITTED[sentence]()
    assert "\n" not in str(raised.value)


def test_every_argument_has_a_bad_value_or_the_reason_why_not():
    own = {(case.function, name) for case in OWN for name in case.changes}
    own |= {(function, name) for function, name, _ in SPARED}
    for function in FUNCTIONS:
        tried = {what.split(":")[0] for what, *_ in list_cases(function)}
        for name in inspect.signature(getattr(methods, function)).parameters:
            assert name in {*tried, *ANY_VALUE} or (function, name) in own, (function, name)


def test_no_line_of_the_tables_is_in_vain():
    names = {
        name
        for function in FUNCTIONS
        for name in inspect.signature(getattr(methods, function)).parameters
    }
    assert {*BAD, *ANY_VALUE, *(name for _, name, _ in SPARED)} - names == set()
    assert {case.function for case in OWN} | {function for function, *_ in SPARED} <= {*FUNCTIONS}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (lambda: None, "is accepted"),
        (lambda: [][0], "is IndexError: list index out of range"),
        (lambda: int("x"), "is answered with 'invalid literal"),
        (lambda: {"a": 1}["b"], "is answered with 'b', without"),
    ],
    ids=["accepted", "a crash", "an error of Python's", "a bare key"],
)
def test_a_bad_answer_is_found(monkeypatch, answer, fault):
    fake = functools.wraps(methods.score_sink)(lambda **arguments: answer())
    monkeypatch.setattr(methods, "score_sink", fake)
    faults = find_faults("score_sink").values()
    assert len(faults) >= 5
    assert all(each.replace('"', "'").startswith(fault) for each in faults)
