"""What the clock says about parameters that do not fit: one sentence, with what would."""

import re

import pytest

from mini_transformer.toys.hand_set import clock_by_hand


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
