"""Defects found in published benchmark code: what the defective formula says, beside what ours
says, on the same answer.
"""

import pytest
import torch
from torch.nn.functional import normalize

from mini_transformer.board.metrics.circuit import compare_sets, measure_auroc
from mini_transformer.board.metrics.features import score_features
from mini_transformer.board.metrics.steering import measure_kl
from mini_transformer.methods.circuits.circuit_evaluation import FaithfulnessCurve

TRUTH = torch.arange(100) < 5  # 5 of 100 edges


def list_rates(scores, sizes, truth=TRUTH):
    """False- and true-positive rates of the circuits that keep so many of the highest scores."""
    order = scores.argsort(descending=True, stable=True)
    kept = [torch.isin(torch.arange(len(truth)), order[:size]) for size in sizes]
    rates = [
        [(k & side).sum().item() / side.sum().item() for k in kept] for side in (~truth, truth)
    ]
    return torch.tensor(rates, dtype=torch.float64)


def test_an_edge_in_neither_set_is_not_a_true_positive():
    nothing = torch.zeros(100).bool()
    agreed = (nothing == TRUTH).sum().item()
    defective = {"precision": agreed / (agreed + 0), "recall": agreed / (agreed + 5)}
    assert defective == {"precision": 1.0, "recall": 0.95}  # for a circuit without a single edge
    assert compare_sets(nothing, TRUTH) == {"precision": 0, "recall": 0, "f1": 0, "distance": 5}


def test_a_curve_of_ten_sizes_without_its_ends_is_not_the_area():
    oracle = TRUTH.float()
    defective = torch.trapezoid(*list_rates(oracle, range(10, 101, 10)).flip(0)).item()
    assert defective == pytest.approx(
        0.947, abs=1e-3
    )  # the perfect ranking is robbed of what lies before the first size
    assert measure_auroc(oracle, TRUTH) == 1


def test_false_positive_rates_are_not_rescaled():
    sizes, areas, ours = range(0, 89, 4), [], []
    for seed in range(200):
        scores = torch.rand(100, generator=torch.Generator().manual_seed(seed))
        false, true = list_rates(scores, sizes)
        areas.append(torch.trapezoid(true, false / false.max()).item())
        ours.append(measure_auroc(scores, TRUTH))
    defective, right = (sum(values) / 200 for values in (areas, ours))
    assert defective == pytest.approx(
        0.44, abs=0.02
    )  # a random scorer, the curve cut at 88 of 100 edges and stretched
    assert right == pytest.approx(0.5, abs=0.02)


def test_kl_is_summed_over_the_vocabulary_and_not_averaged():
    before, after = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])

    def both(padding):  # tokens that never occur are added
        p, q = (
            torch.cat([x, torch.full((1, padding), 1e-30)], dim=1).log() for x in (before, after)
        )
        return (p.exp() * (p - q)).mean().item(), measure_kl(p, q)

    (small, right), (tiny, same) = both(padding=0), both(padding=98)
    assert (small, tiny) == pytest.approx(
        (0.2554, 0.0051), abs=1e-4
    )  # fifty times smaller, for the same change
    assert right == pytest.approx(0.5108, abs=1e-4)
    assert same == pytest.approx(right)


def test_the_area_under_faithfulness_is_bounded():
    """One size at which the circuit lacks what holds the model back is enough for more than any
    right circuit can get.
    """
    found = FaithfulnessCurve(
        torch.tensor([0.0, 0.1, 0.2, 1.0]), torch.tensor([0.0, 13.0, 11.375, 1.0])
    )
    right = FaithfulnessCurve(
        torch.tensor([0.0, 0.1, 0.2, 1.0]), torch.tensor([0.0, 1.0, 1.0, 1.0])
    )
    assert found.cpr(bounded=False) == pytest.approx(10.4)
    assert found.cpr() == pytest.approx(0.9) == right.cpr()
    assert found.cmd() > 0.8 > right.cmd()


def test_features_that_nothing_learned_cost():
    directions = normalize(torch.randn(20, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    codes = torch.rand(300, 20, generator=torch.Generator().manual_seed(1)) * (
        torch.arange(20) != 99
    )
    latents, found = directions[[0] * 20], codes[:, [0] * 20]  # one true feature, twenty times
    defective = (latents @ directions.T).amax(dim=1).mean().item()  # each latent has its feature
    ours = score_features(directions, codes, latents, found)
    assert defective == pytest.approx(1)
    assert ours["recall"] == 1 / 20
    assert ours["f1"] == 1 / 20
    assert ours["uniqueness"] == 1 / 20
    assert ours["mmcs"] < 0.4
