"""The side that answers: it disturbs nothing, keeps answers for calls, and explains itself."""

import random

import misbehaving
import numpy as np
import pytest
import torch
from sample_problem import make_problem, run_on

from mini_transformer.board.families import find_family
from mini_transformer.board.running.answering import Answerer, explain, seeded
from mini_transformer.board.running.parcels import pack, unpack


def test_a_method_that_draws_from_the_global_seed_gets_the_same_score_twice() -> None:
    first = run_on(make_problem(), name="misbehaving:random_by_global_seed")["metrics"]
    torch.rand(3), np.random.rand(3), random.random()
    assert run_on(make_problem(), name="misbehaving:random_by_global_seed")["metrics"] == first


def test_the_state_of_the_process_is_as_before() -> None:
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with seeded():
        misbehaving.random_by_global_seed(make_problem().arguments[0], *[None] * 4)
        torch.set_default_dtype(torch.float64)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_answers_are_kept_for_calls_until_two_others_are_there() -> None:
    makes = iter([lambda x: x + 1, lambda x: x * 10, lambda x: -x])
    answerer = Answerer(lambda activations, labels: next(makes))

    def say(**request):
        return unpack(answerer.answer(pack(request)))

    run = {"do": "run", "family": "erasure", "entrant": "m", "arguments": (1, 2), "options": {}}
    first, second = say(**run)["place"], say(**run)["place"]
    call = {"do": "call", "name": "__call__", "arguments": (5,)}
    assert [say(**call, place=place)["value"] for place in (first, second, first)] == [6, 50, 6]
    third = say(**run)["place"]
    assert say(**call, place=third)["value"] == -5
    assert "error" in say(**call, place=first)


def test_a_request_that_cannot_be_read_is_answered_with_a_sentence() -> None:
    assert "the frame says that" in unpack(Answerer().answer(b"12345678{"))["error"]


def test_time_is_up_in_this_process_too() -> None:
    def forever(activations, labels):
        while True:
            pass

    run = {"do": "run", "family": "erasure", "entrant": "m", "arguments": (1, 2), "options": {}}
    said = unpack(Answerer(forever).ask(pack(run), seconds=0.2))
    assert said == {"error": "it was still running when its time was up"}


def test_an_error_within_a_library_names_the_line_that_called_it() -> None:
    with pytest.raises(np.linalg.LinAlgError) as caught:
        np.linalg.inv(np.zeros((2, 2)))
    assert "Singular matrix (test_answering.py, line " in explain(caught.value)


def test_an_error_of_the_method_s_own_code_names_its_line_and_one_of_ours_does_not() -> None:
    with pytest.raises(ValueError) as own:  # noqa: PT011
        misbehaving.complains(None, None, None, None, None)
    assert "(misbehaving.py, line " in explain(own.value)
    with pytest.raises(KeyError) as ours:
        find_family("circuit").build("no/such")
    ours.value.__traceback__ = ours.value.__traceback__.tb_next  # without the line of this test
    assert explain(ours.value).startswith("the family 'circuit' has no problem 'no/such'")
