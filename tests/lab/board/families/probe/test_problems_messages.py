"""Reading a probe: what can be judged is read, and every other answer is one sentence."""

from types import SimpleNamespace

import pytest
import torch

from mini_transformer.board.families.probe.problems import read_answer

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


def test_what_predicts_and_has_directions_is_a_probe():
    probe = SimpleNamespace(directions=torch.ones(1, 3), predict=lambda x: (x > 0).long()[:, 0])
    assert read_answer(probe, X, LABELS) is probe


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: x, "the answer is a function without directions"),
        (
            SimpleNamespace(directions=torch.ones(1, 3), predict=lambda x: x),
            r"shape is \(6, 3\), expected predict",
        ),
        (
            SimpleNamespace(directions=torch.ones(3), predict=lambda x: LABELS),
            r"shape is \(3,\), expected directions",
        ),
    ],
)
def test_an_answer_that_cannot_be_judged_is_one_sentence(answer, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_answer(answer, X, LABELS)
    assert "\n" not in str(caught.value)
