"""Activations replaced at one position of all prompts, at one per prompt, or at all."""

import pytest
import torch

from mini_transformer.methods import fit_das, measure_interchange, swap_subspace
from mini_transformer.methods.representations.swapping import measure_surprise, read_hook

HOOK = ("resid_post", 0)


@pytest.mark.parametrize("position", [[0, -1, 2], torch.tensor([4, 4, 1]), None])
def test_swapping_at_several_positions_is_putting_the_sources_rows_one_by_one(
    model, clean, corrupt, position
):
    other = model.run_with_cache(corrupt)[1][HOOK]

    def put(value, hook):
        for row in range(3):
            for at in range(5) if position is None else [position[row]]:
                value[row, at] = other[row, at]

    expected = model.run_with_hooks(clean, fwd_hooks=[(HOOK, put)]).detach()
    everything = torch.eye(8, dtype=torch.float64)
    found = swap_subspace(model, clean, corrupt, everything, HOOK, position)
    torch.testing.assert_close(found, expected)
    assert (found - model(clean)).abs().max() > 1e-3


def test_one_position_for_all_is_that_position_for_each(model, clean, corrupt):
    answers = corrupt[:, 0]
    for at, each in ((2, [2, 2, 2]), (-1, [4, 4, 4])):
        first, second = (
            fit_das(model, clean, corrupt, answers, HOOK, 2, position, position, steps=3)
            for position in (at, each)
        )
        torch.testing.assert_close(first, second)


def test_rows_are_read_prompt_by_prompt(model, clean, corrupt):
    own, other = read_hook(model, clean, corrupt, HOOK, [3, 0, 1])
    for rows, tokens in ((own, clean), (other, corrupt)):
        value = model.run_with_cache(tokens)[1][HOOK]
        torch.testing.assert_close(rows, torch.stack([value[0, 3], value[1, 0], value[2, 1]]))
    assert len(read_hook(model, clean, corrupt, HOOK, None)[0]) == 15


def test_surprise_is_the_negative_log_probability_of_the_answers(model, clean):
    logits, answers = model(clean).detach(), torch.tensor([3, 0, 6])
    log_p = logits.log_softmax(dim=-1)
    at = [1, 4, 2]
    expected = -sum(log_p[i, at[i], answers[i]] for i in range(3)) / 3
    torch.testing.assert_close(measure_surprise(logits, answers, at), expected)


def test_an_answer_is_read_at_one_position(model, clean, corrupt):
    with pytest.raises(ValueError, match="answer_position is None"):
        measure_interchange(
            model,
            clean,
            corrupt,
            clean[:, 0],
            torch.eye(8, dtype=torch.float64),
            HOOK,
            answer_position=None,
        )
