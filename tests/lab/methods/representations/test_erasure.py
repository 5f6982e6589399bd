"""Erasers meet the conditions that define them.

Checked against: the optimality conditions (cross-covariance zero, probes at the majority, no
smaller change), the oblique projection that a Lagrange multiplier gives, and the published
implementation where its numbers are stored.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import fit_inlp, fit_leace, fit_probe, fit_projection


def draw(n=500, d=6, n_classes=3, seed=0):
    """Correlated activations in which the class shifts the mean along some directions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    mixing, shift = (
        torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (d, n_classes)
    )
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 2 * shift[labels] + 7
    return x, labels


def cross(x, labels):
    one_hot = torch.nn.functional.one_hot(labels).double()
    return (x - x.mean(dim=0)).T @ (one_hot - one_hot.mean(dim=0)) / len(x)


@pytest.mark.parametrize("fit", [fit_leace, fit_projection])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_nothing_linear_is_left_after_erasure(fit, n_classes):
    x, labels = draw(n_classes=n_classes)
    erased = fit(x, labels)(x)
    majority = labels.bincount().max().item() / len(labels)
    assert fit_probe(x, labels).accuracy(x, labels) > majority + 0.2
    assert cross(erased, labels).abs().max() < 1e-9
    assert fit_probe(erased, labels, penalty=1e-3).accuracy(erased, labels) == pytest.approx(
        majority
    )
    torch.testing.assert_close(erased.mean(dim=0), x.mean(dim=0))


def test_inlp_leaves_no_linear_probe_better_than_the_majority():
    x, labels = draw()
    erased = fit_inlp(x, labels)(x)
    assert fit_probe(erased, labels).accuracy(erased, labels) <= labels.bincount().max() / len(
        labels
    )


def test_one_round_of_inlp_projects_out_the_directions_of_one_probe():
    x, labels = draw(n_classes=2)
    w = fit_probe(x - x.mean(dim=0), labels).directions[0]
    w = w / w.norm()
    torch.testing.assert_close(fit_inlp(x, labels, rounds=1).M, torch.outer(w, w))


def test_every_round_of_inlp_sees_only_what_the_rounds_before_left():
    x, labels = draw(n_classes=2)
    left, M = x - x.mean(dim=0), torch.zeros(6, 6, dtype=torch.float64)
    for _ in range(3):
        w = fit_probe(left, labels).directions[0]
        w = w / w.norm()
        left, M = left - torch.outer(left @ w, w), M + torch.outer(w, w)
    torch.testing.assert_close(fit_inlp(x, labels, rounds=3).M, M, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_leace_is_the_oblique_projection_that_a_lagrange_multiplier_gives(n_classes):
    # Minimise E|M x|^2 subject to M S = S with S = cov(x, z) and C = cov(x):
    # M = S (S^T C^-1 S)^-1 S^T C^-1.
    x, labels = draw(n_classes=n_classes)
    S = cross(x, labels)[:, :-1]  # the columns sum to zero
    C = (x - x.mean(dim=0)).T @ (x - x.mean(dim=0)) / len(x)
    expected = S @ torch.linalg.inv(S.T @ torch.linalg.inv(C) @ S) @ S.T @ torch.linalg.inv(C)
    torch.testing.assert_close(fit_leace(x, labels).M, expected)


def test_no_smaller_change_erases():
    x, labels = draw()
    eraser, S = fit_leace(x, labels), cross(x, labels)
    change = (eraser(x) - x).square().sum()
    U = torch.linalg.svd(S)[0][
        :, 2:
    ]  # orthogonal to both columns of S (three classes), so adding A U^T still erases
    for seed in range(20):
        A = 0.1 * torch.randn(
            6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        other = eraser.M + A @ U.T
        centred = x - x.mean(dim=0)
        assert cross(x - centred @ other.T, labels).abs().max() < 1e-9
        assert (centred @ other.T).square().sum() > change
    assert (fit_projection(x, labels)(x) - x).square().sum() > change


def test_leace_works_where_activations_do_not_fill_their_space():
    x, labels = draw(d=4)
    wide = torch.cat([x, x[:, :2] + x[:, 2:]], dim=1)
    assert cross(fit_leace(wide, labels)(wide), labels).abs().max() < 1e-8


def test_a_model_cannot_use_a_variable_that_was_erased():
    case = toys.load("unused_feature")
    batch, x = case.task.everything().distinct(), case.truth.variables["x"]
    stream = case.model.run_with_cache(batch.clean)[1][x.site].detach()
    eraser = fit_leace(stream[:, -1], x.compute(batch.clean))

    def erase(value, hook):
        value[:, -1] = eraser(value[:, -1])

    assert batch.accuracy(case.model) == 1.0
    erased = case.model.run_with_hooks(batch.clean, fwd_hooks=[(x.site, erase)])
    assert batch.correct(erased).float().mean() <= 1 / 8


def test_leace_is_that_of_the_published_implementation():
    stored = np.load(Path(__file__).parents[1] / "reference" / "concept_erasure_leace.npz")
    x, z, erased = (torch.from_numpy(stored[name]) for name in ("x", "z", "erased"))
    torch.testing.assert_close(fit_leace(x, z.argmax(dim=1))(x), erased)
    assert (erased - x).abs().max() > 0.1
