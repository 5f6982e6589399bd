"""Facts: a table without shortcuts, the store and the retrieval, rank-one edits, and damage that
is noticed.
"""

import copy
import dataclasses

import pytest
import torch
from damaging import breaks, list_broken

from mini_transformer import toys
from mini_transformer.toys.trained import facts
from mini_transformer.toys.trained.shipped import list_seeds

SEEDS = list_seeds("facts")


def test_at_least_three_seeds_are_shipped():
    assert len(SEEDS) >= 3


def test_one_name_alone_says_nothing_about_an_attribute():
    table = {}
    for (first, last, relation), answer in zip(
        facts.list_prompts().tolist(), facts.list_answers().tolist(), strict=True
    ):
        for name in (first, last):
            table.setdefault((name, relation), []).append(answer)
    assert len(table) == 64
    for (_, relation), answers in table.items():  # every attribute of the relation, once
        begin = facts.ATTRIBUTE + 8 * (relation - facts.RELATION)
        assert sorted(answers) == list(range(begin, begin + 8))


@pytest.mark.parametrize("corrupt", facts.CORRUPTIONS)
def test_a_corrupt_prompt_differs_in_one_token_and_in_its_answer(corrupt):
    known = {
        tuple(p): a
        for p, a in zip(facts.list_prompts().tolist(), facts.list_answers().tolist(), strict=True)
    }
    batch = facts.TASK.draw(200, seed=1, corrupt=corrupt)
    for clean, other, answer, wrong in zip(
        *(part.tolist() for part in (batch.clean, batch.corrupt, batch.answer, batch.wrong)),
        strict=True,
    ):
        assert (known[tuple(clean)], known[tuple(other)]) == (answer, wrong)
        assert answer != wrong
        assert [i for i in range(3) if clean[i] != other[i]] == [facts.CORRUPTIONS.index(corrupt)]


def test_layers_see_two_positions_and_layer_1_has_no_mlp():
    model = toys.load("facts", SEEDS[0]).model
    with torch.no_grad():
        _, cache = model.run_with_cache(facts.list_prompts())
    for layer in (0, 1):
        assert cache["pattern", layer][:, :, 2, 0].abs().max() == 0
    assert cache["mlp_out", 1].abs().max() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_an_edit_is_of_rank_one_and_leaves_the_given_model_alone(seed):
    model = toys.load("facts", seed).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    edited = facts.edit_fact(model, fact=100, attribute=int(facts.list_answers()[100]) ^ 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    changed = [
        name for name, value in edited.state_dict().items() if not torch.equal(value, before[name])
    ]
    assert changed == ["blocks.0.mlp.W_out"]
    difference = (edited.blocks[0].mlp.W_out - model.blocks[0].mlp.W_out).detach().double()
    singular = torch.linalg.svdvals(difference)
    assert singular[1] < 1e-5 * singular[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_with_one_entity_confused_is_noticed(seed):
    case = toys.load("facts", seed)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.W_E[3] = model.W_E[4]  # two first names become one
    damaged = dataclasses.replace(case, model=model)
    assert breaks(damaged, "accuracy", "facts as wanted after a rank-one edit")


def test_a_lost_retrieval_is_noticed():
    case = toys.load("facts", SEEDS[0])
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.blocks[1].attn.W_O.zero_()
    damaged = dataclasses.replace(case, model=model)
    assert breaks(damaged, "restored by attention 1 at the relation")


@pytest.mark.slow
def test_training_from_scratch_meets_every_signature():
    trained = facts.train(0, progress=False)
    assert list_broken(facts.make_case(trained.model, 0)) == []
