"""Gradient symmetry and distance irrelevance: their definitions, clocks and pizzas.

Checked against: gradients of one prompt at a time, standard deviations in loops, and pairs of
models of which one is a clock and one a pizza.
"""

import math

import pytest
import torch

from mini_transformer import Config, Transformer, methods, toys
from mini_transformer.toys.trained.modular_addition import list_pairs

P = 7


def run_pairs(model, p):
    with torch.no_grad():
        return model(list_pairs(p)[:, :2])[:, -1]


@pytest.mark.parametrize(
    ("first", "second", "read"),
    [(0, -3, 3), ([0, 1, 2, 0, 1, 2], [3, 3, 3, -1, -1, -2], [4, 3, 4, 4, 4, -1])],
    ids=["one position", "one per prompt"],
)
def test_gradient_symmetry_is_its_definition_on_one_prompt_at_a_time(model, first, second, read):
    """Any model, any two positions, any answer."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(7, (6, 5), generator=draw)
    answers = torch.randint(7, (6,), generator=draw)
    cosines = []
    for i in range(6):
        prompt = tokens[i]
        one, other, at = (x if isinstance(x, int) else x[i] for x in (first, second, read))
        embedded = model.W_E[prompt].detach().requires_grad_()
        logits = model.run_with_hooks(
            prompt[None], fwd_hooks=[("embed", lambda value, hook, new=embedded: new[None])]
        )
        logits[0, at, answers[i]].backward()
        cosine = torch.cosine_similarity(embedded.grad[one], embedded.grad[other], dim=0)
        cosines.append(cosine)
    got = methods.measure_gradient_symmetry(model, tokens, answers, first, second, read)
    assert got == pytest.approx(torch.stack(cosines).mean().item(), abs=1e-9)


def test_frozen_weights_and_a_callers_no_grad_change_nothing(model):
    tokens, targets = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([0, 3])
    expected = methods.measure_gradient_symmetry(model, tokens, targets)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        assert methods.measure_gradient_symmetry(model, tokens, targets) == pytest.approx(expected)


def test_a_model_that_only_sees_the_sum_of_two_embeddings_is_symmetric():
    """Where attention is even, what reaches the last position holds the first two alike."""
    model = Transformer(
        Config(d_vocab=7, n_ctx=3, d_model=8, n_layers=1, n_heads=2, d_mlp=16, positions="none")
    )
    tokens, targets = torch.tensor([[1, 2, 3], [4, 5, 3]]), torch.tensor([0, 3])
    assert methods.measure_gradient_symmetry(model, tokens, targets) < 0.99
    with torch.no_grad():
        model.blocks[0].attn.W_Q.zero_()
    assert methods.measure_gradient_symmetry(model, tokens, targets) == pytest.approx(1, abs=1e-5)


def test_distance_irrelevance_is_its_definition_by_slow_loops():
    logits = torch.randn(P * P, P, generator=torch.Generator().manual_seed(0))
    correct = {(a, b): logits[P * a + b, (a + b) % P] for a in range(P) for b in range(P)}
    rows = [torch.stack([correct[a, (a + d) % P] for a in range(P)]).std() for d in range(P)]
    slow = torch.stack(rows).mean() / torch.stack(list(correct.values())).std()
    assert methods.measure_distance_irrelevance(logits) == pytest.approx(slow.item(), abs=1e-5)


def test_logits_that_shrink_with_the_distance_alone_have_none_and_those_of_a_alone_have_all():
    a, b = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T
    peak = torch.cos(2 * math.pi * (a[:, None] + b[:, None] - torch.arange(P)) / P)
    pizza = torch.cos(math.pi * (a - b) / P).abs()[:, None] * peak
    assert methods.measure_distance_irrelevance(pizza) < 1e-5
    by_a = (1 + a)[:, None] * peak
    assert methods.measure_distance_irrelevance(by_a) == pytest.approx(1, abs=0.1)


def test_the_two_trained_algorithms_are_told_apart_on_every_seed():
    draw = torch.Generator().manual_seed(2)
    tokens, targets = (
        torch.randint(59, (100, 2), generator=draw),
        torch.randint(59, (100,), generator=draw),
    )
    for seed in (0, 1, 2):
        clock, pizza = (toys.load(name, seed).model for name in ("clock", "pizza"))
        symmetry = [
            methods.measure_gradient_symmetry(model, tokens, targets) for model in (clock, pizza)
        ]
        irrelevance = [
            methods.measure_distance_irrelevance(run_pairs(model, 59)) for model in (clock, pizza)
        ]
        assert symmetry[0] < 0.75 < 0.95 < symmetry[1]
        assert irrelevance[0] > 0.65 > 0.6 > irrelevance[1]
