"""Every shipped checkpoint can be made again: `minilab train NAME --seed SEED` gives a model that meets its signatures."""

import pytest

from mini_transformer import toys
from mini_transformer.toys import shipped, training
from mini_transformer.toys.verify import verify_case

SHIPPED = [(name, seed) for name in training.names() for seed in shipped.list_seeds(name)]


def test_every_trained_toy_is_shipped_with_at_least_three_seeds():
    assert {
        name: len(shipped.list_seeds(name))
        for name in training.names()
        if len(shipped.list_seeds(name)) < 3
    } == {}


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
