"""Methods for variables, on the trap that tells what varies from what is read."""

import torch

from mini_transformer.board.families.variables import FAMILY, entrants
from mini_transformer.board.families.variables.dormant import build_dormant
from mini_transformer.board.families.variables.references import REFERENCES, find_varying_axes

DORMANT = FAMILY.build("dormant/x", 0).arguments


def share(rows, direction):
    return (rows @ direction.T).square().sum().item()


def test_varying_axes_follow_the_louder_direction_and_read_axes_the_one_that_is_read():
    carried = build_dormant(0).carried
    assert share(find_varying_axes(*DORMANT), carried) < 0.3
    assert share(entrants.find_read_axes(*DORMANT), carried) > 0.99
    assert share(entrants.align(*DORMANT), carried) > 0.99


def test_axes_are_orthonormal_and_as_many_as_the_variable_takes():
    model, _, pairs = DORMANT
    for find in (entrants.find_read_axes, *REFERENCES.values()):
        rows = find(*DORMANT)
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5)
        assert len(rows) in (pairs.dim, model.config.d_model)
