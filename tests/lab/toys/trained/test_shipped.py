"""What is shipped is complete, and its signatures hold on prompts that did not set their bounds."""

import dataclasses

import pytest

from mini_transformer import toys
from mini_transformer.toys.trained import shipped, training


def test_every_trained_toy_is_shipped_with_at_least_three_seeds():
    assert {
        name: len(shipped.list_seeds(name))
        for name in training.names()
        if len(shipped.list_seeds(name)) < 3
    } == {}


SHIPPED = [(name, seed) for name in training.names() for seed in shipped.list_seeds(name)]
FRESH = (1, 2, 3)


def list_broken(case, names=None):
    """Every signature that is out of its bounds on fresh prompts, with the seed of the prompts
    and what was measured.
    """
    broken = []
    for data_seed in FRESH:
        fresh = dataclasses.replace(case, data_seed=data_seed)
        for name in names or case.truth.signatures:
            signature = case.truth.signatures[name]
            measured = signature.measure(fresh)
            if not signature.low <= measured <= signature.high:
                broken.append((name, data_seed, measured))
    return broken


def test_another_data_seed_gives_other_prompts():
    case = toys.load("style_grammar")
    measure = case.truth.signatures["excess loss"].measure
    values = {measure(dataclasses.replace(case, data_seed=data_seed)) for data_seed in (0, *FRESH)}
    assert len(values) == 4


def test_a_random_direction_leaves_the_sentiment_on_fresh_texts():
    assert (
        list_broken(toys.load("style_grammar", 1), ["sentiment left after a random direction"])
        == []
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"), SHIPPED, ids=[f"{name}-{seed}" for name, seed in SHIPPED]
)
def test_every_signature_holds_on_three_fresh_seeds_of_data(name, seed):
    assert list_broken(toys.load(name, seed)) == []
