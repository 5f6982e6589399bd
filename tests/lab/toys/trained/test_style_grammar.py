"""The style grammar: its texts parsed by plain Python, its floor by counting, and damage that is
noticed.
"""

import copy
import dataclasses
import math

import pytest
import torch
from damaging import breaks, list_broken

from mini_transformer import toys
from mini_transformer.toys.trained import style_grammar
from mini_transformer.toys.trained.shipped import list_seeds

SEEDS = list_seeds("style_grammar")
FORMAL, CASUAL = {"indeed", "moreover", "overall"}, {"honestly", "anyway", "well"}
FILM, FOOD = {"film", "plot", "actor", "scene"}, {"soup", "bread", "sauce", "dessert"}
ADJECTIVES = {
    ("film", True): "gripping",
    ("film", False): "tedious",
    ("food", True): "tasty",
    ("food", False): "bland",
}


def parse(sentence):
    """The (topic, register, sentiment) of a whole sentence."""
    opener, the, noun, verb, *negation, adjective = sentence
    topic, good = next(key for key, word in ADJECTIVES.items() if word == adjective)
    assert the == "the"
    assert negation in ([], ["not"])
    assert noun in (FILM if topic == "film" else FOOD)
    assert opener in (FORMAL if verb == "is" else CASUAL)
    return int(topic == "food"), int(verb == "'s"), int(not good) ^ len(negation)


def test_at_least_three_seeds_are_shipped():
    assert len(SEEDS) >= 3


def test_every_sentence_of_a_text_shows_its_attributes():
    tokens, attributes = style_grammar.draw_texts(100, torch.Generator().manual_seed(4))
    for text, expected in zip(tokens, attributes.tolist(), strict=True):
        start, *sentences = style_grammar.TASK.read(text).replace("| ", "| . ").split(" . ")
        assert start == "|"
        for sentence in sentences[:3]:
            assert list(parse(sentence.split())) == expected


def test_the_floor_is_minus_the_log_of_the_number_of_choices():
    words = [
        "|",
        "well",
        "the",
        "soup",
        "'s",
        "not",
        "tasty",
        ".",
        "anyway",
        "the",
        "bread",
        "'s",
        "bland",
        ".",
    ]
    tokens = torch.tensor([[style_grammar.WORDS.index(word) for word in words]])
    expected = [6, 1, 8, 1, 1 / 0.3, 2, 1, 3, 1, 4, 1, 1 / 0.7, 1]
    assert style_grammar.measure_floor(tokens)[0].tolist() == pytest.approx(
        [math.log(n) for n in expected], abs=1e-6
    )


@pytest.mark.parametrize("corrupt", ["sentiment", "topic"])
def test_answers_fit_the_text_and_the_wrong_ones_the_corrupt_text(corrupt):
    batch = style_grammar.TASK.draw(100, seed=1, corrupt=corrupt)
    for prompts, called_for in ((batch.clean, batch.answer), (batch.corrupt, batch.wrong)):
        for prompt, word, position in zip(
            prompts, called_for.tolist(), batch.position.tolist(), strict=True
        ):
            _, first, second, last = (
                style_grammar.TASK.read(prompt[: position + 1]).replace("| ", "| . ").split(" . ")
            )
            whole = parse([*last.split(), style_grammar.WORDS[word]])
            assert parse(first.split()) == parse(second.split()) == whole


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_that_does_not_hear_a_not_is_noticed(seed):
    case = toys.load("style_grammar", seed)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.W_E[style_grammar.NOT].zero_()
    assert breaks(dataclasses.replace(case, model=model), "excess loss")


def test_a_layer_without_attention_is_noticed():
    case = toys.load("style_grammar", SEEDS[0])
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.blocks[1].attn.W_O.zero_()
    assert breaks(dataclasses.replace(case, model=model), "accuracy", "excess loss")


@pytest.mark.slow
def test_training_from_scratch_meets_every_signature():
    trained = style_grammar.train(0, progress=False)
    assert list_broken(style_grammar.make_case(trained.model, 0)) == []
