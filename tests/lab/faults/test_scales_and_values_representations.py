"""Test representations on odd scales and on values that nobody drew on.

These are probes, erasers, directions, dictionaries and lenses.
"""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mini_transformer import Config, Transformer
from mini_transformer.methods import (
    Dictionary,
    TunedLens,
    apply_logit_lens,
    attribute_logits,
    describe_unit,
    find_max_activating,
    fit_ccs,
    fit_contrast_directions,
    fit_inlp,
    fit_leace,
    fit_mean_difference,
    fit_principal_directions,
    fit_probe,
    fit_projection,
    fit_supervised_dictionary,
    fit_tuned_lens,
    measure_answer_rank,
    measure_divergence,
    measure_selectivity,
    measure_share_of_second,
    measure_units,
    sample_bands,
    scale_features,
    synthesize_input,
    train_dictionary,
)
from mini_transformer.methods.looking.activation_statistics import StreamedMoments
from mini_transformer.methods.representations.logistic_regression import run_layers

TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 1, 2]])
SITE = ("resid_post", 0)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def build(**changed):
    return Transformer(
        Config(**{"d_vocab": 9, "n_ctx": 6, "d_model": 8, "n_layers": 1} | changed), seed=1
    )


def label(n=600, n_classes=2):
    labels = torch.arange(n) % n_classes
    x = draw(n, 6)
    x[:, 1] += 3 * labels
    return x, labels


def covary(x, labels):
    """Correlate each axis with each class, in standard deviations of the axis."""
    x = x.double()
    one_hot = torch.nn.functional.one_hot(labels).double()
    return ((x - x.mean(dim=0)) / x.std(dim=0)).T @ (one_hot - one_hot.mean(dim=0)) / len(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [3e3, 1e6, 1e10])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_leace_erases_a_label_beside_a_loud_dimension(dtype, ratio, n_classes):
    x, labels = label(n_classes=n_classes)
    x = (x * torch.tensor([ratio, 1, 1, 1, 1, 1])).to(dtype)
    assert covary(x, labels).abs().max() > 0.3
    assert covary(fit_leace(x, labels)(x), labels).abs().max() < 1e-6


def test_leace_erases_a_label_beside_a_loud_direction_that_is_no_axis():
    x, labels = label()
    rotation = torch.linalg.qr(draw(6, 6, seed=1)).Q
    x = (x * torch.tensor([3e3, 1, 1, 1, 1, 1]) @ rotation).float()
    erased = fit_leace(x, labels)(x).double() @ rotation.T
    assert covary(erased, labels)[1].abs().max() < 1e-4


def test_leace_leaves_out_what_is_rounding_and_changes_nothing_across_it():
    x, labels = label()
    wide = (x @ draw(6, 12, seed=2)).float()
    # The rank is full by rounding alone.
    assert int(torch.linalg.matrix_rank((wide - wide.mean(dim=0)).double())) == 12
    eraser = fit_leace(wide, labels)
    assert eraser.M.abs().max() < 10
    across = torch.linalg.svd(wide.double())[2][6:].float()
    assert (eraser.M @ across.T).abs().max() < 1e-5


@pytest.mark.parametrize("fit", [fit_leace, fit_projection, fit_inlp])
def test_a_label_that_has_no_covariance_is_not_erased(fit):
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    for offset in (0.1, 1000 / 3):  # which makes the covariance rounding, and not 0
        assert (
            fit((x + offset).repeat(7, 1), torch.tensor([0, 1, 1, 0]).repeat(7)).M.abs().max() == 0
        )


def test_projection_takes_out_a_quiet_difference_beside_a_loud_one():
    labels = torch.arange(600) % 3
    x = 1e-6 * draw(600, 3)
    x[:, 0] += 1e6 * (labels == 1)
    x[:, 1] += 1e-5 * (labels == 2)
    erased = fit_projection(x, labels)(x)
    means = torch.stack([erased[labels == c, 1].mean() for c in range(3)])
    assert means.max() - means.min() < 1e-8


def test_inlp_stops_at_the_majority_where_float32_rounds_it_up():
    labels = (torch.arange(300) % 3 == 0).long() + 2 * (torch.arange(300) % 3 == 1).long()
    x = draw(300, 3) * 0 + 1  # nothing to read: every probe is at 1/3, which float32 rounds up
    assert fit_inlp(x, labels).M.abs().max() == 0


def test_inlp_takes_out_every_dimension_that_a_probe_still_reads():
    x = draw(60, 3)
    labels = torch.arange(60) % 3
    x = 3 * torch.eye(3, dtype=torch.float64)[labels] + 0.1 * x
    x[:, 2] += 2 * labels
    erased = fit_inlp(x, labels, penalty=1e-3)(x)
    probe = fit_probe(erased, labels, penalty=1e-3)
    assert (probe.predict(erased) == labels).sum() <= 20


