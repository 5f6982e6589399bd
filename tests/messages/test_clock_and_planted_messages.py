"""What the toys with parameters say about parameters that do not fit: one sentence, with what would."""

import re

import pytest

from mini_transformer import toys
from mini_transformer.toys import clock_by_hand, planted_features
from mini_transformer.toys.superposed import make_directions


@pytest.mark.parametrize(("p", "prime"), [(1, 3), (2, 3), (9, 11), (12, 13), (-7, 3)])
def test_a_clock_needs_a_prime_and_names_one(p, prime):
    with pytest.raises(ValueError, match=f"p is {p}, but must be a prime from 3, .* try {prime}$"):
        clock_by_hand.make_case(p)


@pytest.mark.parametrize("frequencies", [[], [0], [6], [1, 1], [-1, 2]])
def test_a_clock_needs_different_frequencies_within_half_of_p(frequencies):
    with pytest.raises(
        ValueError, match=re.escape(f"frequencies are {frequencies}, but must be") + ".*= 5$"
    ):
        clock_by_hand.make_case(11, frequencies)


def test_two_bases_hold_at_most_twice_as_many_features_as_dimensions():
    with pytest.raises(
        ValueError,
        match="65 features were asked for, but two orthonormal bases of 32 dimensions hold",
    ):
        planted_features.make_case(n=65)
    with pytest.raises(ValueError, match="0 features were asked for"):
        make_directions(0)


@pytest.mark.parametrize(("d", "nearest"), [(24, 32), (33, 32), (0, 1)])
def test_the_bases_need_a_power_of_two(d, nearest):
    with pytest.raises(
        ValueError, match=f"d is {d}, but must be a power of two; nearest: {nearest}$"
    ):
        make_directions(4, d)


def test_groups_of_features_must_fit():
    with pytest.raises(
        ValueError, match=r"62 features .* planted_hierarchical needs a multiple of 4, at least 16"
    ):
        planted_features.make_case(planted_features.TREES, n=62)


def test_a_toy_without_planted_features_says_which_have_some():
    with pytest.raises(
        ValueError, match="induction_by_hand has no planted features; those have: planted_features,"
    ):
        planted_features.draw_activations(toys.load("induction_by_hand"), 10)


@pytest.mark.parametrize(
    "name", ["clock_by_hand", "planted_features", "refusal_with_trigger", "scratchpad_faithful"]
)
def test_an_unknown_corruption_lists_those_that_exist(name):
    task = toys.load(name).task
    with pytest.raises(
        ValueError,
        match=re.escape(f"corrupt is 'x', but this task can corrupt prompts by {task.corruptions}"),
    ):
        task.draw(3, corrupt="x")
