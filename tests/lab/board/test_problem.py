"""What a family answers about its problems: which there are, at which seeds, and what is not
there.
"""

import dataclasses

import pytest

from mini_transformer.board.problem import Family, Problem, Trap, list_cases


def build(name: str, seed: int) -> Problem:
    return Problem("size", name, seed, (), (), dict, lambda: 1, lambda draw: 0, n_prompts=1)


def lay_trap(name: str, seed: int) -> Problem:
    return dataclasses.replace(build(name, seed), trap=Trap("It is small.", "it is large", bool))


FAMILY = Family(
    name="size",
    parameters={"model": "what is measured", "unit": "in which unit"},
    returns="a number",
    headline="nearness",
    metrics={"nearness": "1 is right"},
    read=lambda answer, *arguments: (answer, arguments),
    problems=dict.fromkeys(("one/a", "one/b", "two/a"), build),
    traps={"one/b": lay_trap, "three/a": lay_trap},
    options={"hint": "what helps"},
    quick=("three/a", "one/a"),
    entrants={},
    models=5,
    shipped={"two/a": 3},
)


def test_problems_come_in_one_order_and_each_trap_once() -> None:
    assert FAMILY.list_problems() == ["one/a", "one/b", "two/a", "three/a"]
    assert FAMILY.list_problems(quick=True) == ["one/a", "three/a"]


def test_cases_are_toys_or_problems_and_a_string_is_one_of_them() -> None:
    assert FAMILY.list_problems(["one", "three/a"]) == ["one/a", "one/b", "three/a"]
    assert FAMILY.list_problems("two", quick=True) == ["two/a"]
    assert FAMILY.list_problems("nothing") == []
    assert list_cases("two") == ["two"]


def test_a_problem_with_a_trap_is_built_with_it() -> None:
    assert [FAMILY.build(name).trap is not None for name in FAMILY.names] == [0, 1, 0, 1]
    assert FAMILY.build("three/a", 5).seed == 5


def test_a_problem_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="'size' has no problem 'thre/a'; nearest: 'three/a'"):
        FAMILY.build("thre/a")


def test_models_are_as_many_as_asked_for_and_of_those_that_are_shipped_what_there_is() -> None:
    assert FAMILY.list_numbers("one/a") == [0, 1, 2, 3, 4]
    assert FAMILY.list_numbers("one/a", 12) == list(range(12))
    assert FAMILY.list_numbers("two/a") == FAMILY.list_numbers("two/a", 12) == [0, 1, 2]


def test_an_answer_is_read_with_the_arguments_and_none_is_refused() -> None:
    assert FAMILY.check_answer(3, ("a model", "cm")) == (3, ("a model", "cm"))
    with pytest.raises(ValueError, match="returned None: did you forget `return`"):
        FAMILY.check_answer(None, ())


def test_a_signature_says_what_goes_in_and_what_comes_out() -> None:
    assert FAMILY.signature == "method(model, unit, *, hint=None) -> a number"
