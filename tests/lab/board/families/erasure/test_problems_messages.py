"""Reading an eraser: what can be judged is read, and every other answer is one sentence."""

import pytest
import torch

from mini_transformer.board.families.erasure.problems import read_answer

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


def test_a_function_that_keeps_the_shape_is_an_eraser():
    def erase(x):
        return x - x.mean(dim=0)

    assert read_answer(erase, X, LABELS) is erase


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (X, "the answer is a Tensor, expected a function of activations"),
        (lambda x: x[:, :2], r"shape is \(6, 2\), expected erased activations"),
        (lambda x: x / 0, "NaN or infinite in erased activations"),
    ],
)
def test_an_answer_that_cannot_be_judged_is_one_sentence(answer, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_answer(answer, X, LABELS)
    assert "\n" not in str(caught.value)
