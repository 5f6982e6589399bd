"""Test what a failing check says beyond numbers, from the calls that it made."""

import pytest
import torch

from mini_transformer.course.grading.checks import Wrong, as_list, check, expect
from mini_transformer.course.grading.explain import find_references, find_sizes, make_sentence
from mini_transformer.course.grading.student import InProcessStudent, NamedModel

MODEL = NamedModel("random", seed=5, d_vocab=7, n_ctx=5, d_model=9, n_layers=1, n_heads=3)
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 0, 1, 2]])


def load(tmp_path, body, parameters="model, tokens, scale"):
    path = tmp_path / "ex01_samples.py"
    path.write_text(f"def f({parameters}):\n    {body}\n")
    return InProcessStudent(path, parameters={"f": parameters})


@check("f")
def judge_f(student):
    for scale in (2.0, 3.0):
        got = student.call("f", MODEL, TOKENS, scale)
        expect(got, (scale * MODEL.build()(TOKENS)).detach(), what="the scaled logits")


SENTENCES = {
    "return -scale * model(tokens)": "The scaled logits is the negative of what it should be.",
    "return model(tokens)[:1] * scale": "holds only the first of the prompt axis:",
    "return model(tokens)": "is what `model` says on `tokens` by itself: if a hook",
    "return 2.0 * model(tokens)": "is 0.6667 times what it should be",
    "return scale * model(tokens.flip(1))": "The scaled logits differs in",
    "return model(tokens).softmax(-1)": "Your function never uses `scale`.",
}


@pytest.mark.parametrize(("body", "sentence"), SENTENCES.items())
def test_the_relation_or_what_is_seen_is_said(tmp_path, body, sentence):
    with pytest.raises(Wrong) as caught:
        judge_f(load(tmp_path, body))
    assert sentence in caught.value.sentence


def test_an_argument_that_changes_nothing_is_named(tmp_path):
    body = "return model(tokens).softmax(-1) + 0 * scale"
    student = load(tmp_path, body)
    student.call("f", MODEL, TOKENS, 5.0)
    with pytest.raises(Wrong) as caught:
        judge_f(student)
    assert caught.value.sentence.endswith("Your answer is the same for another `scale`.")


def test_references_and_sizes_are_those_of_the_call(tmp_path):
    student = load(tmp_path, "return 1")
    student.call("f", MODEL, TOKENS, 2.0)
    references = find_references(student.calls[-1], student)
    assert [words.split(":")[0] for words in references] == [
        "your input `tokens`, unchanged",
        "what `model` says on `tokens` by itself",
    ]
    sizes = find_sizes(student.calls[-1], student)
    assert (sizes["prompts"], sizes["positions"], sizes["heads"]) == (2, 4, 3)


def test_a_sentence_has_a_capital_and_one_mark():
    assert make_sentence("it is so") == "It is so."
    assert make_sentence("is it so?") == "Is it so?"


def test_any_usual_container_is_a_list():
    assert as_list([torch.tensor(1), 2]) == [1, 2]
    assert as_list(torch.tensor([1, 2])) == [1, 2]
    assert as_list({"a"}) == ["a"]
    assert as_list(("a", "b")) == ["a", "b"]
    assert as_list(torch.tensor(1)) is as_list("a") is as_list(None) is None
