"""Reading a subspace: what can be judged is read, and every other answer is one sentence."""

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.board.families.variables.answer import read_answer

MODEL = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, n_heads=2))


def test_orthonormal_rows_are_a_subspace_with_or_without_gradient():
    rows = torch.eye(8)[:2].requires_grad_()
    assert not read_answer(rows, MODEL, "a hook", None).requires_grad
    assert read_answer(rows.tolist(), MODEL, "a hook", None).shape == (2, 8)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (torch.ones(2, 8), "rows of the subspace are not orthonormal"),
        (torch.eye(7), r"shape is \(7, 7\), expected orthonormal rows: \(any, 8\)"),
        (torch.zeros(0, 8), "not orthonormal"),
    ],
)
def test_an_answer_that_cannot_be_judged_is_one_sentence(answer, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_answer(answer, MODEL, "blocks.0.hook_resid_post", None)
    assert "\n" not in str(caught.value)
