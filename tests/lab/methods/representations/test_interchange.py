"""Interchange: hand-set subspaces, and a variable that nothing reads.

Checked against: hooks written out per pair, hand-set subspaces, random ones, and the interventions
of pyvene 0.1.8 on the same weights.
"""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import (
    measure_interchange,
    swap_subspace,
)


def draw_rows(dim, d, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, dim, generator=generator, dtype=dtype))[0].T


def test_swapping_is_a_projection_written_out_per_pair(model, clean, corrupt):
    rows, hook = draw_rows(3, 8, dtype=torch.float64), ("resid_post", 0)
    swapped = swap_subspace(model, clean, corrupt, rows, hook, position=2)
    other = model.run_with_cache(corrupt)[1][hook]
    for i in range(len(clean)):

        def put(value, hook, i=i):
            for row in rows:
                value[0, 2] += ((other[i, 2] - value[0, 2]) @ row) * row

        alone = model.run_with_hooks(clean[i : i + 1], fwd_hooks=[(hook, put)])
        torch.testing.assert_close(swapped[i], alone[0].detach())


def test_swapping_nothing_changes_nothing_and_swapping_with_itself_too(model, clean):
    with torch.no_grad():
        expected = model(clean)
    nothing = torch.zeros(0, 8, dtype=torch.float64)
    torch.testing.assert_close(
        swap_subspace(model, clean, clean.flip(0), nothing, ("resid_post", 0)), expected
    )
    rows = draw_rows(4, 8, dtype=torch.float64)
    torch.testing.assert_close(
        swap_subspace(model, clean, clean, rows, ("resid_post", 0)), expected
    )


@pytest.fixture(scope="module")
def case():
    return toys.load("unused_feature")


def draw_pairs(case, n=400, seed=0):
    """Pairs that differ in x and y, and the answer that the base has with the source's x."""
    batch = case.task.draw(n, seed, "both")
    return batch.clean, batch.corrupt, (batch.corrupt[:, 0] + 1) % 8


def test_the_hand_set_subspace_carries_the_variable_and_the_other_one_does_not(case):
    pairs, (x, y) = draw_pairs(case), (case.truth.variables[name] for name in "xy")
    assert measure_interchange(case.model, *pairs, x.subspace, x.site) == 1.0
    assert measure_interchange(case.model, *pairs, y.subspace, y.site) == 0.0
    assert measure_interchange(case.model, *pairs, draw_rows(8, x.subspace.shape[1]), x.site) < 0.3
