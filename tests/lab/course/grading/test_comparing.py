import math

import pytest
import torch

from mini_transformer.course.grading.comparing import find_difference

EQUAL = [
    (torch.ones(2, 3), torch.ones(2, 3)),
    (torch.ones(2), torch.ones(2, dtype=torch.float64)),
    (torch.tensor([1, 2]), torch.tensor([1.0, 2.0])),
    (torch.tensor([float("nan"), float("-inf")]), torch.tensor([float("nan"), float("-inf")])),
    (torch.tensor(3.0), 3),
    (3, torch.tensor(3.0)),
    (2.000001, 2.0),
    (math.inf, math.inf),
    (math.nan, math.nan),
    (torch.tensor([1, 2]), [1, 2]),
    ((1, "a"), [1, "a"]),
    ({"b": [1], "a": None}, {"a": None, "b": [1]}),
    (torch.tensor(True), True),
    (torch.zeros(0, 3), torch.zeros(0, 3)),
    ([1.0, torch.tensor(2)], torch.tensor([1.0, 2.0])),
    ([torch.ones(2), [1, 1]], torch.ones(2, 2)),
    ([torch.tensor(1), 2], [1, 2]),
    ([2, 1, 1], {1, 2}),
    ({1, 2}, {2, 1}),
]

DIFFERENT = [
    (torch.ones(2, 3), torch.ones(3, 2), "the result has shape (2, 3), expected (3, 2): the axes "
                                         "are in another order"),
    (torch.ones(2, 3), torch.ones(2, 4), "the result has shape (2, 3), expected (2, 4)"),
    (["a"], torch.ones(1), "the result is a list, expected a tensor of shape (1,)"),
    (1.0, torch.ones(1), "the result is 1.0 (a float), expected a tensor of shape (1,)"),
    ({1, 2}, [1, 2], "the result is a set, which has no order, expected a list of 2"),
    ("a", 1, "the result is 'a' (a str), expected a number"),
    (True, 1, "the result is True (a bool), expected a number"),
    (1, True, "the result is 1 (an int), expected a bool"),
    (torch.ones(2), torch.ones(2).bool(),
     "the result has dtype torch.float32, expected torch.bool"),
    (2.0, 2.5, "the result is 2, expected 2.5"),
    (2, 3, "the result is 2, which is not right"),  # the answer itself is not given away
    ("a0.h1", "a1.h0", "the result is 'a0.h1', which is not right"),
    ([1, 2], [1, 3], "entry 1 of the result is 2, which is not right"),
    ([1], [1, 2], "the result has 1 entry, expected 2"),
    ({"a": [1, "x"]}, {"a": [1, "y"]}, "entry 1 of 'a' in the result is 'x', which is not right"),
    ({"a": 1}, {"b": 1}, "the result has no key 'b'; it has 'a'"),
    ({"a": 1, "b": 1}, {"b": 1}, "the result has a key 'a' that does not belong there"),
    (torch.tensor([1.0, math.nan]), torch.ones(2), "the result is nan at [1]"),
    (2 * torch.arange(4.0), torch.arange(4.0),
     "the result is 2 times what it should be, everywhere"),
    (-torch.arange(4.0), torch.arange(4.0), "the result is -1 times what it should be, everywhere"),
    (torch.tensor([[1.0, 2], [3, 9]]), torch.tensor([[1.0, 2], [3, 4]]),
     "the result differs in 1 of 4 places, most at [1, 1]: 9 instead of 4"),
    (torch.tensor([0.5, -math.inf]), torch.tensor([0.5, 0.5]), "the result differs in 1 of 2 "
                                                               "places, most at [1]: -inf instead "
                                                               "of 0.5"),
    (torch.tensor(5.0), torch.tensor(4.0), "the result is 5 instead of 4"),
]  # fmt: skip


@pytest.mark.parametrize(("got", "want"), EQUAL)
def test_equal_values_have_no_difference(got, want):
    assert find_difference(got, want) is None


@pytest.mark.parametrize(("got", "want", "sentence"), DIFFERENT)
def test_a_difference_is_said_in_a_sentence(got, want, sentence):
    assert find_difference(got, want) == sentence


def test_tolerances_are_those_that_were_asked_for():
    assert find_difference(torch.tensor([1.01]), torch.tensor([1.0]), rtol=0.02) is None
    assert find_difference(torch.tensor([1.01]), torch.tensor([1.0]), rtol=0.005) is not None
    assert find_difference(1.01, 1.0, rtol=0.0, atol=0.02) is None


def test_every_single_wrong_entry_is_found():
    """By brute force: a change of any one entry of a tensor is reported at that entry."""
    want = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for place in torch.cartesian_prod(*map(torch.arange, want.shape)).tolist():
        got = want.clone()
        got[tuple(place)] += 1
        assert f"in 1 of 24 places, most at {place}" in str(find_difference(got, want))
