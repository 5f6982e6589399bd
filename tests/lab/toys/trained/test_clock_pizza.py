"""Clock and pizza: the shipped models are told apart, and the two measures equal their
definitions by slow loops.
"""

import copy
import dataclasses

import pytest
import torch
from damaging import list_broken

from mini_transformer import toys
from mini_transformer.toys.trained import clock_pizza
from mini_transformer.toys.trained.modular_addition import list_pairs, predict_last
from mini_transformer.toys.trained.shipped import list_seeds

SEEDS = list_seeds("clock")
KINDS = ["clock", "pizza"]


def test_both_are_shipped_with_the_same_seeds():
    assert list_seeds("pizza") == SEEDS == [0, 1, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_signatures_of_one_do_not_hold_for_the_other(seed):
    clock, pizza = toys.load("clock", seed), toys.load("pizza", seed)
    swapped = (
        dataclasses.replace(clock, model=pizza.model),
        dataclasses.replace(pizza, model=clock.model),
    )
    for case in swapped:
        assert {
            "gradient symmetry",
            "distance irrelevance",
            "accuracy with uniform attention",
        } <= set(list_broken(case))


@pytest.mark.parametrize("kind", KINDS)
def test_a_shuffled_embedding_is_noticed(kind):
    case = toys.load(kind)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.W_E[:] = model.W_E[torch.randperm(59, generator=torch.Generator().manual_seed(0))]
    assert "accuracy" in list_broken(dataclasses.replace(case, model=model))


def test_the_pattern_of_a_pizza_is_uniform_and_that_of_a_clock_is_not():
    tokens = list_pairs(59)[:50, :2]
    uniform = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).expand(50, 4, 2, 2)
    for kind in KINDS:
        for model in (clock_pizza.build_model(kind), toys.load(kind).model):
            pattern = model.run_with_cache(tokens)[1]["pattern", 0]
            assert torch.equal(pattern, uniform) == (kind == "pizza")
            torch.testing.assert_close(
                model(tokens)[:, -1], predict_last(model, tokens), rtol=1e-5, atol=1e-5
            )


def test_training_a_pizza_leaves_its_pattern_uniform():
    recipe = dataclasses.replace(clock_pizza.RECIPE, steps=3)
    attn = clock_pizza.train("pizza", recipe=recipe, progress=False).model.blocks[0].attn
    assert not attn.W_Q.any()
    assert attn.W_V.abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_from_scratch_meets_every_signature(kind):
    assert (
        list_broken(clock_pizza.make_case(kind, clock_pizza.train(kind, 0, progress=False).model))
        == []
    )
