"""Reading answers: what can be a tensor becomes one, and what cannot is one sentence."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mini_transformer.board.answers import check_finite, get, read_tensor


def test_arrays_lists_and_tensors_with_gradients_become_plain_tensors() -> None:
    for value in (np.ones((2, 3)), [[1, 1, 1], [1, 1, 1]], torch.ones(2, 3, requires_grad=True)):
        found = read_tensor(value, "rows", None, 3)
        assert found.shape == (2, 3)
        assert not found.requires_grad
        assert (found == 1).all()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("up", r"the answer has a str where rows is expected: \(any, 3\) numbers"),
        (torch.ones(3), r"shape is \(3,\), expected rows: \(any, 3\)"),
        (torch.ones(2, 4), r"shape is \(2, 4\), expected rows"),
        (torch.ones(1, 3) / 0, "3 of 3 numbers are NaN or infinite in rows"),
    ],
    ids=["text", "dimensions", "width", "infinite"],
)
def test_what_is_no_such_tensor_is_refused(value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_tensor(value, "rows", None, 3)


def test_whole_numbers_are_always_finite() -> None:
    check_finite(torch.tensor([1, 2]), "labels")


def test_the_first_attribute_is_given_if_all_are_there() -> None:
    answer = SimpleNamespace(W_dec=1, encode=2)
    assert get(answer, "W_dec", "encode") == 1
    with pytest.raises(ValueError, match="without decode, expected W_dec and decode"):
        get(answer, "W_dec", "decode")
