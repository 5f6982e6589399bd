"""Dictionaries against planted features: by trying all matchings, in loops, and by what must and
must not change a score.
"""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from mini_transformer.board.metrics.features import explain_variance, match_latents, score_features

few = settings(deadline=None, max_examples=20, derandomize=True)


def plant(seed=0, n=200, n_features=6, d=8):
    """Unit directions and sparse codes."""
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(n_features, d, generator=generator), dim=1)
    codes = torch.rand(n, n_features, generator=generator) * (
        torch.rand(n, n_features, generator=generator) < 0.4
    )
    return directions, codes


@few
@given(st.integers(0, 50), st.integers(2, 5), st.integers(2, 5))
def test_the_matching_is_the_best_of_all(seed, n_features, n_latents):
    likeness = torch.rand(n_features, n_latents, generator=torch.Generator().manual_seed(seed))
    match, small = match_latents(likeness), min(n_features, n_latents)
    total = sum(likeness[i, j].item() for i, j in enumerate(match.tolist()) if j >= 0)
    best = max(
        sum(likeness[i, j].item() for i, j in zip(rows, columns, strict=True))
        for rows in permutations(range(n_features), small)
        for columns in permutations(range(n_latents), small)
    )
    assert total == pytest.approx(best)
    assert (
        len({j for j in match.tolist() if j >= 0}) == small == sum(j >= 0 for j in match.tolist())
    )


def test_the_planted_dictionary_is_perfect_whatever_its_order_and_scale():
    directions, codes = plant()
    order, size = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2.0, 0.5, 1, 3, 1, 0.1])
    found = score_features(
        directions, codes, (directions * size[:, None])[order], (codes / size)[:, order], ((1, 0),)
    )
    ones = ("f1", "precision", "recall", "mmcs", "mcc", "uniqueness")
    assert [found[name] for name in ones] == pytest.approx([1] * 6)
    assert [found[name] for name in ("dead", "shrinkage", "absorption")] == pytest.approx(
        [0] * 3, abs=1e-6
    )
    assert found["l0"] == pytest.approx((codes > 0).sum().item() / len(codes))


@few
@given(st.integers(0, 30), st.permutations(range(6)))
def test_other_names_for_features_and_latents_change_nothing(seed, order):
    directions, codes = plant(seed)
    latents, found = plant(seed + 100)
    before = score_features(directions, codes, latents, found, ((1, 0), (3, 2)))
    assert score_features(
        directions, codes, latents[order], found[:, order], ((1, 0), (3, 2))
    ) == pytest.approx(before)
    back = [list(order).index(i) for i in range(6)]
    entails = ((back[1], back[0]), (back[3], back[2]))
    assert score_features(
        directions[order], codes[:, order], latents, found, entails
    ) == pytest.approx(before)


@few
@given(st.integers(0, 30), st.permutations(range(1, 6)))
def test_overwriting_one_latent_after_the_other_never_improves_the_oracle(seed, order):
    directions, codes = plant(seed)
    latents, found = directions.clone(), codes.clone()
    names = ("f1", "recall", "precision", "mmcs", "mcc", "uniqueness")
    worst = score_features(directions, codes, latents, found)
    for (
        latent
    ) in order:  # by a copy of the first, so that no other feature can come closer by chance
        latents[latent], found[:, latent] = latents[0], found[:, 0]
        now = score_features(directions, codes, latents, found)
        assert all(now[name] <= worst[name] + 1e-6 for name in names), (now, worst)
        worst = now
    assert worst["recall"] == pytest.approx(1 / 6)


