"""Dictionaries in use: codes, features in the model, and the supervised ceiling.

Checked against: planted codes, hooks written out, codes computed latent by latent, and those of
SAELens 6.54 on the same weights.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import Dictionary, ablate, fit_supervised_dictionary, scale_features
from mini_transformer.toys.hand_set.planted_features import draw_activations


def draw_dictionary(k=0, d=8, n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    W_dec = torch.nn.functional.normalize(draw(n, d))
    return Dictionary(W_dec.T.clone(), 0.3 * draw(n), W_dec, draw(d), draw(d), draw(n).abs(), k)


@pytest.fixture(scope="module")
def planted():
    case = toys.load("planted_features")
    activations, codes = draw_activations(case, 4000)
    return case, activations, codes


@pytest.mark.parametrize("k", [0, 3])
def test_codes_are_those_written_out_latent_by_latent(k):
    dictionary = draw_dictionary(k)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    codes, rebuilt = dictionary.encode(x), dictionary.decode(dictionary.encode(x))
    for i in range(5):
        pre = [
            max(
                0.0,
                ((x[i] - dictionary.centre) @ dictionary.W_enc[:, j] + dictionary.b_enc[j]).item(),
            )
            for j in range(12)
        ]
        kept = sorted(range(12), key=lambda j: -pre[j])[:k] if k else range(12)
        expected = [
            pre[j] if j in kept and (k or pre[j] > dictionary.threshold[j]) else 0.0
            for j in range(12)
        ]
        assert codes[i].tolist() == pytest.approx(expected)
        total = dictionary.b_dec.clone()
        for j in range(12):
            total += codes[i, j] * dictionary.W_dec[j]
        torch.testing.assert_close(rebuilt[i], total)


def test_explained_variance_is_one_for_a_perfect_and_zero_for_a_constant_dictionary():
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    zeros, eye = torch.zeros(3), torch.eye(3)
    assert Dictionary(eye, zeros, eye, zeros, zeros, zeros).explained_variance(x) == pytest.approx(
        1.0
    )
    silent = Dictionary(eye, zeros, eye, x.mean(dim=0), zeros, zeros + 9)
    assert silent.explained_variance(x) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("factor", "position"), [(0.0, None), (2.0, 1), (-1.0, -1), (0.5, [0, 4, 2])]
)
def test_scaling_features_is_adding_their_directions_one_by_one(model, clean, factor, position):
    dictionary, hook = draw_dictionary(), ("resid_post", 0)

    def put(value, hook):
        for i in range(value.shape[0]):
            several = [position[i]] if isinstance(position, list) else [position]
            for t in range(5) if position is None else several:
                codes = dictionary.encode(value[i, t].clone())
                for latent in (1, 4, 7):
                    value[i, t] += (factor - 1) * codes[latent] * dictionary.W_dec[latent]

    expected = model.run_with_hooks(clean, fwd_hooks=[(hook, put)])
    edited = scale_features(model, clean, hook, dictionary, [1, 4, 7], factor, position)
    torch.testing.assert_close(edited, expected.detach())
    assert (edited - model(clean)).abs().max() > 1e-3


def test_scaling_by_one_changes_nothing(model, clean):
    same = scale_features(model, clean, ("resid_post", 1), draw_dictionary(), [0, 5], 1.0, None)
    torch.testing.assert_close(same, model(clean).detach())


@pytest.mark.parametrize("position", [None, 1])
def test_taking_out_a_latent_of_an_exact_transcoder_is_ablating_a_neuron(clean, position):
    """The MLP itself as a transcoder: one latent per neuron."""
    model = Transformer(
        Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5, biases=True)
    )
    mlp = model.blocks[0].mlp
    exact = Dictionary(mlp.W_in, mlp.b_in, mlp.W_out, mlp.b_out, torch.zeros(8), torch.zeros(5))
    edited = scale_features(
        model, clean, ("mlp_out", 0), exact, [1, 4], 0.0, position, reads=("mlp_in", 0)
    )
    expected = ablate(
        model,
        clean,
        ["m0.n1", "m0.n4"],
        "zero",
        positions=None if position is None else [position],
    )
    torch.testing.assert_close(edited, expected)
    assert (edited - model(clean)).abs().max() > 1e-3


def test_taking_out_a_planted_feature_lowers_its_logit_by_what_it_wrote(planted):
    case, *_ = planted
    features, W = case.truth.features, case.truth.features.directions
    exact = Dictionary(
        W.T, torch.zeros(64), W, torch.zeros(32), torch.zeros(32), torch.zeros(64), k=1
    )
    batch = case.task.everything().distinct()  # one feature each
    ablated = batch.at_answer(
        scale_features(case.model, batch.clean, features.site, exact, range(64), 0.0, None)
    )
    doubled = batch.at_answer(
        scale_features(case.model, batch.clean, features.site, exact, range(64), 2.0, None)
    )
    with torch.no_grad():
        before = batch.at_answer(case.model(batch.clean))
    rows = torch.arange(64)
    assert before[rows, batch.answer].min() > 20
    assert ablated[rows, batch.answer].abs().max() < 1e-3
    torch.testing.assert_close(doubled, 2 * before)


def test_the_supervised_dictionary_knows_every_direction(planted):
    case, activations, codes = planted
    dictionary = fit_supervised_dictionary(activations, codes)
    torch.testing.assert_close(dictionary.W_dec, case.truth.features.directions, atol=1e-4, rtol=0)
    active, found = codes > 0, dictionary.encode(activations) > 0
    assert (
        found & active
    ).sum() / found.sum() > 0.7  # linear encoders cannot do it exactly: 64 features, 32 dimensions
    shuffled = fit_supervised_dictionary(
        activations, codes[torch.randperm(4000, generator=torch.Generator().manual_seed(0))]
    )
    wrong = shuffled.encode(activations) > 0
    assert (wrong & active).sum() / wrong.sum().clamp(min=1) < 0.2
