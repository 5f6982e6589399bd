"""Hypothesis tests.

Checked against: binomial sums and kernel matrices in loops, simulated scores for which the null
holds, and the enumerated circuits of hand-set models.
"""

import functools
import math

import numpy as np
import pytest
import torch
from hooked_circuits import draw_edges, edges_between, metric, read_off, run_hooked
from scipy.stats import kstest

from mini_transformer import Config, Transformer, toys
from mini_transformer.edges import list_edges
from mini_transformer.methods import (
    assess_equivalence,
    assess_independence,
    assess_minimality,
)
from mini_transformer.methods.circuits import circuit_tests
from mini_transformer.methods.circuits.circuit_tests import draw_paths

ABLATIONS = ["zero", "mean", "resample"]
PROMPTS = torch.zeros(2, 1, dtype=torch.int64)
NOTHING = (
    Transformer(Config(d_vocab=2, n_ctx=1, d_model=2, n_layers=0)),
    PROMPTS,
    PROMPTS,
    metric,
    [],
)  # not looked at


@pytest.fixture
def measured(monkeypatch):
    """Make the tests see these scores of the model, and of the circuit or what is left of it."""

    def pretend(ours, whole):
        scores = [np.asarray(ours, dtype=float), np.asarray(whole, dtype=float)]
        monkeypatch.setattr(circuit_tests, "compare_runs", lambda *arguments: scores)
        monkeypatch.setattr(circuit_tests, "mask_parts", lambda *arguments: torch.zeros(0))

    return pretend


@pytest.mark.parametrize("margin", [0, 0.1, 0.3])
@pytest.mark.parametrize(
    ("wins", "losses", "ties"), [(3, 9, 4), (9, 3, 0), (6, 6, 1), (0, 5, 0), (8, 0, 2), (0, 0, 3)]
)
def test_the_p_value_of_equivalence_is_the_sum_over_all_splits_as_uneven(
    measured, wins, losses, ties, margin
):
    measured([1.0] * wins + [-1.0] * losses + [0.0] * ties, [0.0] * (wins + losses + ties))
    found = assess_equivalence(*NOTHING, margin=margin)
    n = wins + losses
    chance = 0.5 + margin
    uneven = [k for k in range(n + 1) if abs(k - n / 2) >= abs(wins - n / 2)]
    expected = sum(math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in uneven)
    assert found.p_value == pytest.approx(expected)
    assert found.statistic == (wins / n if n else 0.5)


def test_the_statistic_of_independence_is_the_sum_over_pairs_of_prompts(measured):
    one, other = np.random.default_rng(0).normal(size=(2, 7))
    measured(one, other)
    centred = []
    for scores in (one, other):
        kernel = [[math.exp(-((a - b) ** 2) / (2 * scores.var())) for b in scores] for a in scores]
        rows = [sum(row) / 7 for row in kernel]
        total = sum(map(sum, kernel)) / 49
        centred.append(
            [[kernel[i][j] - rows[i] - rows[j] + total for j in range(7)] for i in range(7)]
        )
    expected = sum(centred[0][i][j] * centred[1][i][j] for i in range(7) for j in range(7)) / 49
    assert assess_independence(*NOTHING, permutations=9).statistic == pytest.approx(expected)


def test_independence_is_rejected_also_for_a_dependence_without_correlation(measured):
    scores = np.random.default_rng(0).normal(size=40)
    assert abs(np.corrcoef(scores, np.abs(scores))[0, 1]) < 0.3
    measured(np.abs(scores), scores)
    assert assess_independence(*NOTHING, permutations=199).p_value == 1 / 200
    measured(np.full(40, 3.0) + 1e-6 * scores, scores)  # rounding is not a dependence
    assert assess_independence(*NOTHING, permutations=199).p_value == 1


def test_p_values_are_spread_evenly_where_the_null_is_true(measured):
    generator = np.random.default_rng(1)
    independence = []
    equivalence = []
    for _ in range(200):
        measured(*generator.normal(size=(2, 24)))
        independence.append(assess_independence(*NOTHING, permutations=39).p_value)
        equivalence.append(assess_equivalence(*NOTHING, margin=0).p_value)
    grain = generator.uniform(0, 1 / 40, 200)  # p-values are multiples of 1/40
    assert kstest(np.array(independence) - grain, "uniform").pvalue > 0.01
    for level in (
        0.05,
        0.1,
        0.3,
    ):  # a sign test takes few values, and so rejects less often than it may
        rejected = np.mean(np.array(equivalence) <= level)
        assert level / 4 < rejected < level + 0.05


def test_with_the_margin_a_small_steady_difference_is_equivalent_and_a_large_one_is_not(measured):
    generator = np.random.default_rng(2)
    for bias, rejected in ((0.58, False), (0.8, True)):
        wins = generator.random(400) < bias
        measured(2.0 * wins - 1, np.zeros(400))
        assert (assess_equivalence(*NOTHING, margin=0.1).p_value < 0.01) == rejected
        assert assess_equivalence(*NOTHING, margin=0).p_value < 0.01


