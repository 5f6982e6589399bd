"""What is steered: prompts with and without the property, and what counts as changed or kept."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.families.steering.settings import SETTINGS
from mini_transformer.toys.hand_set import refusal_with_trigger as policy


def load(name):
    return SETTINGS[name](toys.load(name.split("/")[0], 0))


@pytest.mark.parametrize("name", SETTINGS)
def test_prompts_with_the_property_have_it_and_those_to_steer_do_not(name):
    setting = load(name)
    rows = [torch.arange(len(prompts.labels)) for prompts in (setting.positive, setting.tried)]
    shares = [
        setting.target(setting.case.model(prompts.tokens)[own, prompts.positions]).mean().item()
        for prompts, own in zip((setting.positive, setting.tried), rows, strict=True)
    ]
    assert shares[0] > 0.6 > 0.4 > shares[1]


def test_refusing_and_answering_are_opposite():
    refuse, answer = (load(f"refusal_with_trigger/{what}") for what in ("refuse", "answer"))
    assert torch.equal(refuse.right[0], -answer.right[0])
    assert torch.equal(refuse.positive.tokens, answer.negative.tokens)
    logits = torch.randn(3, len(refuse.case.task.token_names))
    assert torch.allclose(refuse.target(logits), 1 - answer.target(logits))


def test_what_should_stay_does_not_see_the_refusal():
    setting = load("refusal_with_trigger/refuse")
    logits = torch.randn(3, len(setting.case.task.token_names))
    louder = logits.clone()
    louder[:, policy.REFUSE] += 5
    assert torch.equal(setting.rest(logits), setting.rest(louder))


def test_what_should_stay_of_a_review_sums_good_and_bad_of_each_topic():
    setting = load("style_grammar/sentiment")
    n = len(setting.case.task.token_names)
    logits = torch.randn(3, n)
    swapped = logits[:, [*range(n - 4), n - 3, n - 4, n - 1, n - 2]]
    assert torch.allclose(setting.rest(logits), setting.rest(swapped), atol=1e-6)
    assert torch.allclose(setting.target(logits), 1 - setting.target(swapped), atol=1e-6)
    assert torch.allclose(setting.rest(logits).exp().sum(dim=1), torch.ones(3))
