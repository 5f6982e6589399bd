"""Test labels, dtypes, modes and devices that people have.

Probes, erasers, dictionaries, lenses and alignments take them all.
"""

import contextlib

import pytest
import torch

from mini_transformer import Config, Transformer, methods

SITE = ("resid_post", 0)
BASE = torch.randint(9, (8, 5), generator=torch.Generator().manual_seed(0))
SOURCE = BASE.flip(0)
ANSWERS = BASE[:, 0]
LABELS = torch.arange(40) % 2
ROWS = torch.randn(40, 8, generator=torch.Generator().manual_seed(1)) + LABELS[:, None]
EYE, ZEROS = torch.eye(8), torch.zeros(8)
DICTIONARY = methods.Dictionary(EYE, ZEROS, EYE, ZEROS, ZEROS, ZEROS)
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
FITS = {
    "leace": lambda x: methods.fit_leace(x, LABELS),
    "projection": lambda x: methods.fit_projection(x, LABELS),
    "inlp": lambda x: methods.fit_inlp(x, LABELS),
    "probe": lambda x: methods.fit_probe(x, LABELS).score,
    "mlp": lambda x: methods.fit_probe(x, LABELS, hidden=32).score,
    "principal directions": lambda x: methods.fit_principal_directions(x, 2).project,
    "dictionary": lambda x: methods.train_dictionary(x, 12, steps=20).encode,
    "supervised": lambda x: methods.fit_supervised_dictionary(x, x[:, :3].relu()).encode,
}
GRADIENTS = {"inlp", "probe", "mlp", "dictionary"}


def build(dtype=torch.float32):
    config = Config(
        d_vocab=9, n_ctx=5, d_model=8, n_layers=2, n_heads=2, d_mlp=8, norm="layer", biases=True
    )
    return Transformer(config, seed=1).to(dtype)


def attribute(method):
    return lambda model: method(model, model.run_with_cache(BASE)[1], ANSWERS)


RUNS = {
    "swap": lambda m: methods.swap_subspace(m, BASE, SOURCE, EYE[:2], SITE),
    "align": lambda m: methods.fit_das(m, BASE, SOURCE, ANSWERS, SITE, 2, steps=3),
    "boundless": lambda m: methods.fit_boundless_das(m, BASE, SOURCE, ANSWERS, SITE, steps=3),
    "nonlinear": lambda m: (
        methods.fit_nonlinear_alignment(m, BASE, SOURCE, ANSWERS, SITE, 2, steps=3).rows
    ),
    "scale": lambda m: methods.scale_features(m, BASE, SITE, DICTIONARY, [0], position=None),
    "tuned lens": lambda m: methods.apply_tuned_lens(
        m, BASE, methods.fit_tuned_lens(m, BASE, steps=3)
    ),
    "logit lens": lambda m: methods.apply_logit_lens(m, BASE),
    "components": lambda m: attribute(methods.attribute_logits)(m)["m1"],
    "neurons": attribute(methods.attribute_logits_to_neurons),
    "sources": attribute(methods.attribute_logits_to_sources),
    "patchscope": lambda m: methods.apply_patchscope(m, BASE, SOURCE, 1),
    "units": lambda m: methods.measure_units(m, BASE, SITE, position=None).quantiles,
    "codes": lambda m: methods.measure_units(m, BASE, SITE, DICTIONARY, position=None).mean,
    "bands": lambda m: methods.sample_bands(m, BASE, SITE, k=2, position=None)[
        0
    ].value.nan_to_num(),
    "synthesis": lambda m: torch.tensor(
        methods.synthesize_input(m, BASE[0], lambda p: m(p)[:, -1, 3], steps=3).value
    ),
}
TRAINED = {"align", "boundless", "nonlinear", "tuned lens", "synthesis"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", RUNS)
def test_a_method_takes_a_model_of_any_dtype(name, dtype):
    found = RUNS[name](build(dtype))
    reference = RUNS[name](build())
    assert found.isfinite().all()
    if dtype == torch.float64 and name != "boundless":
        torch.testing.assert_close(found.float(), reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_a_method_works_within_autocast(name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert RUNS[name](build()).isfinite().all()


@pytest.mark.parametrize("name", RUNS)
def test_inference_mode_rules_out_what_needs_gradients_only(name):
    model = build()
    refused = (
        pytest.raises(ValueError, match="inference_mode")
        if name in TRAINED
        else contextlib.nullcontext()
    )
    with torch.inference_mode(), refused:
        RUNS[name](model)
    with torch.no_grad():
        RUNS[name](model)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("other", FLOATS)
def test_what_was_fitted_in_one_dtype_works_in_another(name, dtype, other):
    found = FITS[name](ROWS.to(dtype))(ROWS.to(other))
    assert found.dtype == other
    assert found.isfinite().all()


@pytest.mark.parametrize("name", FITS)
def test_fits_and_inference_mode(name):
    with torch.inference_mode():
        rows = ROWS + 0
        refused = (
            pytest.raises(ValueError, match="inference_mode")
            if name in GRADIENTS
            else contextlib.nullcontext()
        )
        with refused:
            FITS[name](rows)
    fitted = FITS[name](rows)  # activations that were made there work outside
    if name not in GRADIENTS:
        with torch.inference_mode():
            fitted = FITS[name](rows)
    fitted(ROWS.clone().requires_grad_()).sum().backward()  # and so does what was fitted there


@pytest.mark.parametrize("name", [*FITS, *RUNS])
def test_whatever_the_default_dtype_and_device_the_results_are_the_same(name):
    model = build()
    call = (lambda: FITS[name](ROWS)(ROWS)) if name in FITS else (lambda: RUNS[name](model))
    expected = call()
    if name != "synthesis":  # its wrapper above makes a tensor
        with torch.device("meta"):
            assert torch.equal(call(), expected)
    try:
        torch.set_default_dtype(torch.float64)
        found = call()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.float(), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("hidden", [None, 32])
def test_labels_may_be_bool_or_any_whole_number(dtype, hidden):
    expected = methods.fit_probe(ROWS, LABELS, hidden)
    found = methods.fit_probe(ROWS, LABELS.to(dtype), hidden)
    assert torch.equal(found.layers[0][0], expected.layers[0][0])
    assert found.accuracy(ROWS, LABELS.to(dtype)) == expected.accuracy(ROWS, LABELS)


@pytest.mark.parametrize("fit", [methods.fit_leace, methods.fit_projection, methods.fit_inlp])
def test_erasers_take_bool_labels(fit):
    assert torch.equal(fit(ROWS, LABELS == 1).M, fit(ROWS, LABELS).M)


def test_selectivity_takes_bool_labels():
    types = torch.arange(40) % 7
    expected = methods.measure_selectivity(ROWS, LABELS, types)
    assert methods.measure_selectivity(ROWS, LABELS == 1, types) == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
def test_answers_of_any_whole_type_are_answers_and_no_mask(dtype):
    model = build()
    answers = torch.tensor([0, 1] * 4)
    logits = methods.apply_logit_lens(model, BASE)
    assert torch.equal(
        methods.measure_answer_rank(logits, answers.to(dtype)),
        methods.measure_answer_rank(logits, answers),
    )
    cache = model.run_with_cache(BASE)[1]
    expected = methods.attribute_logits(model, cache, answers)
    found = methods.attribute_logits(model, cache, answers.to(dtype))
    assert all(torch.equal(found[part], expected[part]) for part in expected)
