"""Each relation is found in random tensors, and none where there is none."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_transformer.course.grading.comparing import find_difference
from mini_transformer.course.grading.diagnose import FUNCTIONS, diagnose

SIZES = {"prompts": 4, "heads": 3, "positions": 5}


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def replace(want, axis, kept, seed=1):
    """Keep some slices along an axis, and put other numbers into the others."""
    got = draw(seed + 1000, *want.shape)
    index = torch.tensor(kept)
    return got.index_copy(axis, index, want.index_select(axis, index))


RELATIONS = {
    "is the negative of what it should be": lambda w: -w,
    "is 4 times (the number of prompts) what it should be, everywhere": lambda w: 4 * w,
    "is 3 times less than (the number of heads) what it should be, everywhere": lambda w: w / 3,
    "is 1.732 times less than (the root of the number of heads) what it should be, everywhere":
        lambda w: w / math.sqrt(3),
    "is 0.6931 times (log 2, as between bits and nats) what it should be, everywhere":
        lambda w: w * math.log(2),
    "is 2 times what it should be, everywhere": lambda w: 2 * w,
    "is 0.01 times what it should be, everywhere": lambda w: w / 100,
    "is 0.37 times what it should be, everywhere": lambda w: 0.37 * w,
    "is 0 everywhere": torch.zeros_like,
    "is 7 everywhere": lambda w: torch.full_like(w, 7),
    "differs everywhere by the same number, 2.5": lambda w: w + 2.5,
    "runs backwards along the position axis": lambda w: w.flip(2),
    "comes one place too late along the prompt axis": lambda w: torch.cat([w[:1] * 9, w[:-1]]),
    "comes one place too early along the head axis": lambda w: w.roll(-1, 1),
    "has the right numbers, sorted": lambda w: w.flatten().sort().values.view_as(w),
    "has the right numbers, in another order": lambda w: w.flatten()[torch.randperm(
        60, generator=torch.Generator().manual_seed(3))].view_as(w),
    "is right for the first along the prompt axis only": lambda w: replace(w, 0, [0]),
    "is right for the last along the position axis only": lambda w: replace(w, 2, [4]),
    "is right for all but the first along the head axis only": lambda w: replace(w, 1, [1, 2]),
    "is right for all but the last along the head axis only": lambda w: replace(w, 1, [0, 1]),
    "is right for 1, 3 (counted from 0) along the position axis only":
        lambda w: replace(w, 2, [1, 3]),
    "is right for the first along the prompt axis, and the same for all others":
        lambda w: w[:1].expand_as(w),
    "has shape": lambda w: w.transpose(0, 1),
    "holds only the last of the position axis": lambda w: w[..., -1],
    "is summed over the head axis": lambda w: w.sum(1),
    "is averaged over the prompt axis": lambda w: w.mean(0),
    "has the right numbers: it has shape (4, 15), expected (4, 3, 5)": lambda w: w.flatten(1),
    "is right in the last 2 along axis 2": lambda w: w[..., -2:],
}  # fmt: skip


@pytest.mark.parametrize("phrase", [phrase for phrase in RELATIONS if phrase != "has shape"])
@given(seed=st.integers(0, 500))
@settings(max_examples=10, deadline=None)
def test_each_relation_is_found(phrase, seed):
    want = draw(seed, 4, 3, 5)
    found = diagnose(RELATIONS[phrase](want), want, sizes=SIZES)
    assert found is not None
    assert found.startswith(phrase)


@pytest.mark.parametrize("words", FUNCTIONS)
@given(seed=st.integers(0, 500))
@settings(max_examples=10, deadline=None)
def test_a_function_that_is_missing_or_too_much_is_found(words, seed):
    raw = draw(seed, 4, 5)
    x = 0.1 + raw.abs() if words in ("logarithm", "square root") else 3 * raw
    changed = FUNCTIONS[words](x)
    inverse = (
        "is not right, but its exponential would be",
        "is not right, but its square would be",
    )
    assert diagnose(changed, x) in (f"is the {words} of what it should be", *inverse)
    missing = str(diagnose(x, changed))
    assert missing.startswith("is not right, but its") or "of what it should be" in missing


@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(3,), (2, 2), (4, 3), (2, 3, 4), (5, 5), (2, 2, 2, 2)]),
)
@settings(max_examples=200, deadline=None)
def test_random_tensors_have_no_relation(seed, shape):
    assert diagnose(draw(seed, *shape), draw(seed + 20_000, *shape), sizes=SIZES) is None


@given(seed=st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_random_whole_numbers_of_a_few_values_have_hardly_any(seed):
    """Few values agree by accident; then what is said is still true."""
    generator = torch.Generator().manual_seed(seed)
    got, want = torch.randint(0, 9, (2, 6, 4), generator=generator)
    found = diagnose(got, want)
    assert found is None or "is right for" in found


def test_random_numbers_have_no_relation():
    found = [diagnose(float(x), float(y)) for x, y in itertools.pairwise(draw(0, 300))]
    assert sum(relation is not None for relation in found) <= 3


@given(order=st.permutations([0, 1, 2]), seed=st.integers(0, 100))
@settings(deadline=None)
def test_exchanged_axes_are_found_also_where_all_sizes_are_the_same(order, seed):
    for shape in ((3, 3, 3), (2, 3, 4)):
        want = draw(seed, *shape)
        found = diagnose(want.permute(order).contiguous(), want)
        assert (found is None) == (list(order) == [0, 1, 2])
        assert found is None or "exchanged" in found or "another order, (" in found


def test_what_is_right_needs_no_words():
    for value in (draw(0, 3, 4), [1, 2, 3], {"a": draw(1, 3)}, ["a0.h1", "a1.h0"], 2.5):
        assert find_difference(value, value) is None
        assert diagnose(value, value) is None


def test_another_value_that_is_known_is_called_by_its_words():
    want, clean = draw(0, 3), draw(1, 3)
    assert diagnose(clean, want, references={"the clean run": clean}) == "is the clean run"
    assert diagnose(clean, clean, references={"the clean run": clean}) is None
    assert (
        diagnose(2.0, 3.0, references={"the base": 3.0, "the clean run": 2}) == "is the clean run"
    )


LISTS = [
    ([1, 2, 3], [3, 2, 1], "has the right entries in the reverse order"),
    (["b", "c", "a"], ["a", "b", "c"], "has the right entries in another order"),
    ((["a"], ["b", "c"]), (["b", "c"], ["a"]), "has its two parts exchanged"),
    ([(0, 1), (2, 3)], [(1, 0), (3, 2)], "has the two numbers of every entry exchanged"),
    (["a1.h0", "a2.h3"], ["a0.h0", "a1.h3"], "has every first number one too high"),
    (["a1.h0", "a2.h2"], ["a1.h1", "a2.h3"], "has every second number one too low"),
    (["a", "a", "b"], ["a", "b"], "names some more than once"),
    ([draw(0, 3), -draw(1, 4)], [draw(0, 3), draw(1, 4)], "is the negative of what it should be"),
    ({"x": 1, "y": 2}, {"x": 2, "y": 1}, "has 'x' and 'y' exchanged"),
    ({"x": -draw(0, 3), "y": draw(1, 3)}, {"x": draw(0, 3), "y": draw(1, 3)},
     "is the negative of what it should be (at 'x')"),
    (["a0"], ["b1", "b2"], None),
    ([], ["a"], None),
    ("a", "b", None),
    (None, [1], None),
    ({"a": 1}, {"b": 1}, None),
]  # fmt: skip


@pytest.mark.parametrize(("got", "want", "phrase"), LISTS)
def test_lists_names_and_dicts_are_related(got, want, phrase):
    assert diagnose(got, want) == phrase


def test_two_sizes_that_explain_a_factor_are_both_named():
    found = diagnose(4 * draw(0, 3), draw(0, 3), sizes={"prompts": 4, "heads": 4})
    assert "the number of prompts or the number of heads" in str(found)


def test_shares_of_one_are_related_by_their_scores():
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    right = scores.softmax(-1)
    assert diagnose((1.5 * scores).softmax(-1), right) == (
        "is what a softmax of scores 1.5 times as large gives"
    )
    hard = torch.nn.functional.one_hot(right.argmax(-1), 6).double()
    assert diagnose(hard, right).startswith("is 1 where what it should be is highest")
    assert diagnose(scores.square().softmax(-1), right) is None
