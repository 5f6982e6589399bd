"""Reading a vector and a hook: what can be judged is read, and every other answer is one
sentence.
"""

import pytest
import torch

from mini_transformer.board.families.steering.problems import read_answer

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def test_a_vector_as_a_list_and_a_hook_are_an_answer():
    vector, hook = read_answer([[1.0, 0.0, 2.0], "here"], {"here": X}, {"here": X})
    assert vector.tolist() == [1, 0, 2]
    assert hook == "here"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (torch.ones(3), r"the answer is a Tensor, expected a pair \(vector, hook\)"),
        ((torch.ones(3), "there"), "the hook is 'there', expected one of 'here'"),
        ((torch.ones(4), "here"), r"shape is \(4,\), expected a vector as wide as the hook: \(3\)"),
        (("up", "here"), "the answer has a str where a vector as wide as the hook is expected"),
    ],
)
def test_an_answer_that_cannot_be_judged_is_one_sentence(answer, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_answer(answer, {"here": X}, {"here": X})
    assert "\n" not in str(caught.value)
