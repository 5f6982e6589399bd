"""Balanced brackets: the labels by a plain stack, the strings by plain enumeration, and damage
that is noticed.
"""

import copy
import dataclasses
from itertools import product

import pytest
import torch
from damaging import list_broken

from mini_transformer import toys
from mini_transformer.toys.trained import brackets
from mini_transformer.toys.trained.shipped import list_seeds

SEEDS = list_seeds("brackets")


def judge_by_hand(text):
    """Whether the count is wrong, and whether something is closed that was not opened."""
    open_now, below = 0, False
    for bracket in text:
        open_now += {"(": 1, ")": -1}[bracket]
        below |= open_now < 0
    return open_now != 0, below


def test_five_seeds_are_shipped():
    assert SEEDS == [0, 1, 2, 3, 4]


def test_prompts_are_all_strings_of_even_length_and_are_judged_as_by_hand():
    texts = {
        brackets.TASK.read(prompt).replace(" ", "").strip("[]")
        for prompt in brackets.list_prompts()
    }
    assert texts == {"".join(text) for n in range(2, 13, 2) for text in product("()", repeat=n)}
    tokens = brackets.list_prompts()
    for prompt, count, elevation, right, end in zip(
        tokens,
        brackets.fails_count(tokens).tolist(),
        brackets.fails_elevation(tokens).tolist(),
        brackets.judge(tokens).tolist(),
        brackets.find_end(tokens).tolist(),
        strict=True,
    ):
        text = brackets.TASK.read(prompt[1:end]).replace(" ", "")
        assert (count, elevation) == judge_by_hand(text)
        assert right == (brackets.UNBALANCED if count or elevation else brackets.BALANCED)
        assert prompt[end] == brackets.END


def test_seen_and_unseen_strings_do_not_overlap_and_are_all():
    seen, unseen = brackets.split_prompts(3)
    assert sorted([*seen.tolist(), *unseen.tolist()]) == list(range(5460))
    assert len(unseen) == 1092


@pytest.mark.parametrize(
    ("corrupt", "fails"), [("count", (True, False)), ("elevation", (False, True))]
)
def test_a_corrupt_string_fails_in_one_way_only(corrupt, fails):
    batch = brackets.TASK.draw(100, seed=2, corrupt=corrupt)
    for clean, other, end in zip(batch.clean, batch.corrupt, batch.position.tolist(), strict=True):
        assert judge_by_hand(brackets.TASK.read(clean[1:end]).replace(" ", "")) == (False, False)
        assert judge_by_hand(brackets.TASK.read(other[1:end]).replace(" ", "")) == fails
        assert other[end] == brackets.END


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("part", ["0.attn.W_O", "0.mlp.W_out", "1.attn.W_O"])
def test_a_missing_part_is_noticed(seed, part):
    case = toys.load("brackets", seed)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.get_parameter(f"blocks.{part}").zero_()
    damaged = dataclasses.replace(case, model=model)
    assert not case.truth.signatures["accuracy on all inputs"].holds(damaged)


@pytest.mark.slow
def test_training_from_scratch_meets_every_signature():
    trained = brackets.train(0, progress=False)
    assert list_broken(brackets.make_case(trained.model, 0)) == []
