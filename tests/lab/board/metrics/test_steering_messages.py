"""What is given wrong to the metrics of steering is answered with one sentence that says what
fits.
"""

import re

import pytest
import torch

from mini_transformer.board.metrics.steering import (
    measure_kl,
    measure_kl_at,
)

X = torch.arange(8.0).reshape(4, 2)
LINE = torch.tensor([0.0, 1.0])

GIVEN = {
    "log probabilities are (4, 2) and (4, 1), but must be alike": lambda: measure_kl(X, X[:, :1]),
    "log probabilities are (0, 2) and (0, 2)": lambda: measure_kl(X[:0], X[:0]),
    "the curves have [2, 1, 2] points, but must have one per strength": lambda: measure_kl_at(
        LINE, LINE[:1], LINE
    ),
    "strengths are [1.0, 0.0], but must rise from 0 or more": lambda: measure_kl_at(
        LINE.flip(0), LINE, LINE
    ),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_bad_input_is_answered_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