ODD = {
    "offset": lambda x: x + 1e3,
    "large offset": lambda x: x + 1e6,
    "huge": lambda x: x * 1e6,
    "tiny": lambda x: x * 1e-6,
    "loud": lambda x: x * torch.tensor([1e6, 1, 1, 1, 1, 1]),
    "a constant column": lambda x: torch.cat([x, x[:, :1] * 0 + 7], dim=1),
    "duplicates": lambda x: torch.cat([x, x, x], dim=1),
    "fewer rows than axes": lambda x: x[:8] @ draw(6, 20, seed=3),
}


@pytest.mark.parametrize("penalty", [1.0, 1e-6])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("odd", ODD)
def test_a_linear_probe_is_the_optimum(odd, n_classes, penalty):
    x, labels = label(240, n_classes)
    x = ODD[odd](x)
    labels = labels[: len(x)]
    probe = fit_probe(x, labels, penalty=penalty)
    W = probe.layers[0][0].clone().requires_grad_()
    mean = x.mean(dim=0)
    b = (probe.layers[0][1] + mean @ W.detach()).requires_grad_()
    scores = run_layers([(W, b)], x - mean)
    loss = (
        torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
        + penalty / 2 * W.square().sum()
    )
    slopes = torch.autograd.grad(loss, [W, b])
    # The loss could still fall by about slope^2 / curvature; a column's curvature is at least the
    # penalty.
    curvature = (x - mean).square().sum(dim=0)[:, None] / 100 + penalty
    assert (slopes[0].square() / curvature).sum() < 1e-9 * loss
    assert slopes[1].abs().max() < 1e-5


