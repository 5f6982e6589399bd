"""What probes are judged by: on directions of hand-set models, where use and disuse are known."""

import math

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.metrics.probe import (
    measure_causal_use,
    measure_cosine,
    measure_selectivity,
    share_expected,
)


def test_the_cosine_of_one_direction_has_neither_sign_nor_length():
    truth = torch.tensor([[0.0, 3.0, 4.0]])
    assert measure_cosine(-7 * truth, truth) == pytest.approx(1)
    assert measure_cosine(torch.tensor([[0.0, 1.0, 0.0]]), truth) == pytest.approx(0.6)


def test_one_right_direction_of_two_has_the_root_of_one_half():
    assert measure_cosine(torch.eye(5)[[0, 3]], torch.eye(5)[[0, 1]]) == pytest.approx(
        math.sqrt(0.5)
    )


def test_causal_use_is_what_a_hook_that_sets_the_direction_to_its_mean_takes_away():
    case = toys.load("refusal_with_trigger", seed=1)
    rows, variable = case.task.everything().distinct(), case.truth.variables["refusal"]
    direction, hook = variable.subspace, variable.site

    def flatten(value, hook):
        along = value @ direction[0]
        return value + (along.mean(dim=0, keepdim=True) - along)[..., None] * direction[0]

    with torch.no_grad():
        said = case.model.run_with_hooks(rows.clean, fwd_hooks=[(hook, flatten)])[:, -1].argmax(
            dim=1
        )
    left = sum(int(a) == int(b) for a, b in zip(said, rows.answer, strict=True)) / len(said)
    prompts = rows.clean, rows.answer, rows.position
    used = measure_causal_use(case.model, *prompts, hook, direction)
    assert used == pytest.approx(1 - left)
    assert used > 0.1
    twice = torch.cat([direction, -2 * direction])  # the same line
    assert measure_causal_use(case.model, *prompts, hook, twice) == pytest.approx(used)


def test_what_is_the_same_in_every_prompt_is_no_use_however_much_it_is_read():
    case = toys.load("boolean_and")
    batch, equals = (
        case.task.everything().distinct(),
        case.model.W_E.detach()[3:4],
    )  # the constant 1 of its neurons
    prompts = batch.clean, batch.answer, batch.position
    assert measure_causal_use(case.model, *prompts, "blocks.0.hook_resid_mid", equals) == 0


def test_a_tie_is_not_an_answer():
    case = toys.load("unused_feature")
    batch, x = case.task.everything().distinct(), case.truth.variables["x"]
    used = measure_causal_use(
        case.model, batch.clean, batch.answer, batch.position, x.site, x.subspace
    )
    assert (
        used == 1
    )  # without x all eight answers are equal, and picking the first of them would be right for one


def test_selectivity_and_accuracy_are_plain_differences_and_shares():
    assert measure_selectivity(0.9, 0.6) == pytest.approx(0.3)
    rows = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert share_expected(torch.tensor([1, 1]), rows) == pytest.approx((0.3 + 0.8) / 2)
    assert share_expected(torch.tensor([-1, 3]), rows) == 0