def score_hooked(model, clean, corrupt, kept, ablation):
    """One score per prompt."""
    return (
        metric(run_hooked(model, clean, read_off(model, corrupt, ablation), kept)).detach().numpy()
    )


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_circuit_model_and_what_is_left_without_the_circuit_are_those_of_hooked_runs(
    model, clean, corrupt, ablation
):
    """The scores that the tests are about: compared where they enter them."""
    seen = []
    circuit = draw_edges(model, seed=2)
    nodes = ["input", "a0.h0", "a1.h1"]
    run = circuit_tests.compare_runs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            circuit_tests,
            "compare_runs",
            lambda *arguments: seen.append(run(*arguments)) or seen[-1],
        )
        for parts in (circuit, nodes):
            assess_equivalence(model, clean, corrupt, metric, parts, ablation)
            assess_independence(model, clean, corrupt, metric, parts, ablation, permutations=1)
    everything = set(list_edges(model))
    for i, edges in enumerate((set(circuit), edges_between(model, nodes))):
        whole = score_hooked(model, clean, corrupt, everything, ablation)
        for kept, scores in ((edges, seen[2 * i]), (everything - edges, seen[2 * i + 1])):
            np.testing.assert_allclose(
                scores[0], score_hooked(model, clean, corrupt, kept, ablation), atol=1e-9
            )
            np.testing.assert_allclose(scores[1], whole, atol=1e-9)


def test_minimality_compares_each_edge_with_a_random_added_one(model, clean, corrupt):
    circuit = draw_edges(model, seed=3, share=0.4)
    found = assess_minimality(
        model, clean, corrupt, metric, circuit, "mean", draws=12, quantile=0.6, seed=5
    )
    paths = draw_paths(model, circuit, 12, np.random.default_rng(5))
    off = read_off(model, corrupt, "mean")

    @functools.cache
    def score(kept):
        return metric(run_hooked(model, clean, off, kept)).numpy()

    def change(kept, edge):
        return np.abs(score(kept - {edge}) - score(kept)).mean()

    added = [change(frozenset({*circuit, *path}), path[0]) for path in paths]
    assert set(found) == set(circuit)
    for edge in circuit:
        own = change(frozenset(circuit), edge)
        n = sum(own > other + 1e-4 for other in added)
        expected = len(circuit) * sum(
            math.comb(12, k) * 0.6**k * 0.4 ** (12 - k) for k in range(n + 1)
        )
        assert found[edge].statistic == n / 12
        assert found[edge].p_value == pytest.approx(min(1, expected))


def test_random_paths_begin_with_an_edge_outside_and_lead_from_the_input_to_the_logits(model):
    circuit = draw_edges(model, seed=1)
    paths = draw_paths(model, circuit, 300, np.random.default_rng(0))
    assert {path[0] for path in paths} == set(list_edges(model)) - set(circuit)
    for path in paths:
        ends = sorted(tuple(end.split("<")[0] for end in edge.split("->")) for edge in path)
        at = "input"
        while at != "logits":
            (step,) = [end for end in ends if end[0] == at]  # one way on
            ends.remove(step)
            at = step[1]
        assert ends == []


@pytest.mark.parametrize(
    ("name", "ablation"),
    [("boolean_xor", "zero"), ("boolean_or", "resample"), ("induction_by_hand", "mean")],
)
def test_a_known_circuit_passes_all_three_and_fails_without_or_with_one_edge(name, ablation):
    case = toys.load(name)
    truth = case.truth.circuits[ablation]
    batch = case.task.draw(48, corrupt=truth.corrupt)
    circuit = truth.edges[0]
    arguments = (case.model, batch.clean, batch.corrupt, batch.logit_difference)
    assert assess_equivalence(*arguments, circuit, ablation).p_value == 1
    assert (
        min(
            found.p_value
            for found in assess_minimality(*arguments, circuit, ablation, draws=30).values()
        )
        == 1
    )
    needed = next(
        edge for edge in sorted(circuit) if edge.startswith("input->") and edge.endswith("<v>")
    )
    assert assess_equivalence(*arguments, circuit - {needed}, ablation).p_value < 0.01
    idle = "a0.h0->logits"
    tests = assess_minimality(*arguments, circuit | {idle}, ablation, draws=30)
    assert [edge for edge, found in tests.items() if found.p_value < 0.01] == [idle]


def test_what_is_left_of_redundant_or_still_depends_on_the_answer_until_both_copies_are_out():
    case = toys.load("boolean_redundant_or")
    batch = case.task.draw(48)

    def says_yes(logits):
        return logits[:, -1, 1]

    for circuit, rejected in ((["m0->logits"], True), (["m0->logits", "m1->logits"], False)):
        found = assess_independence(
            case.model, batch.clean, batch.corrupt, says_yes, circuit, "mean", permutations=99
        )
        assert (found.p_value < 0.05) == rejected


def test_the_same_seed_gives_the_same_p_values(model, clean, corrupt):
    circuit = draw_edges(model, seed=2)
    for assess, options in (
        (assess_independence, {"permutations": 20}),
        (assess_minimality, {"draws": 5}),
    ):
        state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
        first, again = (
            assess(model, clean, corrupt, metric, circuit, seed=3, **options) for _ in range(2)
        )
        assert first == again
        assert torch.equal(torch.random.get_rng_state(), state[0])
        assert (np.random.get_state()[1] == state[1]).all()
