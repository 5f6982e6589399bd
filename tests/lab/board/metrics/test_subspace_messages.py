"""What is given wrong to the metrics of subspace is answered with one sentence that says what
fits.
"""

import re

import pytest
import torch

from mini_transformer.board.metrics.subspace import measure_overlap, share_right

EYE = torch.eye(3)
LABELS = torch.tensor([0, 1, 0, 1])

GIVEN = {
    "the subspace has width 2, but the true one has 3": lambda: measure_overlap(EYE[:, :2], EYE),
    "some directions are not finite": lambda: measure_overlap(EYE / 0, EYE),
    "0 of 4 pairs share the variable, but pairs of both sorts are needed": lambda: share_right(
        LABELS, LABELS, LABELS > 5
    ),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_bad_input_is_answered_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
