"""What a plot says to names that do not fit its numbers: one sentence."""

import numpy as np
import pytest

from mini_transformer import plots


def test_a_pattern_needs_a_name_per_token():
    with pytest.raises(ValueError, match=r"the pattern is \(3, 3\), but there are 2 tokens"):
        plots.plot_attention(np.eye(3), ["a", "b"])


def test_a_matrix_needs_a_name_per_row_and_column():
    expected = r"the matrix is \(3, 3\), but it has 1 row and 3 column labels"
    with pytest.raises(ValueError, match=expected):
        plots.plot_patching(np.eye(3), ["layer 0"], ["a", "b", "c"])
