"""Addition modulo 113: the shipped models meet every signature, damage is noticed, and the
shortcuts compute the same.
"""

import copy
import dataclasses

import pytest
import torch
from damaging import breaks, list_broken

from mini_transformer import toys
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.trained import modular_addition
from mini_transformer.toys.trained.shipped import list_seeds

SEEDS = list_seeds("modular_addition")


def test_at_least_three_seeds_are_shipped():
    assert SEEDS[:3] == [0, 1, 2]


def test_seeds_use_different_frequencies():
    found = {
        tuple(sorted(modular_addition.find_frequencies(toys.load("modular_addition", s).model)))
        for s in SEEDS
    }
    assert len(found) == len(SEEDS)


@pytest.mark.parametrize("weight", ["W_E", "blocks.0.mlp.W_in", "W_U"])
def test_shuffling_the_rows_of_a_weight_is_noticed(weight):
    case = toys.load("modular_addition")
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        rows = model.get_parameter(weight)
        rows[:] = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    damaged = dataclasses.replace(case, model=model)
    assert breaks(damaged, "accuracy", "excluded loss", "explained by a + b")


def test_an_untrained_model_has_no_frequencies():
    model = Transformer(modular_addition.CONFIG, seed=3)
    case = modular_addition.make_case(model)
    assert breaks(case, "accuracy", "explained by a + b", "six frequencies")


@pytest.mark.parametrize("prompts", ["a b =", "a b"])
def test_the_last_position_alone_is_the_last_position_of_the_whole_model(prompts):
    tokens = modular_addition.list_pairs(11)[:, : 3 if prompts == "a b =" else 2]
    model = Transformer(
        Config(d_vocab=12, n_ctx=3, d_model=16, n_layers=1, n_heads=4, d_mlp=32), seed=1
    )
    torch.testing.assert_close(
        modular_addition.predict_last(model, tokens), model(tokens)[:, -1], rtol=1e-5, atol=1e-5
    )


def test_pairs_are_split_without_overlap():
    seen, rest = modular_addition.split_pairs(113, 0.3, seed=5)
    assert len(seen) == 3830
    assert sorted([*seen.tolist(), *rest.tolist()]) == list(range(113**2))


@pytest.mark.parametrize("corrupt", ["both", "a", "b"])
def test_answers_are_sums_by_plain_python(corrupt):
    batch = modular_addition.TASK.draw(200, seed=2, corrupt=corrupt)
    for clean, other, answer, wrong in zip(
        *(part.tolist() for part in (batch.clean, batch.corrupt, batch.answer, batch.wrong)),
        strict=True,
    ):
        assert (sum(clean[:2]) % 113, sum(other[:2]) % 113) == (answer, wrong)
        assert answer != wrong
        assert clean[2] == other[2] == 113
        assert corrupt != "a" or clean[1] == other[1]
        assert corrupt != "b" or clean[0] == other[0]


def test_measuring_leaves_the_model_alone():
    case = toys.load("modular_addition")
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    list_broken(case)
    assert all(torch.equal(value, before[name]) for name, value in case.model.state_dict().items())


@pytest.mark.slow
def test_training_from_scratch_meets_the_bounds():
    case = modular_addition.make_case(modular_addition.train(1, progress=False).model)
    assert list_broken(case) == []