def test_a_probe_of_separable_classes_is_scikit_learns_at_a_tiny_penalty():
    x = draw(200, 5)
    labels = (x[:, 0] > 0).long()
    probe = fit_probe(x, labels, penalty=1e-8)
    peer = LogisticRegression(C=1e8, tol=1e-12, max_iter=1000, solver="newton-cholesky").fit(
        x.numpy(), labels.numpy()
    )
    torch.testing.assert_close(probe.directions, torch.from_numpy(peer.coef_), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("hidden", [None, 32])
def test_a_mean_changes_the_bias_only(hidden):
    x = draw(400, 4)
    labels = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long() if hidden else (x[:, 0] > 0).long()
    assert fit_probe(x + 1000, labels, hidden).accuracy(x + 1000, labels) > 0.97


def test_a_class_of_one_row_is_in_the_half_that_trains():
    labels = torch.tensor([0] * 50 + [1] + [2] * 50)
    for seed in range(6):
        measure_selectivity(draw(101, 4), labels, torch.arange(101) % 7, seed=seed)
    with pytest.raises(ValueError, match="the training half of the 4 rows has 2, but must hold"):
        measure_selectivity(draw(4, 2), torch.tensor([0, 1, 2, 0]), torch.arange(4))


def test_principal_directions_beside_a_loud_one():
    x = draw(200, 3, dtype=torch.float32) * torch.tensor([1e9, 1.0, 1e-3])
    found = fit_principal_directions(x, 3)
    torch.testing.assert_close(found.directions.abs(), torch.eye(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_is_no_direction_in_any_dtype(dtype):
    x = (draw(200, 3) @ draw(3, 12, seed=1)).to(dtype)
    fit_principal_directions(x, 3)
    with pytest.raises(ValueError, match="must be from 1 to 3"):
        fit_principal_directions(x, 4)


def test_contrasts_are_found_where_the_positive_set_is_zero():
    difference = fit_contrast_directions(torch.zeros(20, 3), 1e-6 * torch.ones(20, 3)).directions
    torch.testing.assert_close(difference, torch.full((1, 3), -(3**-0.5)))


def test_a_quiet_mean_difference_beside_a_loud_axis():
    loud = torch.tensor([1e8, 0.0])
    found = fit_mean_difference(loud.repeat(3, 1) + torch.tensor([0.0, 1.0]), loud.repeat(3, 1))
    assert found.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_consistent_search_does_not_depend_on_scale_or_on_constants(scale):
    truth = torch.tensor([1.0, -1.0] * 20)[:, None]
    other = draw(40, 2, dtype=torch.float32)
    positive = torch.cat([truth, other], 1)
    negative = torch.cat([-truth, other], 1)
    reference = fit_ccs(positive, negative, steps=50)
    constant = torch.full((40, 1), 0.1 * scale)
    found = fit_ccs(
        torch.cat([positive * scale, constant], 1),
        torch.cat([negative * scale, constant], 1),
        tries=1,
        steps=300,
    )
    assert found[:3].isfinite().all()
    cosine = torch.cosine_similarity(found[:3], reference, dim=0).abs()
    assert cosine > 0.9


def test_pairs_that_do_not_differ_have_no_consistent_direction():
    x = draw(20, 3, dtype=torch.float32)
    with pytest.raises(ValueError, match="are the same once each set is centred and scaled"):
        fit_ccs(x + 5, x - 5)


def test_latents_that_are_listed_twice_count_once():
    model = build()
    eye = torch.eye(8)
    zeros = torch.zeros(8)
    axes = Dictionary(eye, zeros, eye, zeros, zeros, zeros)
    once = scale_features(model, TOKENS, SITE, axes, [3, 0], position=None)
    for twice in ([3, 0, 3], torch.tensor([3, 3, 0])):
        assert torch.equal(scale_features(model, TOKENS, SITE, axes, twice, position=None), once)


def test_a_dictionary_with_fewer_latents_than_k_keeps_all():
    eye, zeros = torch.eye(2), torch.zeros(2)
    assert Dictionary(eye, zeros, eye, zeros, zeros, zeros, k=5).encode(
        torch.ones(1, 2)
    ).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    "architecture", ["l1", "topk", "batchtopk", "matryoshka", "gated", "jumprelu"]
)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_dictionary_of_constants_gives_the_constant_and_unit_directions(architecture, value):
    x = torch.full((20, 4), value)
    found = train_dictionary(x, 8, architecture, steps=40)
    torch.testing.assert_close(found.decode(found.encode(x)), x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.W_dec.norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_a_dictionary_does_not_depend_on_the_unit(scale):
    x = (draw(300, 4, dtype=torch.float32) - 0.5).relu()
    expected = train_dictionary(x, 6, steps=100)
    found = train_dictionary(x * scale, 6, steps=100)
    assert found.explained_variance(x * scale) == pytest.approx(
        expected.explained_variance(x), abs=0.02
    )


def test_a_supervised_dictionary_does_not_read_rounding():
    codes = (draw(300, 3) - 0.3).relu().float()
    x = codes @ draw(3, 12, seed=1).float()
    found = fit_supervised_dictionary(x, codes)
    exact = fit_supervised_dictionary(x.double(), codes.double())
    torch.testing.assert_close(
        found.W_enc, fit_supervised_dictionary(x * 1e-12, codes).W_enc, rtol=1e-3, atol=1e-4
    )
    assert found.W_enc.norm() < 1.01 * exact.W_enc.norm()


def test_codes_that_depend_on_each_other_up_to_rounding_are_refused():
    codes = draw(50, 2).float().abs()
    third = (0.3 * codes[:, :1] + 0.7 * codes[:, 1:]).float()
    with pytest.raises(ValueError, match="depend on each other"):
        fit_supervised_dictionary(draw(50, 4).float(), torch.cat([codes, third], dim=1))


def test_a_latent_that_changes_nothing_has_a_direction_of_zero_and_a_share_of_nan():
    codes = (draw(300, 2) - 0.3).relu()
    x = codes[:, :1] * torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = fit_supervised_dictionary(x, codes)
    assert found.W_dec[1].tolist() == [0.0, 0.0]
    shares = measure_share_of_second(found, 1)
    assert shares[0].item() == pytest.approx(2 / 3)
    assert shares[1].isnan()


def test_a_token_that_can_never_come_adds_nothing_to_a_divergence():
    model = build(biases=True)
    model.b_U.data[4] = -math.inf
    found = measure_divergence(apply_logit_lens(model, TOKENS))
    assert found[-1] == 0
    assert found.isfinite().all()
    assert fit_tuned_lens(model, TOKENS, steps=3).A.isfinite().all()


def test_a_stream_that_rules_out_what_comes_diverges_by_infinity():
    logits = torch.tensor([[0.0, -math.inf], [0.0, 0.0]]).view(2, 1, 1, 2)
    assert measure_divergence(logits).tolist() == [math.inf, 0.0]


def test_the_check_of_a_lens_holds_beside_a_token_that_can_never_come():
    model = build(biases=True, norm="layer")
    model.b_U.data[4] = -math.inf
    with (
        pytest.raises(ValueError, match="the last stream does not give the model's own logits"),
        model.hooks([("ln_final.hook_normalized", lambda x, hook: 1.001 * x)]),
    ):
        apply_logit_lens(model, TOKENS)


def test_nan_never_ranks_first():
    logits = torch.tensor([1.0, math.nan, -math.inf, -math.inf]).view(1, 1, 1, 4)
    ranks = [measure_answer_rank(logits, torch.tensor([token])).item() for token in range(4)]
    assert ranks == [2, 4, 4, 4]


def test_attribution_to_a_token_that_can_never_come_is_infinite_in_the_bias_only():
    model = build(biases=True)
    model.b_U.data[4] = -math.inf
    cache = model.run_with_cache(TOKENS)[1]
    parts = attribute_logits(model, cache, torch.full((3,), 4))
    assert parts.pop("bias").tolist() == [-math.inf] * 3
    assert all(part.isfinite().all() for part in parts.values())
    assert (
        attribute_logits(model, cache, torch.full((3,), 4), torch.full((3,), 4))["bias"]
        .isnan()
        .all()
    )


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_hook_is_found_whatever_the_size_of_the_logits(size):
    model = build(norm="layer")
    model.W_U.data *= size
    attribute_logits(model, model.run_with_cache(TOKENS)[1], TOKENS[:, 0])
    with model.hooks([("ln_final.hook_normalized", lambda x, hook: 1.001 * x)]):
        cache = model.run_with_cache(TOKENS)[1]
    with pytest.raises(ValueError, match="a hook changed what the final norm put out"):
        attribute_logits(model, cache, TOKENS[:, 0])


def test_no_hook_is_blamed_where_large_writers_cancel():
    model = build(norm="layer")
    model.W_E.data += 1e4  # along the mean, which the final norm takes out
    attribute_logits(model, model.run_with_cache(TOKENS)[1], TOKENS[:, 0])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8 + 0.1])
def test_a_unit_that_never_varies_has_no_spread(value):
    moments = StreamedMoments(0.0)
    for n in (7, 3, 11):
        moments.add(torch.full((n, 1), value, dtype=torch.float64))
    found = moments.summarize(torch.zeros(1, 1), torch.float64)
    assert (found.mean.item(), found.std.item()) == (value, 0.0)


def test_nan_activations_are_no_examples():
    model = build()
    model.W_E.data[1] = math.nan
    found = find_max_activating(model, TOKENS[:, :1], "embed", k=3, position=None)
    assert found.prompt.tolist() == [
        [1, 2, -1] if high else [2, 1, -1] for high in model.W_E[4] >= model.W_E[7]
    ]
    assert found.value[:, 2].isnan().all()


def test_every_band_of_a_constant_holds_it():
    model = build()
    model.W_E.data.fill_(0.1)
    bands = sample_bands(model, TOKENS, "embed", k=2, position=None)
    assert all((band.value == model.W_E[0, 0]).all() for band in bands)
    assert (measure_units(model, TOKENS, "embed", position=None).std == 0).all()


@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e14])
def test_a_description_does_not_depend_on_the_unit(scale):
    tokens = torch.randint(4, (60, 3), generator=torch.Generator().manual_seed(0))
    says = {f"is {i}": (lambda t, i=i: t == i) for i in range(4)}
    found = describe_unit(tokens, scale * (tokens == 2).double(), says, shuffles=1, position=None)
    assert str(found.formula) == "is 2"
    assert found.fit.explained_variance == pytest.approx(1.0)


