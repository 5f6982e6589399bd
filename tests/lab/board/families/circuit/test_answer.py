"""Reading scores of edges and nodes: answers that can be judged, and a sentence for all others."""

import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.board.families.circuit.answer import read_answer
from mini_transformer.edges import EdgeScores, list_edges

MODEL = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, n_heads=2))


def test_scores_by_edge_are_put_in_the_order_of_the_edges() -> None:
    edges = list_edges(MODEL)
    scores = {edge: float(i) for i, edge in reversed(list(enumerate(edges)))}
    assert read_answer(scores, MODEL).tolist() == list(range(len(edges)))


def test_edge_scores_are_an_answer() -> None:
    values = torch.arange(float(len(list_edges(MODEL))))
    assert torch.equal(read_answer(EdgeScores(MODEL, values), MODEL), values)
    with pytest.raises(ValueError, match="9 of 9 numbers are NaN or infinite"):
        read_answer(EdgeScores(MODEL, torch.full((9,), float("nan"))), MODEL)


def test_what_a_dict_leaves_out_scores_lower_than_what_it_holds() -> None:
    found = read_answer({"input->logits": -3.0, "a0.h1->logits": 2.0}, MODEL)
    assert found.argmax() == list_edges(MODEL).index("a0.h1->logits")
    assert (found < -3).sum() == len(found) - 2
    nodes = read_answer({"a0.h1": 1, "logits": 9}, MODEL)
    assert nodes == {"input": 0.0, "a0.h0": 0.0, "a0.h1": 1.0}


def test_arrays_and_tensors_with_gradients_are_answers_too() -> None:
    n = len(list_edges(MODEL))
    assert not read_answer(torch.zeros(n, requires_grad=True), MODEL).requires_grad
    assert read_answer(np.zeros(n), MODEL).shape == (n,)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (torch.zeros(3), r"shape is \(3,\), expected one score per edge.*: \(9\)"),
        ({"input->a7.h0<q>": 1.0}, "no such edge: it has 'a0.h1->logits'"),
        ({"a7.h0": 1.0}, "no such node: it has 'a0.h1'"),
        ({"a0.h0": 1.0, "input->logits": 1.0}, "'a0.h0', but this model has no such edge"),
        ({}, "the answer is an empty dict"),
        ({"logits": 1.0}, "the answer is an empty dict"),
        (torch.full((9,), float("inf")), "9 of 9 numbers are NaN or infinite"),
        ({"a0.h0": float("nan")}, "NaN or infinite in the scores"),
    ],
)
def test_an_answer_that_cannot_be_judged_is_one_sentence(answer: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        read_answer(answer, MODEL)
    assert "\n" not in str(caught.value)
