"""A wrong answer is recognized by what it returns, and by nothing else."""

import pytest
import torch

from mini_transformer.course.grading.mutants import (
    Mutant,
    alternative,
    find_sentence,
    load_mutants,
    mutant,
    recognize,
    vary,
)
from mini_transformer.course.grading.student import Call


def draw(x):
    return x + torch.randn(2)


def change(x):
    return x.mul_(2)


def fail(x):
    raise RuntimeError(x)


KNOWN = [
    Mutant("double", "squares", lambda x: x * x, "You square."),
    Mutant("double", "draws", draw, "You draw."),
    Mutant("double", "fails", fail, "You fail."),
    Mutant("double", "unnamed", lambda x: x + 1, says="differs"),
    Mutant("halve", "squares", lambda x: x * 3, "You treble."),
]


def call(x, value, name="double"):
    return Call(name, (x,), {}, value)


def test_the_mutant_that_alone_returns_the_same_on_all_calls_is_named():
    assert recognize(KNOWN, "double", [call(3.0, 9.0), call(1.0, 1.0)]) == "squares"
    assert recognize(KNOWN, "double", [call(3.0, 8.0), call(1.0, 1.0)]) is None
    assert recognize(KNOWN, "halve", [call(3.0, 9.0, "halve"), call(3.0, 9.0)]) == "squares"
    assert recognize(KNOWN, "double", []) is None
    assert recognize(KNOWN, "double", [call(1.0, 2.0)]) is None  # has no sentence
    assert recognize(KNOWN, "double", [call(3.0, 9.1)], rtol=0.1) == "squares"


def test_of_two_that_fit_none_is_named_but_of_one_name_they_may_be_two():
    twin = KNOWN[0]._replace(name="multiplies", sentence="You multiply.")
    assert recognize([*KNOWN, twin], "double", [call(3.0, 9.0)]) is None
    assert recognize([*KNOWN, KNOWN[0]], "double", [call(3.0, 9.0)]) == "squares"
    again = Mutant("double", "squares", lambda x: x**2 + 1)  # its sentence stands at the other
    assert recognize([*KNOWN, again], "double", [call(3.0, 10.0)]) == "squares"


def test_the_order_of_names_tells_nothing():
    known = [Mutant("double", "names", lambda x: [["a0", "a1"], ["a2"]], "You name some.")]
    assert recognize(known, "double", [call(1.0, [["a2"], ["a1", "a0"]])]) == "names"
    assert recognize(known, "double", [call(1.0, [["a2"], ["a1"]])]) is None
    numbers = [Mutant("double", "counts", lambda x: [1, 2], "You count.")]
    assert recognize(numbers, "double", [call(1.0, [2, 1])]) is None


def test_inputs_and_the_global_generator_stay_as_they_were():
    x = torch.ones(2)
    state = torch.get_rng_state()
    known = [Mutant("double", "changes", change, "You change."), KNOWN[1]]
    assert recognize(known, "double", [call(x, 2 * x)]) == "changes"
    assert x.equal(torch.ones(2))
    assert torch.get_rng_state().equal(state)


def test_two_exercises_may_have_mutants_of_the_same_name(tmp_path):
    source = "from mini_transformer.course.grading.mutants import alternative, mutant\n"
    for kind, of in [("mutant", "a"), ("mutant", "b"), ("alternative", "a")]:
        source += f'@{kind}("{of}", name="constant")\ndef f(x): return "{of}"\n'
    (tmp_path / "mutants").mkdir()
    (tmp_path / "mutants" / "ex01.py").write_text(source)
    found = load_mutants(tmp_path / "exercises" / "test_ex01.py")
    assert [(each.exercise, each.name, each.answer(0)) for each in found] == [
        ("a", "constant", "a"),
        ("b", "constant", "b"),
    ]


def test_a_mistake_without_a_sentence_is_an_error_in_the_grader():
    assert find_sentence(KNOWN, "halve", "squares") == "You treble."
    with pytest.raises(KeyError, match="'unnamed' and a sentence: squares, draws, fails"):
        find_sentence(KNOWN, "double", "unnamed")


def test_decorators_leave_the_function_as_it_is():
    assert mutant("double", "Wrong, as it is one too many.")(draw) is draw
    assert alternative("double")(fail) is fail
    assert globals()["MUTANTS"][-1].name == "draw"
    assert globals()["ALTERNATIVES"][-1] == Mutant("double", "fail", fail)


def test_a_family_of_mutants_is_the_right_answer_with_one_thing_exchanged():
    space = {}
    exec("def power(x, exponent=2):\n    return x**exponent", space)  # a module of its own
    wrong = vary("square", space["power"])
    wrong("cubes", "You take the third power.", clause="the square", exponent=3)
    (known,) = space["MUTANTS"]
    assert (known.name, known.clause, known.answer(2)) == ("cubes", "the square", 8)


def test_names_count_in_any_order():
    mutants = [Mutant("find", "all", lambda: (["b", "a"], []), "You name all of them at once.")]
    calls = [Call("find", (), {}, (["a", "b"], []))]
    assert recognize(mutants, "find", calls) == "all"


def test_a_view_says_what_of_an_answer_counts():
    calls = [call(3.0, -9.0), call(1.0, -1.0)]
    assert recognize(KNOWN, "double", calls) is None
    assert recognize(KNOWN, "double", calls, lambda answer, x: abs(answer)) == "squares"
