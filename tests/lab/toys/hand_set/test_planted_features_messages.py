"""What planted features say about parameters that do not fit: one sentence, with what would."""

import pytest

from mini_transformer import toys
from mini_transformer.toys.hand_set import planted_features
from mini_transformer.toys.hand_set.planted_features import make_directions


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
