"""The largest number of a list: the task by plain Python, its circuit by every set of edges, and
damage that is noticed.
"""

import copy
import dataclasses
from itertools import product

import pytest
import torch
from damaging import list_broken

from mini_transformer import toys
from mini_transformer.toys.find_circuits import find_circuits
from mini_transformer.toys.trained import max_of_list
from mini_transformer.toys.trained.shipped import list_seeds

SEEDS = list_seeds("max_of_list")


def damage(seed, change):
    case = toys.load("max_of_list", seed)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        change(model)
    return list_broken(dataclasses.replace(case, model=model))


def test_five_seeds_are_shipped():
    assert SEEDS == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", SEEDS)
def test_order_does_not_matter_so_that_multisets_stand_for_all_lists(seed):
    model = toys.load("max_of_list", seed).model
    lists = max_of_list.draw_lists(200, 4, torch.Generator().manual_seed(0))
    shuffled = lists[:, [2, 0, 3, 1]]
    with torch.no_grad():
        logits, again = (model(max_of_list.ask(numbers))[:, -1] for numbers in (lists, shuffled))
    torch.testing.assert_close(logits, again, rtol=1e-4, atol=1e-3)


def test_all_inputs_are_all_sorted_lists():
    by_hand = [
        [*numbers, 32]
        for numbers in product(range(32), repeat=3)
        if list(numbers) == sorted(numbers)
    ]
    assert max_of_list.list_all(3).tolist() == by_hand


@pytest.mark.parametrize("corrupt", ["largest", "fresh"])
def test_answers_are_the_largest_numbers(corrupt):
    batch = max_of_list.TASK.draw(300, seed=4, corrupt=corrupt)
    for clean, other, answer, wrong in zip(
        *(part.tolist() for part in (batch.clean, batch.corrupt, batch.answer, batch.wrong)),
        strict=True,
    ):
        assert (max(clean[:-1]), max(other[:-1])) == (answer, wrong)
        assert answer != wrong
        if corrupt == "largest":
            assert other == [0 if number == answer else number for number in clean]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_circuit_is_the_only_one_among_all_sets_of_edges(seed):
    case = toys.load("max_of_list", seed)
    claimed = case.truth.circuits["zero"]
    batch = case.task.draw(256, seed=5)
    assert set(find_circuits(case.model, batch, "zero", "edges")) == set(claimed.edges)
    assert set(find_circuits(case.model, batch, "zero", "nodes")) == set(claimed.nodes)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_score_that_no_longer_tells_two_neighbours_apart_is_noticed(seed):
    def confuse(model):
        model.W_E[20] = model.W_E[19]

    assert {"errors on all inputs", "smallest step of the score", "numbers that are copied"} <= set(
        damage(seed, confuse)
    )


def test_a_shuffled_value_matrix_is_noticed():
    def shuffle(model):
        model.blocks[0].attn.W_V[:] = model.blocks[0].attn.W_V[
            :, torch.randperm(32, generator=torch.Generator().manual_seed(0))
        ]

    assert {"errors on all inputs", "numbers that are copied"} <= set(damage(0, shuffle))


@pytest.mark.slow
def test_training_from_scratch_meets_every_signature():
    trained = max_of_list.train(0, progress=False)
    assert list_broken(max_of_list.make_case(trained.model, 0)) == []
