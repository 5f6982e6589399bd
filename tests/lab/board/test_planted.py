"""Planted variables: the posterior comes true, and the model reads what it should."""

import dataclasses

import pytest
import torch
from torch.distributions import MultivariateNormal

from mini_transformer.board.planted import HOOK, build_reader, draw_world, name_outcomes


def test_the_posterior_is_bayes_rule_and_what_it_says_comes_true():
    world = draw_world(3)
    chances = world.make_chances({1: 0.9})
    assert chances.sum() == pytest.approx(1)
    rows = world.draw(4000, chances, seed=1)
    labels = world.bits[:, 0]
    found = world.find_posterior(rows.x, chances, labels)
    densities = torch.stack(
        [
            MultivariateNormal(mean, world.covariance).log_prob(rows.x[:50].double())
            for mean in world.means
        ]
    )
    joint = (densities.T + chances.log()).softmax(dim=1)
    assert torch.allclose(found[:50, 1], joint[:, labels == 1].sum(dim=1), atol=1e-6)
    sure = (found[:, 1] > 0.6) & (found[:, 1] < 0.95)
    said, true = found[sure, 1].mean().item(), rows.bits[sure, 0].double().mean().item()
    assert said == pytest.approx(true, abs=0.06)
    same = (rows.bits[:, 1] == rows.bits[:, 0]).double().mean().item()
    assert same == pytest.approx(0.9, abs=0.02)


def test_no_axis_means_anything():
    world = draw_world(5)
    share = world.written.abs().amax(dim=1) / world.written.norm(dim=1)
    assert share.max() < 0.6
    assert (torch.corrcoef(world.covariance) - torch.eye(32)).abs().max() > 0.2


def test_the_model_reads_its_variables_and_no_other():
    world = draw_world(4, size=4.0)
    rows = world.draw(500, world.make_chances({}), seed=2)
    reads = (3, 1)
    model, writes = build_reader(world, rows, reads, seed=0)
    tokens = torch.arange(500)[:, None]
    logits, cache = model.run_with_cache(tokens)
    assert torch.equal(cache[HOOK][:, 0], rows.x)
    right = logits[:, 0].argmax(dim=1) == name_outcomes(rows, reads)
    assert right.double().mean() > 0.95
    readers = world.find_readers()
    assert torch.allclose(readers @ world.written.T, torch.eye(5).double(), atol=1e-8)
    assert (writes @ world.written.T).abs().max() < 1e-8
    for i in range(5):  # moved along what is written, the answer changes for what is read alone
        moved = []
        for far in (9, 18):
            shifted = dataclasses.replace(rows, x=rows.x + far * world.written[i].float())
            moved.append(build_reader(world, shifted, reads, seed=0)[0](tokens))
        assert ((moved[0] - logits).abs().max() > 1).item() == (i in reads)
        assert torch.allclose(moved[0], moved[1], atol=0.05)  # on is on, however far


def test_worlds_differ_by_seed_and_are_the_same_for_one():
    one, again, other = (draw_world(seed) for seed in (2**47 + 1, 2**47 + 1, 2**47 + 2))
    assert torch.equal(one.means, again.means)
    assert not torch.allclose(one.covariance, other.covariance)
