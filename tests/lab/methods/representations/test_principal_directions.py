"""Principal directions: what they find, and what they miss, in models that are known.

Checked against: scikit-learn's PCA, data of which the answer is known exactly, hand-set directions,
and a variable that nothing reads.
"""

import pytest
import torch
from sklearn.decomposition import PCA

from mini_transformer import toys
from mini_transformer.methods import (
    fit_contrast_directions,
    fit_mean_difference,
    fit_principal_directions,
    swap_subspace,
)
from mini_transformer.toys.hand_set.refusal_with_trigger import REFUSAL
from mini_transformer.toys.trained import style_grammar


def draw(n=50, d=6, seed=0):
    """Rows of unequal variance along mixed axes, away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 5


@pytest.mark.parametrize(("n", "d", "k"), [(50, 6, 6), (50, 6, 2), (5, 8, 4)])
def test_directions_variances_shares_and_coordinates_are_those_of_scikit_learn(n, d, k):
    x = draw(n, d)
    found, reference = fit_principal_directions(x, k), PCA(k, svd_solver="full").fit(x.numpy())
    torch.testing.assert_close(found.directions, torch.from_numpy(reference.components_))
    torch.testing.assert_close(found.variances, torch.from_numpy(reference.explained_variance_))
    torch.testing.assert_close(found.shares, torch.from_numpy(reference.explained_variance_ratio_))
    torch.testing.assert_close(found.project(x), torch.from_numpy(reference.transform(x.numpy())))


def test_a_known_product_is_taken_apart():
    scores = torch.tensor(
        [[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]]
    )  # uncorrelated, mean zero
    axes = torch.tensor([[0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    found = fit_principal_directions(scores @ axes + torch.tensor([7.0, 8.0, 9.0]), 2)
    torch.testing.assert_close(
        found.directions, axes * torch.tensor([[-1.0], [1.0]])
    )  # the largest coordinate is positive
    torch.testing.assert_close(found.variances, torch.tensor([12.0, 4 / 3]))
    torch.testing.assert_close(found.shares, torch.tensor([0.9, 0.1]))
    torch.testing.assert_close(found.origin, torch.tensor([7.0, 8.0, 9.0]))


def test_the_sign_does_not_depend_on_the_order_or_the_sign_of_the_data():
    x = draw()
    expected = fit_principal_directions(x, 3).directions
    for other in (x.flip(0), -x):
        torch.testing.assert_close(fit_principal_directions(other, 3).directions, expected)


def test_contrast_directions_are_the_principal_ones_of_the_differences_with_both_signs():
    positive, negative = draw(seed=1), draw(seed=2) - 1
    difference = positive - negative
    found = fit_contrast_directions(positive, negative, 3)
    reference = PCA(3, svd_solver="full").fit(torch.cat([difference, -difference]).numpy())
    cosines = (found.directions * torch.from_numpy(reference.components_)).sum(dim=1)
    torch.testing.assert_close(cosines.abs(), torch.ones(3).double())
    torch.testing.assert_close(found.shares, torch.from_numpy(reference.explained_variance_ratio_))
    along = torch.stack(
        [sum((row @ w) ** 2 for row in difference) / len(difference) for w in found.directions]
    )
    torch.testing.assert_close(found.variances, along)


def test_positive_has_the_higher_mean_along_every_contrast_direction():
    positive, negative = draw(seed=1), draw(seed=2) - 1
    found, swapped = (
        fit_contrast_directions(positive, negative, 4),
        fit_contrast_directions(negative, positive, 4),
    )
    for coordinates in found.project(positive).mean(dim=0) - found.project(negative).mean(dim=0):
        assert coordinates > 0
    torch.testing.assert_close(found.directions, -swapped.directions)


def test_the_mean_difference_is_that_of_the_sums_and_has_length_one():
    positive, negative = draw(n=7, seed=1), draw(n=4, seed=2) + 2
    difference = torch.tensor(
        [
            sum(row[i] for row in positive) / 7 - sum(row[i] for row in negative) / 4
            for i in range(6)
        ]
    )
    expected = difference / sum(value**2 for value in difference.tolist()) ** 0.5
    torch.testing.assert_close(fit_mean_difference(positive, negative), expected)


def test_the_hand_set_refusal_is_found_from_pairs_of_prompts():
    case = toys.load("refusal_with_trigger")
    harmless = torch.tensor(
        [[0, i, j, request, 4] for i in (1, 3) for j in (3, 1) for request in (6, 7)]
    )
    flagged = harmless.clone()
    flagged[:, 3] += 2  # c and d instead of a and b
    streams = [
        case.model.run_with_cache(tokens)[1]["mlp_out", 1][:, -1].detach()
        for tokens in (flagged, harmless)
    ]
    found = fit_contrast_directions(*streams)
    torch.testing.assert_close(found.directions[0], REFUSAL, atol=1e-5, rtol=0)
    torch.testing.assert_close(fit_mean_difference(*streams), REFUSAL, atol=1e-5, rtol=0)
    assert found.shares[0] > 0.999


def read_sentiment(seed):
    """Read the stream at the verb of good texts and of their bad pairs, and the topics."""
    case = toys.load("style_grammar", seed)
    batch = case.task.draw(512, seed=1, corrupt="sentiment")
    row, adjective = torch.arange(512), batch.answer - style_grammar.ADJECTIVE
    clean, corrupt = (
        case.model.run_with_cache(tokens)[1][style_grammar.SITE][row, batch.position].detach()
        for tokens in (batch.clean, batch.corrupt)
    )
    good = (adjective % 2 == 0).unsqueeze(1)
    return torch.where(good, clean, corrupt), torch.where(good, corrupt, clean), adjective // 2


def test_where_a_property_is_written_in_two_ways_the_largest_difference_is_not_the_mean_one():
    positive, negative, topic = read_sentiment(seed=2)
    found, mean = (
        fit_contrast_directions(positive, negative, 2),
        fit_mean_difference(positive, negative),
    )
    film, food = (fit_mean_difference(positive[topic == t], negative[topic == t]) for t in (0, 1))
    assert abs(film @ food) < 0.3  # good films and good food are told by other directions
    assert found.directions[0] @ mean < 0.1
    assert (found.directions @ mean).norm() > 0.99  # both together hold it


def test_the_loudest_directions_can_be_those_that_nobody_reads():
    case = toys.load("unused_feature")
    batch, y, x = (
        case.task.everything().distinct(),
        case.truth.variables["y"],
        case.truth.variables["x"],
    )
    stream = case.model.run_with_cache(batch.clean)[1][y.site][:, y.position].detach()
    found = fit_principal_directions(stream, 14)
    loud, quiet = found.directions[:7], found.directions[7:]
    torch.testing.assert_close(loud @ y.subspace.T @ y.subspace, loud, atol=1e-4, rtol=0)
    torch.testing.assert_close(quiet @ x.subspace.T @ x.subspace, quiet, atol=1e-4, rtol=0)
    base, source = batch.clean, batch.clean.flip(0)
    torch.testing.assert_close(
        swap_subspace(case.model, base, source, loud, y.site)[:, -1],
        case.model(base)[:, -1].detach(),
    )
    said = swap_subspace(case.model, base, source, quiet, y.site)[:, -1].argmax(dim=-1)
    assert (said == batch.answer.flip(0)).all()
