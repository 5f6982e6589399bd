"""Clock and pizza: equal behaviour and different mechanisms."""

import torch

from mini_transformer import toys
from mini_transformer.board.report.clock_and_pizza import (
    MODELS,
    compare_mechanisms,
    measure_mechanism,
)
from mini_transformer.methods import measure_gradient_symmetry
from mini_transformer.toys.trained.clock_pizza import draw_triples


def test_clock_and_pizza_answer_alike_and_work_differently():
    entries = compare_mechanisms(seeds=3)
    clock, pizza = ([entry for entry in entries if entry.model == name] for name in MODELS)
    assert [len(clock), len(pizza)] == [3, 3]
    assert {entry.accuracy for entry in entries} == {1.0}
    assert (
        max(entry.gradient_symmetry for entry in clock)
        < 0.75
        < 0.95
        < min(entry.gradient_symmetry for entry in pizza)
    )
    assert (
        min(entry.distance_irrelevance for entry in clock)
        > 0.6
        > max(entry.distance_irrelevance for entry in pizza)
    )
    assert max(entry.accuracy_uniform for entry in clock) < 0.99
    assert min(entry.accuracy_uniform for entry in pizza) == 1


def test_the_numbers_of_the_exhibit_are_those_of_the_methods():
    entry = measure_mechanism("pizza", 1)
    model = toys.load("pizza", 1).model
    tokens, targets = draw_triples()
    halves = [
        measure_gradient_symmetry(model, tokens[part], targets[part])
        for part in (slice(128), slice(128, None))
    ]
    assert abs(sum(halves) / 2 - entry.gradient_symmetry) < 1e-3
    pairs = torch.cartesian_prod(torch.arange(59), torch.arange(59))
    right = model(pairs)[:, -1].argmax(dim=1) == pairs.sum(dim=1) % 59
    assert entry.accuracy == round(right.float().mean().item(), 4)
