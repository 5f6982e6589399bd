"""What the clock and the pizza say to another name."""

import pytest

from mini_transformer.toys.trained import clock_pizza


def test_a_kind_that_is_neither_clock_nor_pizza():
    with pytest.raises(
        KeyError, match="no model is called 'calzone' here: take 'clock' or 'pizza'"
    ):
        clock_pizza.train("calzone")
