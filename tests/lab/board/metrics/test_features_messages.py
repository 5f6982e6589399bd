"""What is given wrong to the metrics of features is answered with one sentence that says what
fits.
"""

import re

import pytest
import torch

from mini_transformer.board.metrics.features import score_features

EYE = torch.eye(3)

GIVEN = {
    "latents have width 2, but the true directions have 3": lambda: score_features(
        EYE, EYE, EYE[:, :2], EYE
    ),
    "codes are (2, 3), but must be (3, 3): one row per activation": lambda: score_features(
        EYE, EYE, EYE, EYE[:2]
    ),
    "codes are (3, 2), but must be (3, 3)": lambda: score_features(EYE, EYE, EYE, EYE[:, :2]),
    "some codes or directions are not finite": lambda: score_features(EYE, EYE, EYE, EYE / 0),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_bad_input_is_answered_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
