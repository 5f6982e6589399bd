"""Trivial dictionaries: what each is made of, and that every trained one beats it."""

import pytest
import torch
from family_means import check_margins, measure_means

from mini_transformer.board.families.features.entrants import (
    ENTRANTS,
    REFERENCES,
    drop_copies,
    find_cluster_centres,
    find_principal_axes,
)
from mini_transformer.board.families.features.problems import build

DRAW = torch.Generator().manual_seed(0)
X = torch.rand(500, 3, generator=DRAW) * torch.tensor([9.0, 3.0, 1.0]) + 2  # independent, uniform


def test_principal_axes_come_in_both_signs_the_longest_first():
    found = find_principal_axes(X - X.mean(dim=0), 6)
    assert torch.allclose(found[:3], -found[3:])
    assert abs(found[0, 0]) > 0.99
    assert len(REFERENCES["principal_axes"](X, 2).W_dec) == 2


def test_independent_axes_are_those_along_which_independent_numbers_were_drawn():
    mixing = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    found = REFERENCES["independent_axes"](X / X.std(dim=0) @ mixing, 3).W_dec
    assert (found @ mixing.T).abs().amax(dim=1).min() > 0.95


def test_copies_are_dropped_and_clusters_found():
    axes = torch.eye(3)
    rows = torch.cat([axes[:1], axes[:1] + 0.1 * axes[1], axes[1:2], axes[2:]])
    assert torch.equal(drop_copies(rows, 2), axes[:2])
    crowd = axes.repeat_interleave(40, dim=0) + 0.05 * torch.randn(120, 3, generator=DRAW)
    assert find_cluster_centres(crowd, 3).shape == (3, 3)


def test_all_methods_answer_within_the_number_of_latents():
    problem = build("trees/narrow", 0)
    activations, n = problem.arguments
    for method in REFERENCES.values():
        assert len(method(activations, n).W_dec) <= n
    assert next(iter(ENTRANTS)) == "sae_matryoshka"


@pytest.mark.slow
def test_trivial_answers_lose_and_pursuit_explains_most_and_finds_less_than_batchtopk():
    names = ("trees/narrow", "trees/equal")
    check_margins("features", measure_means("features", 1, names))
    problem = build("trees/equal", 0)
    found = {name: problem.measure(m(*problem.arguments)) for name, m in ENTRANTS.items()}
    pursuit = found.pop("matching_pursuit")
    assert pursuit["explained_variance"] > max(f["explained_variance"] for f in found.values())
    assert pursuit["classification"] < found["sae_batchtopk"]["classification"] - 0.03
