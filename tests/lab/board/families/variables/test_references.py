"""Subspaces that take no search: each is what it says."""

import torch

from mini_transformer.board.families.variables import FAMILY
from mini_transformer.board.families.variables.references import REFERENCES, find_varying_axes

DORMANT = FAMILY.build("dormant/x", 0).arguments


def test_varying_axes_leave_as_little_of_the_differences_as_any_axes_can():
    model, hook, pairs = DORMANT
    own, other = (
        model.run_with_cache(tokens)[1][hook][:, pairs.position]
        for tokens in (pairs.base, pairs.source)
    )
    rows = find_varying_axes(model, hook, pairs)
    left = (other - own) - (other - own) @ rows.T @ rows
    spectrum = torch.linalg.eigvalsh((other - own).T @ (other - own))  # the smallest first
    assert torch.isclose(left.square().sum(), spectrum[: -pairs.dim].sum(), rtol=1e-4)


def test_a_coordinate_that_carries_x_alone_is_found_by_swapping():
    model, hook, pairs = DORMANT
    rows = REFERENCES["swapped_coordinates"](model, hook, pairs)
    assert rows.sum() == pairs.dim
    assert set(rows.unique().tolist()) == {0.0, 1.0}
