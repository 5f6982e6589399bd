"""Methods for variables, on the trap that tells what varies from what is read."""

import torch

from mini_transformer.board.families.variables import entrants
from mini_transformer.board.families.variables.dormant import make_dormant_stream
from mini_transformer.board.families.variables.problems import build
from mini_transformer.board.families.variables.traps import find_dormant

STREAM = make_dormant_stream()


def share(rows, direction):
    return (rows @ STREAM[direction].T).square().sum().item()


def test_varying_axes_follow_the_louder_direction_and_read_axes_the_one_that_is_read():
    arguments = find_dormant("dormant/x", 0).arguments
    varying, read = (
        find(*arguments) for find in (entrants.find_varying_axes, entrants.find_read_axes)
    )
    assert share(varying, "shadow") > share(varying, "carried")
    assert share(read, "carried") > 0.99


def test_axes_are_orthonormal_and_as_many_as_the_variable_takes():
    arguments = build("unused_feature/x", 0).arguments
    for find in (entrants.find_varying_axes, entrants.find_read_axes):
        rows = find(*arguments)
        assert torch.allclose(rows @ rows.T, torch.eye(arguments[2].dim), atol=1e-5)


def test_varying_axes_leave_as_little_of_the_differences_as_any_axes_can():
    model, hook, pairs = build("unused_feature/x", 0).arguments
    own, other = (
        model.run_with_cache(tokens)[1][hook][:, pairs.position]
        for tokens in (pairs.base, pairs.source)
    )
    rows = entrants.find_varying_axes(model, hook, pairs)
    left = (other - own) - (other - own) @ rows.T @ rows
    spectrum = torch.linalg.eigvalsh((other - own).T @ (other - own))  # the smallest first
    assert torch.isclose(left.square().sum(), spectrum[: -pairs.dim].sum(), rtol=1e-4)


def test_das_is_given_the_dimension_and_its_boundless_form_is_not():
    model, hook, pairs = build("boolean_xor/x", 0).arguments
    assert entrants.align(model, hook, pairs).shape == (pairs.dim, model.config.d_model)
    found = entrants.align(model, hook, pairs, boundless=True)
    assert found.shape[1] == model.config.d_model
