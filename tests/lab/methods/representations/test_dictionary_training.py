"""Every architecture finds planted features; transcoders and crosscoders, too.

Checked against: planted features and codes, a random dictionary, and a supervised one.
"""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import (
    measure_share_of_second,
    train_crosscoder,
    train_dictionary,
    train_transcoder,
)
from mini_transformer.methods.representations.sparse_losses import LOSSES, Draft
from mini_transformer.toys.hand_set.planted_features import draw_activations


@pytest.fixture(scope="module")
def planted():
    case = toys.load("planted_features")
    activations, codes = draw_activations(case, 10_000)
    return activations, codes, case.truth.features.directions


# Enough for each architecture: those that count their codes learn faster than those that pay.
LENGTHS = {
    "batchtopk": {"steps": 600, "batch": 256},
    "matryoshka": {"steps": 600, "batch": 256},
    "gated": {"steps": 1000, "batch": 256},
    "jumprelu": {"steps": 1500, "batch": 128},
    "l1": {"steps": 1500, "batch": 256},
}


def share_found(dictionary, directions):
    return ((dictionary.W_dec @ directions.T).amax(dim=0) > 0.9).float().mean().item()


def test_topk_finds_at_least_95_of_100_planted_features_from_two_seeds(planted):
    activations, _, directions = planted
    for seed in (0, 1):
        dictionary = train_dictionary(activations, 128, "topk", seed=seed, steps=600, batch=256)
        assert share_found(dictionary, directions) >= 0.95
        assert dictionary.explained_variance(activations) > 0.9
        assert (dictionary.encode(activations) > 0).sum(dim=1).max() <= 4
    random = train_dictionary(activations, 128, "topk", steps=1)
    assert share_found(random, directions) < 0.05


@pytest.mark.parametrize(
    "architecture", [architecture for architecture in LOSSES if architecture != "topk"]
)
def test_every_architecture_finds_nearly_all_planted_features_with_few_codes(planted, architecture):
    activations, _, directions = planted
    dictionary = train_dictionary(activations, 128, architecture, k=3, **LENGTHS[architecture])
    assert share_found(dictionary, directions) >= 0.9
    assert dictionary.explained_variance(activations) > 0.85
    assert (dictionary.encode(activations) > 0).float().sum(
        dim=1
    ).mean() < 16  # of 128; truly active are 2.5
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(128))


def test_a_seed_gives_the_same_dictionary_and_another_seed_another(planted):
    first, again, other = (
        train_dictionary(planted[0], 16, k=2, steps=20, seed=seed).W_dec for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_training_restarts_the_latents_that_did_not_fire_and_stops_doing_so(planted, monkeypatch):
    restarted = []
    monkeypatch.setattr(Draft, "restart", lambda draft, dead, *rest: restarted.append(dead.clone()))
    train_dictionary(planted[0][:500], 512, "topk", k=1, steps=20, batch=16)
    assert len(restarted) == 6  # every tenth of the run, until 60% of it
    assert all(0 < dead.sum() < 512 for dead in restarted)


@pytest.mark.parametrize(
    "train", [train_dictionary, train_crosscoder], ids=["one model", "two models"]
)
def test_a_crosscoder_pays_for_its_decoders_in_each_model_apart(planted, monkeypatch, train):
    drafts, start = [], Draft.start
    monkeypatch.setattr(Draft, "start", lambda *given: drafts.append(start(*given)) or drafts[0])
    wide, narrow = planted[0][:50], planted[0][:50, :20]
    train(wide, narrow, 8, "l1", steps=1) if train is train_crosscoder else train(
        wide, 8, "l1", steps=1
    )
    assert list(drafts[0].widths) == ([32, 20] if train is train_crosscoder else [32])


def test_a_transcoder_finds_the_neurons_of_a_planted_layer():
    generator = torch.Generator().manual_seed(0)
    reads, writes = (
        torch.nn.functional.normalize(torch.randn(6, 8, generator=generator)) for _ in range(2)
    )
    x = torch.randn(5000, 8, generator=generator)
    y = (x @ reads.T - 1.0).relu() @ writes
    transcoder = train_transcoder(x, y, 12, k=6, steps=1500)
    assert (transcoder.W_dec @ writes.T).amax(dim=0).min() > 0.9
    assert transcoder.explained_variance(x, y) > 0.95
    owners = (transcoder.W_dec @ writes.T).argmax(dim=0)
    read = torch.nn.functional.normalize(transcoder.W_enc[:, owners].T)
    assert (read * reads).sum(dim=1).min() > 0.8


def test_a_crosscoder_tells_shared_features_from_those_of_one_model():
    generator = torch.Generator().manual_seed(0)
    here, there = (
        torch.nn.functional.normalize(torch.randn(12, 16, generator=generator)) for _ in range(2)
    )
    codes = (torch.rand(8000, 12, generator=generator) - 0.85).relu() * 5
    here[8:10], there[10:] = (
        0,
        0,
    )  # features 8 and 9 are in the second model only, 10 and 11 in the first
    for architecture, settings in (("topk", {"k": 3}), ("l1", {"penalty": 0.05})):
        crosscoder = train_crosscoder(
            codes @ here, codes @ there, 16, architecture, steps=1000, batch=256, **settings
        )
        both = torch.nn.functional.normalize(torch.cat([here, there], dim=1))
        cosines, owners = (crosscoder.W_dec @ both.T).max(dim=0)
        share = measure_share_of_second(crosscoder, 16)[owners]
        assert cosines.min() > 0.9, architecture
        assert (share[:8] - 0.5).abs().max() < 0.15, architecture
        assert share[8:10].min() > 0.85, architecture
        assert share[10:].max() < 0.15, architecture
