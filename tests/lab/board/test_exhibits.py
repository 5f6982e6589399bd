"""What the board must show: one method right and wrong by ablation; equal behaviour and different mechanisms."""

import torch

from mini_transformer.board import exhibits
from mini_transformer.board.jobs import Job, run_job
from mini_transformer.board.page import render_page
from mini_transformer.methods import measure_gradient_symmetry


def measure(problem, figure):
    return [
        run_job(Job("circuit", problem, "edge_patching", seed))["metrics"][figure]
        for seed in range(3)
    ]


def test_what_must_be_there_is_found_by_zeros_and_not_by_resampling():
    assert min(measure("boolean_and/zero", "auroc_best")) == 1
    assert max(measure("boolean_and/needed_by_resample", "auroc_best")) < 0.75
    assert (
        measure("boolean_and/needed_by_resample", "told_apart") == [0.5] * 3
    )  # constants rank as what does nothing


def test_what_carries_the_bits_is_found_by_resampling_and_not_by_zeros():
    assert min(measure("boolean_and/resample", "auroc_best")) == 1
    assert max(measure("boolean_and/informative_by_zero", "auroc_best")) < 0.85


def test_clock_and_pizza_answer_alike_and_work_differently():
    entries = exhibits.compare_mechanisms(seeds=3)
    clock, pizza = (
        [entry for entry in entries if entry["model"] == name] for name in exhibits.MODELS
    )
    assert [len(clock), len(pizza)] == [3, 3]
    assert {entry["accuracy"] for entry in entries} == {1.0}
    assert (
        max(entry["gradient_symmetry"] for entry in clock)
        < 0.75
        < 0.95
        < min(entry["gradient_symmetry"] for entry in pizza)
    )
    assert (
        min(entry["distance_irrelevance"] for entry in clock)
        > 0.6
        > max(entry["distance_irrelevance"] for entry in pizza)
    )
    assert max(entry["accuracy_uniform"] for entry in clock) < 0.99
    assert min(entry["accuracy_uniform"] for entry in pizza) == 1


def test_the_numbers_of_the_exhibit_are_those_of_the_methods():
    entry = exhibits.measure_mechanism("pizza", 1)
    model = exhibits.toys.load("pizza", 1).model
    tokens, targets = exhibits.draw_triples()
    halves = [
        measure_gradient_symmetry(model, tokens[part], targets[part])
        for part in (slice(128), slice(128, None))
    ]
    assert abs(sum(halves) / 2 - entry["gradient_symmetry"]) < 1e-3
    pairs = torch.cartesian_prod(torch.arange(59), torch.arange(59))
    right = model(pairs)[:, -1].argmax(dim=1) == pairs.sum(dim=1) % 59
    assert entry["accuracy"] == round(right.float().mean().item(), 4)


def test_the_page_shows_the_mechanisms_where_they_were_compared():
    summary = {"scores": [], "problems": [], "times": []}
    assert "Equal answers" not in render_page(summary)
    page = render_page({**summary, "mechanisms": [{"model": "clock", "seed": 0, "accuracy": 1.0}]})
    assert "Equal answers" in page
    assert "<td>clock</td><td>0</td><td>1.0</td>" in page
