"""Worlds of planted features: rows are sums of directions, children need parents, pairs come."""

import torch

from mini_transformer.board.families.features.worlds import Kind, draw_world

TREES = draw_world(Kind(roots=6, d=16, branches=(2,), noise=0.0, n_dense=0), seed=1)
ROWS, CODES = TREES.draw(3000, seed=2)


def test_rows_without_noise_or_background_are_sums_of_directions_and_a_bias():
    assert torch.allclose(ROWS, CODES @ TREES.directions + TREES.bias, atol=1e-4)


def test_a_child_is_active_only_with_its_parent_and_at_most_one_of_them():
    assert len(TREES.entails) == 12
    on = CODES > 0
    for child, parent in TREES.entails:
        assert bool((on[:, parent] | ~on[:, child]).all()), (child, parent)
    for parent in {parent for _, parent in TREES.entails}:
        children = [child for child, of in TREES.entails if of == parent]
        assert int(on[:, children].sum(dim=1).max()) <= 1


def test_another_seed_is_another_world_and_the_same_the_same():
    kind = Kind(roots=6, d=16)
    assert torch.equal(draw_world(kind, 3).directions, draw_world(kind, 3).directions)
    assert not torch.equal(draw_world(kind, 3).directions, draw_world(kind, 4).directions)
