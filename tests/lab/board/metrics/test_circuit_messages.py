"""What is given wrong to the metrics of circuit is answered with one sentence that says what
fits.
"""

import re

import pytest
import torch

from mini_transformer.board.metrics.circuit import score_circuit

MEMBERS = torch.tensor([[True, False, False]])

GIVEN = {
    "there are 2 scores, but 3 edges: give one score per edge": lambda: score_circuit(
        torch.ones(2), MEMBERS
    ),
    "1 of 3 scores are not numbers": lambda: score_circuit(
        torch.tensor([0.0, float("nan"), 1.0]), MEMBERS
    ),
    "the circuit has 0 of 3 edges, but a curve needs some in and some out": lambda: score_circuit(
        torch.ones(3), ~MEMBERS & MEMBERS
    ),
    "the circuit has 3 of 3 edges": lambda: score_circuit(torch.ones(3), MEMBERS | ~MEMBERS),
    "the set of right circuits is empty": lambda: score_circuit(torch.ones(3), MEMBERS[:0]),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_bad_input_is_answered_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
