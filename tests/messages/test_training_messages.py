"""What training a toy and loading a trained one say to what they do not know: one sentence, with the fix."""

import pytest

from mini_transformer import toys
from mini_transformer.toys.training import names, train_toy

TRAINED = ["max_of_list", "facts", "style_grammar", "brackets", "belief_states"]


@pytest.mark.parametrize("name", TRAINED)
def test_a_seed_without_checkpoint_says_how_to_train_it(name):
    with pytest.raises(
        KeyError,
        match=f"no trained {name} with seed 99 is shipped .*minilab train {name} --seed 99",
    ):
        toys.load(name, 99)


def test_training_an_unknown_toy_names_the_nearest():
    with pytest.raises(
        KeyError, match="no trained toy is called 'max_of_lists'; nearest: 'max_of_list'"
    ):
        train_toy("max_of_lists")


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_training_takes_a_whole_seed(seed):
    with pytest.raises(ValueError, match="must be a whole number from 0"):
        train_toy("max_of_list", seed)


def test_a_shipped_model_is_not_overwritten_unasked():
    with pytest.raises(
        ValueError, match=r"facts with seed 0 is there already, facts-0.safetensors"
    ):
        train_toy("facts", 0)


@pytest.mark.parametrize("corrupt", ["nothing", ""])
@pytest.mark.parametrize("name", TRAINED)
def test_an_unknown_corruption_lists_the_known(name, corrupt):
    if corrupt:
        with pytest.raises(ValueError, match="this task can corrupt prompts by"):
            toys.load(name).task.draw(1, corrupt=corrupt)


@pytest.mark.parametrize("name", TRAINED)
def test_tokens_outside_the_vocabulary(name):
    model = toys.load(name).model
    tokens = toys.load(name).task.draw(1).clean.clone()
    tokens[0, 0] = model.config.d_vocab
    with pytest.raises(ValueError, match="but the vocabulary from 0 to"):
        model(tokens)


def test_every_trained_toy_can_be_found():
    from mini_transformer.toys.training import find_trainer

    assert all(callable(find_trainer(name)) for name in names())
