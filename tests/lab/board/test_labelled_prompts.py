"""Labelled prompts: the labels are those of the prompts, read where the answer is."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.labelled_prompts import draw_reviews, list_digits, list_requests
from mini_transformer.toys.trained import style_grammar


def test_digits_are_labelled_by_either_and_keep_the_other() -> None:
    case = toys.load("unused_feature")
    by_x, by_y = (list_digits(case, label, offsets=[3]) for label in "xy")
    assert torch.equal(by_x.labels, by_x.tokens[:, 0])
    assert torch.equal(by_y.labels, by_y.tokens[:, 1])
    assert torch.equal(by_x.others["y"], by_y.labels)
    assert set(by_y.others) == {"x"}
    assert ((by_x.tokens[:, 1] - by_x.tokens[:, 0]) % 8 == 3).all()


def test_the_model_says_the_answers() -> None:
    unused, refusal = toys.load("unused_feature", 1), toys.load("refusal_with_trigger", 1)
    for case, prompts in ((unused, list_digits(unused, "x")), (refusal, list_requests(refusal))):
        said = case.model(prompts.tokens)[torch.arange(len(prompts.labels)), prompts.positions]
        assert torch.equal(said.argmax(dim=1), prompts.answers)


def test_requests_are_refused_where_they_are_harmful_and_there_is_no_trigger() -> None:
    prompts = list_requests(toys.load("refusal_with_trigger", 2))
    harm, trigger = prompts.others["harm"], prompts.others["trigger"]
    assert len(prompts.labels) == 108
    assert torch.equal(prompts.labels, harm * (1 - trigger))
    assert len(prompts.types.unique()) > len(prompts.others["request"].unique())


@pytest.mark.parametrize("agree", [0.0, 0.8, 1.0])
def test_topic_and_sentiment_agree_in_the_share_that_was_asked_for(agree: float) -> None:
    prompts = draw_reviews(400, 3, agree)
    share = (prompts.others["topic"] == prompts.labels).float().mean().item()
    assert share == pytest.approx(agree, abs=0.06 if 0 < agree < 1 else 0)


def test_reviews_are_read_at_their_third_verb_before_the_adjective_that_answers() -> None:
    prompts = draw_reviews(50, 0)
    for tokens, position, answer, register in zip(
        prompts.tokens, prompts.positions, prompts.answers, prompts.others["register"], strict=True
    ):
        verb = style_grammar.VERB + register
        assert tokens[position] == verb
        assert (tokens[:position] == verb).sum() == 2
        negated = tokens[position + 1] == style_grammar.WORDS.index("not")
        assert negated or tokens[position + 1] == answer


def test_chosen_prompts_keep_all_that_is_known_of_them() -> None:
    case = toys.load("unused_feature")
    prompts = list_digits(case, "y")
    some = prompts.where(torch.tensor([5, 9]))
    assert torch.equal(some.tokens, prompts.tokens[[5, 9]])
    assert torch.equal(some.others["x"], prompts.others["x"][[5, 9]])
    hook = case.truth.variables["y"].site
    assert torch.equal(some.read(case.model, hook), prompts.read(case.model, hook)[[5, 9]])
