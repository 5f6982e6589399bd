"""Induction, trained: its task by plain loops, its signatures on all shipped seeds, and that
damage is noticed.
"""

import copy
import dataclasses
import time

import numpy as np
import pytest
import torch
from damaging import list_broken

from mini_transformer import Transformer, toys
from mini_transformer.checkpoints import load as load_checkpoint
from mini_transformer.edges import Node
from mini_transformer.toys.trained import induction
from mini_transformer.toys.trained.shipped import FOLDER, list_seeds

SEEDS = [0, 1, 2, 3, 4]


def test_the_promised_seeds_are_shipped_with_the_recipe_that_stands_in_the_code():
    assert set(SEEDS) <= set(list_seeds("induction"))
    for seed in SEEDS:
        checkpoint = load_checkpoint(FOLDER / f"induction-{seed}.safetensors")
        assert checkpoint.model.config == induction.CONFIG
        recipe = type(induction.RECIPE)(**checkpoint.recipe)
        assert recipe == dataclasses.replace(induction.RECIPE, seed=checkpoint.seed)
        assert checkpoint.seed == seed


@pytest.mark.parametrize("periods", [induction.SEEN, induction.UNSEEN])
def test_prompts_repeat_a_block_of_distinct_tokens_after_a_start_token(periods):
    tokens, period = induction.draw_prompts(200, 40, torch.Generator().manual_seed(2), periods)
    assert set(period.tolist()) == set(periods)
    for prompt, length in zip(tokens.tolist(), period.tolist(), strict=True):
        block = prompt[1 : 1 + length]
        assert prompt[0] == 0
        assert 0 not in block
        assert len(set(block)) == length
        assert all(token == block[i % length] for i, token in enumerate(prompt[1:]))


def test_what_is_asked_is_what_can_be_known_and_nothing_else():
    tokens, period = induction.draw_prompts(50, 40, torch.Generator().manual_seed(2))
    asked = induction.mark_predictable(40, period)
    for prompt, row in zip(tokens.tolist(), asked.tolist(), strict=True):
        assert row == [prompt[i] in prompt[:i] for i in range(40)]


@pytest.mark.parametrize("corrupt", induction.TASK.corruptions)
def test_a_corrupt_prompt_differs_only_where_the_task_says(corrupt):
    batch = induction.TASK.draw(200, seed=3, corrupt=corrupt)
    several = 0
    for clean, other, answer, wrong in zip(
        *(part.tolist() for part in (batch.clean, batch.corrupt, batch.answer, batch.wrong)),
        strict=True,
    ):
        earlier = [i for i in range(23) if clean[i] == clean[23]]
        several += len(earlier) > 1
        assert [clean[i + 1] for i in earlier] == [answer] * len(earlier) != []
        changed = [i for i in range(24) if clean[i] != other[i]]
        if corrupt == "fresh":
            assert other[other.index(other[23]) + 1] == wrong != answer
        else:
            assert changed == [i + (corrupt == "answer") for i in earlier]
            assert {other[i] for i in changed} == {wrong}
            assert wrong not in clean
    assert several > 0


def test_the_match_score_equals_its_definition_by_loops():
    model = toys.load("induction", 0).model
    pattern, tokens, period = induction.run_patterns(model, layer=1)
    weights, prompts = pattern.numpy(), tokens.tolist()
    found = [
        weights[b, :, q, [k + 1 for k in range(q) if prompt[k] == prompt[q]]].sum(axis=0)
        for b, prompt in enumerate(prompts)
        for q in range(int(period[b]) + 1, 40)
    ]
    expected = torch.tensor(np.array(found)).mean(dim=0)
    torch.testing.assert_close(induction.score_match(model), expected)


def test_an_untrained_model_meets_no_signature_that_it_could_not_meet_by_doing_nothing():
    case = induction.make_case(Transformer(induction.CONFIG))
    doing_nothing = {
        "neighbour's previous-token attention",
        "copying without the previous-token head",
    }
    assert set(list_broken(case)) == set(induction.SIGNATURES) - doing_nothing - {
        "accuracy without the K-edges"
    }


def damage(seed: int, change) -> list[str]:
    case = toys.load("induction", seed)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        change(
            model,
            *(
                Node.parse(case.truth.roles[role]).head
                for role in ("previous", "neighbour", "match")
            ),
        )
    return list_broken(dataclasses.replace(case, model=model))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spread_previous_token_job_is_noticed(seed):
    def spread(
        model, previous, neighbour, match
    ):  # the neighbour does the same, and both write half
        attn = model.blocks[0].attn
        for name in ("W_Q", "W_K", "W_V", "W_O"):
            getattr(attn, name)[neighbour] = getattr(attn, name)[previous]
        attn.W_O[:] *= 0.7

    broken = damage(seed, spread)
    assert "neighbour's previous-token attention" in broken
    assert "copying without the previous-token head" in broken


@pytest.mark.parametrize("seed", SEEDS)
def test_a_match_without_keys_is_noticed(seed):
    def no_keys(model, previous, neighbour, match):
        model.blocks[1].attn.W_K[match] = 0

    broken = damage(seed, no_keys)
    assert {"match attention", "copying without one match head"} & set(broken)


def test_a_positional_shortcut_is_noticed():
    def learn_periods_by_heart(
        model, previous, neighbour, match
    ):  # at unseen periods the positions mislead it
        model.W_pos[[9, 13, 17]] = model.W_pos[[8, 12, 16]]

    broken = damage(0, learn_periods_by_heart)
    assert "copying at unseen periods" in broken


def test_the_shipped_model_needs_the_circuit_also_by_direct_ablation_of_the_keys():
    case = toys.load("induction", 1)
    layer, head = Node.parse(case.truth.roles["previous"]).place
    batch = case.task.draw(256, seed=9)
    assert batch.accuracy(case.model) == 1.0
    cut = copy.deepcopy(case.model)
    with torch.no_grad():
        cut.blocks[layer].attn.W_O[head] = 0
    assert batch.accuracy(cut) < 0.3


def test_loading_a_seed_that_is_not_shipped_says_which_are():
    with pytest.raises(
        KeyError, match=r"no trained induction with seed 77 is shipped \(seeds: 0, 1, 2, 3, 4"
    ):
        toys.load("induction", 77)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_training_from_scratch_finds_the_circuit_within_its_bounds(seed):
    begun = time.process_time()
    trained = induction.train_induction(seed, progress=False)
    assert trained.history.steps <= 1000
    assert time.process_time() - begun < 15
    assert list_broken(induction.make_case(trained.model, seed)) == []