def test_each_figure_is_what_a_loop_over_features_gives():
    directions, codes = plant(1)
    generator = torch.Generator().manual_seed(9)
    latents = normalize(
        directions + 0.15 * torch.randn(directions.shape, generator=generator), dim=1
    )
    found = torch.where(codes > 0.1, 0.8 * codes, 0.0)  # a fifth too small, and silent where weak
    scores = score_features(directions, codes, latents, found)
    cosines = [[float(a @ b) for b in latents] for a in directions]
    assert scores["mmcs"] == pytest.approx(sum(map(max, cosines)) / 6)
    assert scores["recall"] == sum(cosines[i][i] > 0.9 for i in range(6)) / 6
    columns = zip(found.T.tolist(), codes.T.tolist(), strict=True)
    slopes = [
        sum(f * c for f, c in zip(*pair, strict=True)) / sum(c * c for c in pair[1])
        for pair in columns
    ]
    assert scores["shrinkage"] == pytest.approx(1 - sum(slopes) / 6, abs=1e-6)
    correlations = [
        torch.corrcoef(torch.stack([codes[:, i], found[:, i]]))[0, 1].item() for i in range(6)
    ]
    assert scores["mcc"] == pytest.approx(sum(correlations) / 6, abs=1e-6)


def test_a_latent_that_never_fires_is_dead_and_finds_nothing():
    directions, codes = plant()
    silent = codes * (torch.arange(6) != 2)
    scores = score_features(directions, codes, directions, silent)
    assert (scores["dead"], scores["recall"], scores["precision"]) == pytest.approx(
        (1 / 6, 5 / 6, 1)
    )
    assert scores["shrinkage"] == pytest.approx(1 / 6)


def test_a_parent_that_its_child_carries_is_absorbed_and_one_that_is_just_missed_is_not():
    axes = torch.eye(3)
    codes = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]])  # feature 1 only with 0
    silent = codes.clone()
    silent[1:3, 0] = 0
    carried = axes.clone()
    carried[1] = normalize(torch.tensor([1.0, 1.0, 0.0]), dim=0)
    entails = ((1, 0),)
    assert score_features(axes, codes, carried, silent, entails)["absorption"] == 1
    assert (
        score_features(axes, codes, axes, silent, entails)["absorption"] == 0
    )  # silent, but nothing carries it
    assert (
        score_features(axes, codes, carried, codes, entails)["absorption"] == 0
    )  # carried, but not silent
    assert "absorption" not in score_features(axes, codes, axes, codes)


def test_uniqueness_counts_the_features_that_latents_share():
    directions, codes = plant()
    scores = score_features(directions, codes, directions[[0, 0, 0, 1]], codes[:, [0, 0, 0, 1]])
    assert scores["uniqueness"] == 2 / 4


def test_a_latent_that_points_the_other_way_finds_nothing():
    directions, codes = plant()
    scores = score_features(directions, codes, -directions, codes)
    assert scores["recall"] == 0


def test_explained_variance_is_1_for_the_activations_and_0_for_their_mean():
    directions, codes = plant()
    x = codes @ directions
    assert explain_variance(x, x) == 1
    assert explain_variance(x, x.mean(dim=0).expand_as(x)) == pytest.approx(0, abs=1e-6)


def test_latents_are_classifiers_of_the_feature_that_is_their_own():
    directions, codes = plant(1)
    found = torch.where(codes > 0.5, codes, 0.0)  # silent where weak
    found[:, 5] = codes[:, 0]  # the wrong one
    scores = score_features(directions, codes, directions, found)
    f1 = []
    for own, true in zip(found.T > 0, codes.T > 0, strict=True):
        hits = int((own & true).sum())
        f1.append(2 * hits / int(own.sum() + true.sum()))
    assert scores["classification"] == scores["nearest_f1"] == pytest.approx(sum(f1) / 6)
    assert scores["probing"] > scores["classification"]
    copies = score_features(directions, codes, directions[[0] * 6], codes[:, [0] * 6])
    assert copies["nearest_f1"] == 1  # as published
    assert copies["classification"] < 0.6  # each feature needs a latent of its own
    few = score_features(directions, codes, directions[:2], codes[:, :2])
    assert few["classification"] == 1  # of two latents no more can be asked
    assert few["probing"] < 0.7  # but all features are asked for


def test_a_latent_that_is_half_of_each_of_a_pair_hedges():
    axes = torch.eye(3)
    codes = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    mixed = normalize(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), dim=1)
    scores = score_features(axes, codes, mixed, codes[:, [0, 2]], correlated=((0, 1),))
    assert scores["hedging"] == 0.5
    assert score_features(axes, codes, axes, codes, correlated=((0, 1),))["hedging"] == 0
