"""What is given wrong to the metrics of erasure is answered with one sentence that says what
fits.
"""

import re

import pytest
import torch

from mini_transformer.board.metrics.erasure import measure_change, measure_leakage

X = torch.arange(8.0).reshape(4, 2)
LABELS = torch.tensor([0, 1, 0, 1])

GIVEN = {
    "the eraser made (4, 1) of (4, 2), but must keep the shape": lambda: measure_change(
        X, X[:, :1]
    ),
    "the eraser made values that are not finite": lambda: measure_change(X, X / 0),
    "all labels are 1, but at least two classes are needed": lambda: measure_leakage(
        X, LABELS * 0 + 1, X, torch.ones(4, 2) / 2
    ),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_bad_input_is_answered_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
