"""What the zoo says to what it does not know: one sentence, with the nearest fix."""

import pytest
import torch

from mini_transformer import toys
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
