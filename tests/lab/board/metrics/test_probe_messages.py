"""What is given wrong to the metrics of probe is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer.board.metrics.probe import share_expected

LABELS = torch.tensor([0, 1, 0, 1])

GIVEN = {
    "(2,) labels were predicted, but there are 4 rows": lambda: share_expected(
        LABELS[:2], torch.ones(4, 2) / 2
    ),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_bad_input_is_answered_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
