"""Test that answers without work are known, and those with some work are not."""

import pytest
import torch

from mini_transformer.course.grading.student import Call
from mini_transformer.course.grading.trivial import find_triviality


def draw(seed):
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(seed))


def judge(*values, inputs=None, plain=None):
    inputs = inputs or [(draw(i), draw(i + 50)) for i in range(len(values))]
    calls = [Call("f", args, {}, value) for args, value in zip(inputs, values, strict=True)]
    references = [{} if plain is None else {"the plain run": each} for each in plain or values]
    return find_triviality(calls, references if plain else [{} for _ in values])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ((torch.zeros(4), torch.zeros(2, 3)), "Your answers hold one number only, everywhere."),
        (([], []), "You name nothing."),
        ((([], []), ([], [])), "You name nothing."),
        (({}, {}), "You name nothing."),
        ((["a"], ["a"]), "You answer the same, whatever is given."),
        ((draw(1), draw(1)), "You answer the same, whatever is given."),
        ((3, 3), "You answer the same, whatever is given."),
        ((draw(1), draw(2)), None),
        ((["a"], ["b"]), None),
        ((0.0, 1.0), None),
        ((torch.zeros(4), draw(1)), None),
        (([], ["a"]), None),
        ((3,), None),
        ((), None),
    ],
)
def test_what_shows_nothing_is_told(values, why):
    found = judge(*values)
    assert found == why


def test_the_same_answer_to_the_same_question_is_no_constant():
    same = (draw(1), draw(2))
    assert judge(["a"], ["a"], inputs=[same, same]) is None
    # Other settings of one question may well have one answer.
    assert judge(["a"], ["a"], inputs=[(*same, "q"), (*same, "k")]) is None
    assert judge(["a"], ["a"], inputs=[(draw(1), same[1]), same]) is None


def test_a_plain_run_is_trivial_only_if_every_answer_is_one():
    runs = [draw(1), draw(2)]
    assert judge(*runs, plain=runs) == "You return the plain run."
    assert judge(runs[0], draw(3), plain=runs) is None
