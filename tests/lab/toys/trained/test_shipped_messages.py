"""What a trained toy says to a seed or a token that it does not have: one sentence, with the
fix.
"""

import pytest

from mini_transformer import toys
from mini_transformer.toys.trained.training import names


@pytest.mark.parametrize("name", names())
def test_a_seed_without_checkpoint_says_how_to_train_it(name):
    with pytest.raises(
        KeyError,
        match=f"no trained {name} with seed 99 is shipped .*minilab train {name} --seed 99",
    ):
        toys.load(name, 99)


@pytest.mark.parametrize("name", names())
def test_tokens_outside_the_vocabulary(name):
    case = toys.load(name)
    tokens = case.task.draw(1).clean.clone()
    tokens[0, 0] = case.model.config.d_vocab
    with pytest.raises(ValueError, match="but the vocabulary from 0 to"):
        case.model(tokens)
