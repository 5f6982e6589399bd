"""What the ablation of a toy says to a part that it does not have."""

import pytest

from mini_transformer import toys
from mini_transformer.toys.ablated_accuracy import measure_accuracy


def test_ablating_what_is_not_there():
    with pytest.raises(KeyError, match=r"no edge or node is called 'a7\.h0' in this model"):
        measure_accuracy(toys.load("boolean_and"), ["a7.h0"])
