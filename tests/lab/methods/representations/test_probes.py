"""Probes: labels that are planted or random, and a variable that nobody reads.

Checked against: scikit-learn's LogisticRegression, labels that are planted or random, and a
hand-set variable.
"""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mini_transformer import toys
from mini_transformer.methods import (
    draw_control_labels,
    fit_probe,
    measure_selectivity,
)


def draw(n=300, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64), generator


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("penalty", [0.3, 10.0])
def test_a_linear_probe_is_scikit_learns_logistic_regression(n_classes, penalty):
    x, generator = draw(seed=n_classes)
    noisy = x @ torch.randn(5, n_classes, generator=generator, dtype=torch.float64)
    labels = (noisy + torch.randn(noisy.shape, generator=generator, dtype=torch.float64)).argmax(
        dim=1
    )
    probe = fit_probe(x, labels, penalty=penalty)
    peer = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(
        x.numpy(), labels.numpy()
    )
    torch.testing.assert_close(probe.directions, torch.from_numpy(peer.coef_), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        probe.score(x).softmax(dim=1),
        torch.from_numpy(peer.predict_proba(x.numpy())),
        atol=1e-5,
        rtol=1e-3,
    )


def test_an_mlp_probe_reads_the_xor_that_no_linear_one_does():
    x, _ = draw(600, 2)
    labels = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()
    held_out, _ = draw(400, 2, seed=1)
    expected = ((held_out[:, 0] > 0) ^ (held_out[:, 1] > 0)).long()
    assert fit_probe(x, labels, hidden=32).accuracy(held_out, expected) > 0.9
    assert fit_probe(x, labels).accuracy(held_out, expected) < 0.65


def test_a_type_has_one_control_label_and_types_have_the_labels_frequencies():
    types = torch.arange(2000).repeat(2)
    labels = (torch.arange(4000) % 4 == 0).long()
    control = draw_control_labels(types, labels, seed=3)
    assert torch.equal(control[:2000], control[2000:])
    assert 0.2 < control.float().mean() < 0.3
    assert not torch.equal(control, draw_control_labels(types, labels, seed=4))


def test_a_label_that_is_there_is_selective_and_one_that_is_learned_by_heart_is_not():
    types = torch.arange(40).repeat(20)
    one_hot = torch.nn.functional.one_hot(types).double()
    in_direction = torch.cat([one_hot.new_zeros(800, 1), one_hot], dim=1)
    labels = types % 2
    assert (
        abs(measure_selectivity(one_hot, labels, types, penalty=0.1)) < 0.05
    )  # tokens are known, so any label is
    in_direction[:, 0] = 2.0 * labels - 1
    noise = 0.3 * torch.randn(
        800, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert measure_selectivity(in_direction[:, :1] + noise, labels, types) > 0.3


def test_a_probe_reads_what_the_model_does_not():
    case = toys.load("unused_feature")
    batch, y = case.task.everything().distinct(), case.truth.variables["y"]
    stream = case.model.run_with_cache(batch.clean)[1][y.site][:, y.position].detach()
    labels = y.compute(batch.clean)
    probe = fit_probe(stream, labels)
    assert probe.accuracy(stream, labels) == 1.0
    inside = (probe.directions @ y.subspace.T).norm() / probe.directions.norm()
    assert inside > 0.8  # the classes also differ in the tokens that they do not share
