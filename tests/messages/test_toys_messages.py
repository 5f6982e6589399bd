"""What the zoo says to what it does not know: one sentence, with the nearest fix."""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.toys import by_hand
from mini_transformer.toys.disguise import rotate_model
from mini_transformer.toys.enumerate import find_circuits
from mini_transformer.toys.measuring import measure_accuracy
from mini_transformer.toys.verify import verify


@pytest.mark.parametrize("ask", [toys.load, verify])
@pytest.mark.parametrize(
    ("name", "nearest"), [("inductoin", "induction"), ("boolean_nand", "boolean_and"), ("", "")]
)
def test_an_unknown_toy_is_answered_with_the_nearest(ask, name, nearest):
    if name or ask is toys.load:  # verify("") means all
        with pytest.raises(KeyError, match=f"no toy is called '{name}'; nearest: '{nearest}"):
            ask(name)


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="but must be a whole number from 0"):
        toys.load("boolean_and", seed)


def test_a_seed_without_checkpoint_says_how_to_train_it():
    with pytest.raises(KeyError, match=r"seed 99 is shipped.*train"):
        toys.load("induction", 99)


def test_tokens_outside_the_task():
    with pytest.raises(ValueError, match="tokens run from 0 to 4, but the vocabulary from 0 to 3"):
        toys.load("boolean_and").model(torch.tensor([[0, 1, 2, 2, 2, 4]]))
    with pytest.raises(ValueError, match="the sequence has 7 tokens, but the context holds 6"):
        toys.load("boolean_and").model(torch.zeros(1, 7, dtype=torch.int64))


def test_a_batch_needs_a_prompt_and_a_known_corruption():
    task = toys.load("unused_feature").task
    with pytest.raises(ValueError, match="a batch of 0 prompts was asked for; expected at least 1"):
        task.draw(0)
    with pytest.raises(
        ValueError,
        match=r"corrupt is 'z', but this task can corrupt prompts by \('both', 'x', 'y'\)",
    ):
        task.draw(4, corrupt="z")


def test_the_search_for_circuits_says_what_it_cannot_search():
    case = toys.load("boolean_and")
    batch = case.task.everything()
    with pytest.raises(ValueError, match="level is 'heads', but must be 'edges' or 'nodes'"):
        find_circuits(case.model, batch, "zero", "heads")
    with pytest.raises(
        ValueError, match="ablation is 'median', but must be 'zero', 'mean' or 'resample'"
    ):
        find_circuits(case.model, batch, "median")
    with pytest.raises(KeyError, match="no edge is called 'm0->m1'"):
        find_circuits(case.model, batch, "zero", among=["m0->m1"])
    with pytest.raises(KeyError, match="no node is called 'm1' in this model; it has"):
        find_circuits(case.model, batch, "zero", "nodes", among=["m1"])
    big = Transformer(Config(d_vocab=4, n_ctx=6, d_model=8, n_layers=2, n_heads=2))
    with pytest.raises(
        ValueError, match="29 edges have too many subsets, at most 20 have few enough: give `among`"
    ):
        find_circuits(big, batch, "zero")


def test_ablating_what_is_not_there():
    with pytest.raises(KeyError, match=r"no edge or node is called 'a7\.h0' in this model"):
        measure_accuracy(toys.load("boolean_and"), ["a7.h0"])


def test_directions_and_neurons_that_are_not_there():
    with pytest.raises(
        KeyError, match=r"no directions are called 'tokens'; this stream has \['token'\]"
    ):
        by_hand.Stream(token=3)["tokens"]
    blank = by_hand.make_blank(Config(d_vocab=3, n_ctx=2, d_model=3, n_layers=1))
    with pytest.raises(ValueError, match="layer 0 has no MLP, or no biases, to look something up"):
        by_hand.look_up(blank, 0, 0, reads=torch.zeros(3), bias=0.0, writes=torch.zeros(3))


@pytest.mark.parametrize(
    "change",
    [{"norm": "rms"}, {"biases": True}, {"d_mlp": 4}, {"positions_to": "qk"}, {"tied": True}],
)
def test_models_that_cannot_be_rotated(change):
    model = Transformer(Config(d_vocab=3, n_ctx=2, d_model=4, n_layers=1, **change))
    with pytest.raises(ValueError, match="only attention-only models without norm, biases, tying"):
        rotate_model(model, torch.Generator())
