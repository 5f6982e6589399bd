"""What is given wrong to the board's metrics is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer.board.circuit_metrics import score_circuit
from mini_transformer.board.erasure_metrics import measure_change, measure_leakage
from mini_transformer.board.feature_metrics import score_features
from mini_transformer.board.probe_metrics import share_equal
from mini_transformer.board.steering_metrics import (
    measure_kl,
    measure_kl_at,
    measure_monotone_range,
)
from mini_transformer.board.subspace_metrics import measure_overlap, share_right

MEMBERS, EYE = torch.tensor([[True, False, False]]), torch.eye(3)
X, LABELS = torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1])
LINE = torch.tensor([0.0, 1.0])

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
    "latents have width 2, but the true directions have 3": lambda: score_features(
        EYE, EYE, EYE[:, :2], EYE
    ),
    "codes are (2, 3), but must be (3, 3): one row per activation": lambda: score_features(
        EYE, EYE, EYE, EYE[:2]
    ),
    "codes are (3, 2), but must be (3, 3)": lambda: score_features(EYE, EYE, EYE, EYE[:, :2]),
    "some codes or directions are not finite": lambda: score_features(EYE, EYE, EYE, EYE / 0),
    "the subspace has width 2, but the true one has 3": lambda: measure_overlap(EYE[:, :2], EYE),
    "some directions are not finite": lambda: measure_overlap(EYE / 0, EYE),
    "0 of 4 pairs share the variable, but pairs of both sorts are needed": lambda: share_right(
        LABELS, LABELS, LABELS > 5
    ),
    "(2,) labels were predicted, but there are (4,)": lambda: share_equal(LABELS[:2], LABELS),
    "the eraser made (4, 1) of (4, 2), but must keep the shape": lambda: measure_change(
        X, X[:, :1]
    ),
    "the eraser made values that are not finite": lambda: measure_change(X, X / 0),
    "all labels are 1, but at least two classes are needed": lambda: measure_leakage(
        X, LABELS, X, LABELS * 0 + 1
    ),
    "log probabilities are (4, 2) and (4, 1), but must be alike": lambda: measure_kl(X, X[:, :1]),
    "log probabilities are (0, 2) and (0, 2)": lambda: measure_kl(X[:0], X[:0]),
    "the curves have [2, 1, 2] points, but must have one per strength": lambda: measure_kl_at(
        LINE, LINE[:1], LINE
    ),
    "strengths are [1.0, 0.0], but must rise from 0 or more": lambda: measure_monotone_range(
        LINE.flip(0), LINE
    ),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_bad_input_is_answered_with_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
