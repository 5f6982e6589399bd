"""Reading a dictionary: what can be judged is read, and every other answer is one sentence."""

from types import SimpleNamespace

import pytest
import torch

from mini_transformer.board.families.features.problems import read_answer

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def test_what_encodes_and_has_directions_is_a_dictionary():
    dictionary = SimpleNamespace(W_dec=torch.ones(4, 3), encode=lambda x: x @ torch.ones(3, 4))
    assert read_answer(dictionary, X, 4) is dictionary


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (X, "the answer is a Tensor without W_dec, expected W_dec and encode"),
        (SimpleNamespace(W_dec=torch.ones(4, 3)), "without encode"),
        (
            SimpleNamespace(W_dec=torch.ones(4, 2), encode=None),
            r"shape is \(4, 2\), expected W_dec.*\(any, 3\)",
        ),
        (
            SimpleNamespace(W_dec=torch.ones(4, 3), encode=lambda x: x),
            r"shape is \(6, 3\), expected encode.*\(6, 4\)",
        ),
    ],
)
def test_an_answer_that_cannot_be_judged_is_one_sentence(answer, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_answer(answer, X, 4)
    assert "\n" not in str(caught.value)