def test_a_description_of_a_unit_far_from_zero_is_not_rounded():
    tokens = torch.randint(4, (60, 3), generator=torch.Generator().manual_seed(0))
    says = {f"is {i}": (lambda t, i=i: t == i) for i in range(4)}
    found = describe_unit(
        tokens, 1e7 + 0.1 * (tokens == 2).double(), says, shuffles=1, position=None
    )
    assert found.fit.explained_variance == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1.0])
def test_the_best_prompt_does_not_depend_on_the_unit_of_what_it_excites(scale):
    model = build()

    def logit(prompts):
        return scale * model(prompts)[:, -1, 3]

    everything = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    found = synthesize_input(model, torch.tensor([0, 0]), logit, steps=1, restarts=2)
    singles = (everything != found.tokens).sum(dim=1) <= 1
    assert found.value >= logit(everything[singles]).max().item() * (1 - 1e-5)


def test_what_is_fitted_does_not_change_with_what_was_given():
    eye, zeros = torch.eye(8), torch.zeros(8)
    x, labels = label()
    fitted = [Dictionary(eye, zeros, eye, zeros, zeros, zeros), TunedLens(eye[None], zeros[None])]
    fitted += [fit_leace(x, labels), fit_probe(x, labels)]
    before = [str(vars(one)) for one in fitted]
    for given in (eye, zeros, x):
        given.fill_(5.0)
    labels.fill_(0)
    assert [str(vars(one)) for one in fitted] == before
