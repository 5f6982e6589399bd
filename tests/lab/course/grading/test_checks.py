import pytest
import torch

from mini_transformer.course.grading.checks import (
    Wrong,
    check,
    expect,
    expect_found,
    find_checks,
)
from mini_transformer.course.grading.mutants import Mutant
from mini_transformer.course.grading.student import Call, Student

MUTANTS = [Mutant("double", "squares", lambda x: x * x, "Twice x is x + x.")]


class Answered(Student):
    def find_unused(self, name):
        return []


def ask(*answers):
    """Answer the first questions so."""
    student = Answered(0, None)
    student.calls += [Call("double", (x,), {}, answer) for x, answer in answers]
    return student


def test_equal_values_pass():
    expect(torch.ones(2), torch.ones(2))


def test_what_differs_is_described():
    with pytest.raises(Wrong) as caught:
        expect(7, 6, what="the double")
    assert caught.value.sentence == "The double is 7, which is not right."


def test_a_mistake_is_named_if_its_mutant_alone_gives_what_the_learner_gave():
    @check("double")
    def judge(student):
        expect(student.calls[-1].value, 6, what="the double")

    with pytest.raises(Wrong) as caught:
        judge(ask((1, 1), (3, 9)))
    assert (caught.value.mistake, caught.value.sentence) == ("squares", "Twice x is x + x.")
    for calls in [((3, 7),), ((1, 2), (3, 9))]:  # another value; on another input another value
        with pytest.raises(Wrong) as caught:
            judge(ask(*calls))
        assert caught.value.mistake is None


def test_a_check_looks_up_the_sentence_of_its_exercise():
    @check("double")
    def judge(student):
        """Two is doubled."""
        raise Wrong("squares")

    with pytest.raises(Wrong, match=r"squares: Twice x is x \+ x") as caught:
        judge(ask())
    assert caught.value.sentence == MUTANTS[0].sentence


def test_a_check_that_names_a_mistake_nobody_listed_is_an_error_in_the_grader():
    @check("double")
    def judge(student):
        raise Wrong("halves")

    with pytest.raises(KeyError, match="has the name 'halves' and a sentence: squares"):
        judge(ask())


def test_checks_are_found_by_exercise_in_order():
    @check("b")
    def second(student): ...

    @check("a", weight=2)
    def first(student): ...

    @check("b")
    def third(student): ...

    found = find_checks({"x": 1, "second": second, "first": first, "third": third})
    assert found == {"b": [second, third], "a": [first]}
    assert first.weight == 2


HEADS = ["a0.h0", "a0.h1", "a1.h0", "a1.h1"]


def earned_by(got, right=(("a0.h1", "a1.h0"),), **options):
    with pytest.raises(Wrong) as caught:
        expect_found(got, right, HEADS, **options)
    return caught.value.earned, caught.value.mistake, caught.value.sentence


def test_a_right_set_passes_in_any_order_and_also_the_second_of_two():
    expect_found(["a1.h0", "a0.h1", "a0.h1"], [["a0.h1", "a1.h0"]], HEADS)
    expect_found(["a1.h1"], [["a0.h1", "a1.h0"], ["a1.h1"]], HEADS)


def test_naming_everything_or_nothing_earns_nothing_and_half_of_it_a_part():
    assert earned_by(HEADS)[0] == 0
    assert earned_by([])[0] == 0
    assert earned_by(["a0.h1"])[0] == 0.5
    one_too_many = earned_by(["a0.h1", "a1.h0", "a1.h1"])
    assert one_too_many[0] == 0.5
    assert one_too_many[2] == "You name 2 of the 2 heads, and 1 that do not belong there."


def test_the_nearest_right_set_counts():
    assert earned_by(["a1.h0", "a1.h1"], [["a0.h0"], ["a0.h0", "a1.h0", "a1.h1"]])[0] > 0


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ("a0.h1", "Return a list of names of heads, such as 'a0.h0'."),
        ([1, 2], "Return a list of names of heads, such as 'a0.h0'."),
        (["a0h1"], "'a0h1' is not a name of heads of this model; nearest: 'a0.h1'."),
    ],
)
def test_what_is_no_list_of_names_is_told_so(got, said):
    assert earned_by(got)[2] == said
