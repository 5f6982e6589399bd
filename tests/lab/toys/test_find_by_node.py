"""Checked against trying all sets, on random models where nothing is known, and on toys."""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.toys import find_by_node
from mini_transformer.toys.find_by_node import find_circuits_by_node
from mini_transformer.toys.find_circuits import find_circuits
from mini_transformer.toys.truth import Batch

ABLATIONS = ["zero", "mean", "resample"]
LEVELS = ["edges", "nodes"]


def make_random_case(seed: int, **options) -> tuple[Transformer, Batch]:
    """A small random model, and as answers whatever it says, at one position or at two."""
    model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=6, n_layers=1, **options), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        clean, corrupt = torch.randint(5, (2, 3, 4), generator=generator)
        said = [model(tokens).argmax(dim=-1) for tokens in (clean, corrupt)]
    asked = torch.tensor([[3, 3], [1, 3], [2, 3]]) if seed % 2 else torch.tensor([3, 2, 3])
    rows = torch.arange(3).unsqueeze(1) if seed % 2 else torch.arange(3)
    return model, Batch(clean, corrupt, *(each[rows, asked] for each in said), asked)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_circuits_are_those_found_by_trying_all_sets(seed, causal, ablation, level):
    for options in ({"d_mlp": 8, "biases": True}, {"n_heads": 2}):
        model, batch = make_random_case(seed, causal=causal, **options)
        expected = find_circuits(model, batch, ablation, level)
        assert find_circuits_by_node(model, batch, ablation, level) == expected


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize(
    "name", ["induction_by_hand", "boolean_xor", "boolean_redundant_or", "tracr_reverse"]
)
def test_toys_have_the_circuits_that_they_state(name, ablation, level):
    case = toys.load(name, seed=1)
    batch = case.task.everything() if case.task.everything else case.task.draw(64, corrupt="fresh")
    found = find_circuits_by_node(case.model, batch, ablation, level)
    assert len(found) == len(set(found))
    assert set(found) == set(getattr(case.truth.circuits[ablation], level))


def test_a_prompt_that_refutes_is_tried_with_the_first_ones(monkeypatch):
    monkeypatch.setattr(find_by_node, "FIRST_ROWS", 1)
    case = toys.load("tracr_hist")
    found = find_circuits_by_node(case.model, case.task.everything(), "mean")
    assert found == case.truth.circuits["mean"].edges


def test_too_many_different_things_are_refused(monkeypatch):
    monkeypatch.setattr(find_by_node, "MOST_STATES", 3)
    model, batch = make_random_case(0, n_heads=2)
    with pytest.raises(ValueError, match="different things, but at most 3 are few enough"):
        find_circuits_by_node(model, batch, "zero")
