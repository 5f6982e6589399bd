"""Every shipped checkpoint can be made again: `minilab train NAME --seed SEED` gives a model
that meets its signatures.
"""

import pytest

from mini_transformer import checkpoints, toys
from mini_transformer.toys.trained import max_of_list, shipped, training
from mini_transformer.toys.trained.training import names
from mini_transformer.toys.verify import verify_case
from mini_transformer.train import History, Recipe, Trained

SHIPPED = [(name, seed) for name in training.names() for seed in shipped.list_seeds(name)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"), SHIPPED, ids=[f"{name}-{seed}" for name, seed in SHIPPED]
)
def test_a_toy_trained_again_meets_its_signatures(name, seed, tmp_path, monkeypatch):
    training.train_toy(name, seed, folder=tmp_path, progress=False)
    monkeypatch.setattr(shipped, "_FOLDERS", [tmp_path])
    rows = verify_case(toys.load(name, seed))
    assert rows
    assert [row for row in rows if not row.ok] == []


def test_what_is_trained_is_written_where_it_is_looked_for(tmp_path, monkeypatch):
    given = []

    def train(seed, progress):
        given.append((seed, progress))
        return Trained(toys.load("max_of_list").model, Recipe(steps=7, lr=0.1), History(), False)

    monkeypatch.setattr(max_of_list, "train", train)
    path = training.train_toy("max_of_list", 77, folder=tmp_path, progress=False)
    assert given == [(77, False)]
    with shipped.look_also_in(tmp_path):
        assert 77 in shipped.list_seeds("max_of_list")
        assert toys.load("max_of_list", 77).seed == 77
    assert checkpoints.load(path).recipe["steps"] == 7


def test_every_trained_toy_can_be_found():
    from mini_transformer.toys.trained.training import find_trainer

    assert all(callable(find_trainer(name)) for name in names())
