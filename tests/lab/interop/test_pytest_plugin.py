"""The fixture and the assertion that other libraries' tests use."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mini_transformer import forge, toys
from mini_transformer.edges import EdgeScores, list_edges, mask_of
from mini_transformer.interop.pytest_plugin import assert_finds, truth
from mini_transformer.methods import patch_edges

__all__ = ["truth"]  # a fixture, by its name
CASE = toys.load("boolean_redundant_or")  # two right circuits


def test_exact_patching_finds_the_circuit_of_a_toy_and_of_an_unseen_model(truth):
    for case in (truth("boolean_and"), truth("forge", 5)):
        batch = case.task.draw(24)
        given = (case.model, batch.clean, batch.corrupt, batch.logit_difference)
        assert_finds(patch_edges(*given, "resample", direction="noise"), case, at_least=0.9)


def run_page(change=None):
    """Run the tests that docs/testing_your_library.md shows; return what those that fail say."""
    page = (Path(__file__).parents[3] / "docs" / "testing_your_library.md").read_text()
    names = {}
    exec(re.search(r"```py\n(.*?)```", page, re.DOTALL)[1].replace(*(change or ("", ""))), names)
    said = []
    for test in (one for name, one in names.items() if name.startswith("test_")):
        (mark,) = test.pytestmark
        for value in mark.args[1]:
            try:
                test(load_case, value)
            except AssertionError as error:
                said.append(str(error))
    return said, page


@functools.cache
def load_case(name, seed=0):
    return forge.make(seed) if name == "forge" else toys.load(name, seed)


@pytest.mark.slow
def test_the_page_that_a_maintainer_copies_passes_and_fails_as_it_says():
    assert run_page()[0] == []
    said, page = run_page(("steps=10", "steps=0"))
    assert len(said) == 4
    assert f"```text\n{said[-1]}\n```" in page


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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda mask: mask * float("nan"), r"46 of 46 numbers are NaN or infinite in the scores"),
        (lambda mask: mask / 0, r"46 of 46 numbers are NaN or infinite in the scores"),
        (lambda mask: mask[:, None], r"scores are \(46, 1\), expected one number per edge \(46\)"),
        (
            lambda mask: EdgeScores(CASE.model, torch.stack([mask] * 4, 1)),
            r"added up by `.sum\(\)`",
        ),
        (lambda mask: None, "scores are None, expected one number per edge"),
        (lambda mask: {"m0": 1.0}, "no edge 'm0'; a node's name is no edge's"),
        (lambda mask: {"input->m0 @1": 1.0}, r"@1'; scores by position are added up by `.sum\(\)`"),
        (lambda mask: {"input->m0": None}, "scores are a dict, expected one number per edge"),
    ],
)
def test_what_is_no_score_per_edge_is_refused_in_a_sentence(change, says):
    with pytest.raises(ValueError, match=says):
        assert_finds(change(torch.ones(len(list_edges(CASE.model)))), CASE, "zero")


@pytest.mark.parametrize("at_least", [0, -0.5, 1.5, float("nan")])
def test_a_share_that_everything_or_nothing_reaches_is_refused(at_least):
    with pytest.raises(ValueError, match=f"at_least is {at_least}, but must be above 0"):
        assert_finds(torch.zeros(len(list_edges(CASE.model))), CASE, "zero", at_least)


def test_a_wrong_sign_is_told():
    right = mask_of(CASE.model, CASE.truth.circuits["zero"].edges[0])
    with pytest.raises(
        AssertionError, match="; with the sign turned the scores would pass; as abs"
    ):
        assert_finds(-right, CASE, "zero")
    half = right * torch.tensor([1.0, -1.0]).repeat(len(right))[: len(right)]
    with pytest.raises(AssertionError, match=r"[^;]*; missing: [^;]*; as absolute values the"):
        assert_finds(half, CASE, "zero")
    with pytest.raises(AssertionError) as told:
        assert_finds(torch.arange(len(right)), CASE, "zero")
    assert "would pass" not in str(told.value)
    assert told.traceback[-1].ishidden(told)  # pytest shows the line of the caller


def test_the_package_imports_none_of_it():
    code = "import sys, mini_transformer, mini_transformer.toys; " \
        "print([name for name in sys.modules if 'interop' in name])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
