"""Accuracy with parts of a model switched off."""

import pytest

from mini_transformer import toys
from mini_transformer.toys.ablated_accuracy import measure_accuracy


@pytest.mark.parametrize("part", ["x", "a0.h0", "a0.h0->m0"])
def test_roles_nodes_and_edges_can_be_switched_off(part: str) -> None:
    assert measure_accuracy(toys.load("boolean_and"), [part]) == 0.75
