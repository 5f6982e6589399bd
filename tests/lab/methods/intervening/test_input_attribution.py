"""Input attribution by slow loops, finite differences, sums that must come out, and gates that were
set by hand.

Checked against: captum's numbers on the same weights, finite differences, prompts edited one by
one, and hand-set gates.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import (
    integrate_gradients,
    measure_saliency,
    multiply_gradient,
    occlude_each,
)
from mini_transformer.methods.intervening.baselines import run_embedded


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def says_one(logits):
    """The gate's answer, read as the logit of 1 minus that of 0."""
    return logits[:, -1, 1] - logits[:, -1, 0]


def gate(name, *bits):
    return toys.load(f"boolean_{name}").model, torch.tensor([[*bits, 2, 2, 2, 3]])


def nudge(model, tokens, position, change):
    """The metric with a change of one position's embedding."""
    embedding = model.W_E.detach()[tokens].clone()
    embedding[:, position] += change
    with torch.no_grad():
        return metric(run_embedded(model, tokens, embedding))


def test_saliency_is_the_slope_by_finite_differences(model, clean):
    step, slopes = 1e-5, torch.zeros(*clean.shape, 8, dtype=torch.float64)
    for position in range(clean.shape[1]):
        for i, axis in enumerate(step * torch.eye(8, dtype=torch.float64)):
            up, down = (nudge(model, clean, position, sign * axis) for sign in (1, -1))
            slopes[:, position, i] = (up - down) / (2 * step)
    torch.testing.assert_close(
        measure_saliency(model, clean, metric), slopes.norm(dim=-1), rtol=1e-6, atol=1e-6
    )


def test_gradient_times_input_is_the_effect_of_a_small_step_to_the_baseline(model, clean):
    step, got = 1e-5, multiply_gradient(model, clean, metric, torch.tensor(4))
    for position in range(clean.shape[1]):
        to_baseline = step * (model.W_E.detach()[4] - model.W_E.detach()[clean[:, position]])
        up, down = (nudge(model, clean, position, sign * to_baseline) for sign in (1, -1))
        torch.testing.assert_close(got[:, position], (down - up) / (2 * step), rtol=1e-5, atol=1e-5)


def test_integrated_gradients_add_up_to_the_change_of_the_metric(model, clean, corrupt):
    smooth = (
        model.config.act == "gelu" or not model.config.d_mlp
    )  # kinks of ReLUs are met only by chance
    scores = integrate_gradients(model, clean, metric, corrupt, steps=100)
    with torch.no_grad():
        change = metric(model(clean)) - metric(model(corrupt))
    assert change.abs().max() > 0.5
    torch.testing.assert_close(scores.sum(dim=1), change, rtol=0, atol=1e-9 if smooth else 0.03)


def test_integrated_gradients_are_a_long_midpoint_sum():
    config = Config(d_vocab=7, n_ctx=5, d_model=6, n_layers=2, d_mlp=8, act="gelu", norm="layer")
    model, steps = Transformer(config).double(), 100
    tokens, other = torch.randint(7, (2, 2, 5), generator=torch.Generator().manual_seed(0))
    start, total = model.W_E.detach()[other], torch.zeros(2, 5, 6)
    change = model.W_E.detach()[tokens] - start
    for step in range(steps):
        embedding = (start + (step + 0.5) / steps * change).requires_grad_()
        total = (
            total
            + torch.autograd.grad(metric(run_embedded(model, tokens, embedding)).sum(), embedding)[
                0
            ]
            / steps
        )
    got = integrate_gradients(model, tokens, metric, other)
    torch.testing.assert_close(got, (total * change).sum(dim=-1), rtol=1e-3, atol=1e-4)


def test_occlusion_is_one_edited_prompt_per_token(model, clean):
    got = occlude_each(model, clean, metric, torch.tensor(4))
    with torch.no_grad():
        for row in range(len(clean)):
            for position in range(clean.shape[1]):
                edited = clean[row : row + 1].clone()
                edited[0, position] = 4
                fall = metric(model(clean[row : row + 1])) - metric(model(edited))
                torch.testing.assert_close(got[row, position], fall[0])


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_occlusion_does_not_depend_on_how_prompts_are_batched(model, clean, batch_size):
    mean = model.W_E.detach().mean(dim=0)
    expected = occlude_each(model, clean, metric, mean)
    torch.testing.assert_close(occlude_each(model, clean, metric, mean, batch_size), expected)


def test_a_metric_sees_its_own_prompts_in_their_order(model, clean):
    targets = torch.tensor([5, 0, 3])

    def own_target(logits):
        return logits[torch.arange(3), -1, targets]

    for score in (
        measure_saliency,
        lambda *args: occlude_each(*args, torch.tensor(4), batch_size=2),
    ):
        together = score(model, clean, own_target)
        for i in range(3):
            alone = score(model, clean[i : i + 1], lambda logits, i=i: logits[:, -1, targets[i]])
            torch.testing.assert_close(together[i : i + 1], alone)


def test_occlusion_finds_the_largest_number_of_a_list():
    case = toys.load("max_of_list")
    batch = case.task.draw(64)
    distinct = (batch.clean[:, :4] == batch.answer[:, None]).sum(
        dim=1
    ) == 1  # the largest is there once
    scores = occlude_each(case.model, batch.clean, batch.logit_difference, torch.tensor(0))[
        distinct
    ]
    assert distinct.sum() > 20
    assert torch.equal(scores[:, :4].argmax(dim=1), batch.clean[distinct, :4].argmax(dim=1))


def test_occlusion_finds_neither_of_two_ones_that_each_suffice_for_or():
    for name in ("or", "redundant_or"):
        model, tokens = gate(name, 1, 1)
        scores = occlude_each(model, tokens, says_one, torch.tensor([0, 0, 2, 2, 2, 3]))
        assert scores.abs().max() < 1e-3
        model, tokens = gate(name, 1, 0)
        scores = occlude_each(model, tokens, says_one, torch.tensor([0, 0, 2, 2, 2, 3]))
        assert scores[0, 0] > 10 * max(1e-3, scores[0, 1:].abs().max().item())


def test_the_gradient_sees_nothing_of_and_at_zero_zero_where_one_more_bit_changes_nothing():
    model, tokens = gate("and", 0, 0)
    assert measure_saliency(model, tokens, says_one)[0, :5].abs().max() < 1e-3
    model, tokens = gate("and", 1, 1)
    found = integrate_gradients(
        model, tokens, says_one, torch.tensor([0, 0, 2, 2, 2, 3]), steps=200
    )
    torch.testing.assert_close(
        found[0, :2], torch.tensor([10.0, 10.0]), atol=0.2, rtol=0
    )  # 20 in all, half each
