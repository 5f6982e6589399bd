"""The fixture and the assertion that other libraries' tests use."""

import subprocess
import sys

import pytest
import torch

from mini_transformer import toys
from mini_transformer.edges import list_edges, mask_of
from mini_transformer.interop.pytest_plugin import assert_finds, truth
from mini_transformer.methods import patch_edges

__all__ = ["truth"]  # a fixture, by its name
CASE = toys.load("boolean_redundant_or")  # two right circuits


def test_exact_patching_finds_the_circuit_of_a_toy_and_of_an_unseen_model(truth):
    for case in (truth("boolean_and"), truth("forge", 5)):
        batch = case.task.draw(24)
        given = (case.model, batch.clean, batch.corrupt, batch.logit_difference)
        assert_finds(patch_edges(*given, "resample", direction="noise").values, case, at_least=0.9)


def test_any_of_several_right_circuits_counts():
    circuits = CASE.truth.circuits["zero"].edges
    assert len(circuits) > 1
    for circuit in circuits:
        assert_finds(mask_of(CASE.model, circuit), CASE, "zero")


def test_what_is_missing_is_named():
    circuit = sorted(CASE.truth.circuits["zero"].edges[0])
    rest = dict.fromkeys(list_edges(CASE.model), 0.5) | dict.fromkeys(circuit[1:], 1.0)
    rest[circuit[0]] = 0.0
    with pytest.raises(AssertionError, match=f"missing: .*{circuit[0].split('<')[0]}"):
        assert_finds(rest, CASE, "zero")
    assert_finds(rest, CASE, "zero", at_least=0.5)
    ties = rest | dict.fromkeys(rest, 1.0)
    with pytest.raises(AssertionError):
        assert_finds(ties, CASE, "zero", at_least=0.5)


@pytest.mark.parametrize("cheat", ["constant", "order", "reversed", "random"])
def test_what_looks_at_nothing_fails(cheat):
    n = len(list_edges(CASE.model))
    scores = {
        "constant": torch.zeros(n),
        "order": torch.arange(n),
        "reversed": -torch.arange(n),
        "random": torch.rand(n, generator=torch.Generator().manual_seed(0)),
    }[cheat]
    with pytest.raises(AssertionError, match="of the circuit of boolean_redundant_or"):
        assert_finds(scores, CASE, "zero")


def test_scores_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"has no edge 'a9.h0->logits'; nearest"):
        assert_finds({"a9.h0->logits": 1.0}, CASE)
    with pytest.raises(ValueError, match="3 scores were given, but"):
        assert_finds([1, 2, 3], CASE)
    with pytest.raises(ValueError, match="has no circuit for 'sum'; there are: zero, mean"):
        assert_finds(torch.zeros(len(list_edges(CASE.model))), CASE, "sum")


def test_the_package_imports_none_of_it():
    code = "import sys, mini_transformer, mini_transformer.toys; " \
        "print([name for name in sys.modules if 'interop' in name])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
