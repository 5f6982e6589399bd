"""Mess3: beliefs by summing over all hidden paths, and what the model carries."""

import copy
import dataclasses
from itertools import product

import pytest
import torch
from damaging import list_broken

from mini_transformer import toys
from mini_transformer.toys.trained import belief_states
from mini_transformer.toys.trained.shipped import list_seeds

SEEDS = list_seeds("belief_states")


def move(i, j):
    return 0.9 if i == j else 0.05


def emit(state, token):
    return 0.85 if state == token else 0.075


def weigh_paths(tokens):
    """Probability of the tokens together with the last hidden state, summed over all hidden
    paths.
    """
    total = [0.0, 0.0, 0.0]
    for path in product(range(3), repeat=len(tokens) + 1):
        probability = 1 / 3
        for before, state, token in zip(path, path[1:], tokens, strict=False):
            probability *= move(before, state) * emit(state, token)
        total[path[-1]] += probability
    return total


def test_five_seeds_are_shipped():
    assert SEEDS == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("tokens", [[0], [2, 2, 1], [0, 1, 2, 0, 0]])
def test_beliefs_and_predictions_are_those_of_summing_over_all_hidden_paths(tokens):
    total = weigh_paths(tokens)
    belief = belief_states.infer_beliefs(torch.tensor([tokens]))[0, -1]
    assert belief.tolist() == pytest.approx([x / sum(total) for x in total], abs=1e-6)
    after = [sum(weigh_paths([*tokens, token])) / sum(total) for token in range(3)]
    assert belief_states.predict(belief[None, None])[0, 0].tolist() == pytest.approx(
        after, abs=1e-6
    )


def test_drawn_sequences_have_the_frequencies_of_the_process():
    n = 40_000
    tokens = belief_states.draw_tokens(n, 3, torch.Generator().manual_seed(0))
    counts = torch.bincount(9 * tokens[:, 0] + 3 * tokens[:, 1] + tokens[:, 2], minlength=27)
    expected = torch.tensor(
        [sum(weigh_paths(list(tokens))) for tokens in product(range(3), repeat=3)]
    )
    assert (counts / n - expected).abs().max() < 4 * (0.25 / n) ** 0.5


def test_the_answer_is_the_likeliest_next_token_and_corrupt_calls_for_another():
    batch = belief_states.TASK.draw(20, seed=1)
    for prompts, called_for in ((batch.clean, batch.answer), (batch.corrupt, batch.wrong)):
        exact = belief_states.predict(belief_states.infer_beliefs(prompts))[:, -1]
        assert torch.equal(exact.argmax(dim=1), called_for)
    assert not (batch.answer == batch.wrong).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_unembedding_that_reads_another_triangle_is_noticed(seed):
    case = toys.load("belief_states", seed)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.W_U[:] = model.W_U.roll(1, dims=1)
    assert "excess loss" in list_broken(dataclasses.replace(case, model=model))


@pytest.mark.parametrize("layer", [0, 1])
def test_a_layer_without_attention_is_noticed(layer):
    case = toys.load("belief_states", 0)
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.blocks[layer].attn.W_O.zero_()
    assert "excess loss" in list_broken(dataclasses.replace(case, model=model))


@pytest.mark.slow
def test_training_from_scratch_meets_every_signature():
    trained = belief_states.train(0, progress=False)
    assert list_broken(belief_states.make_case(trained.model, 0)) == []
