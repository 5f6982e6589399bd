"""What the phase diagram says to a grid without extent."""

import pytest

from mini_transformer.toys.trained import phase_diagram as superposition_phases


def test_a_grid_without_extent():
    with pytest.raises(
        ValueError, match="a grid of 1 x 1 settings was asked for, but it needs at least 2 x 2"
    ):
        superposition_phases.make_grid(1)
