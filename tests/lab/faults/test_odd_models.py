"""Test that odd models in odd modes get what they should, or one sentence.

Every public function is tried.
"""

import pytest
import torch
from every_call import CALLS, name_function
from odd_models import MODES, ODD_MODELS, choose_modes, describe, find_faults

from mini_transformer import methods

# Each function is tried on each model in a quarter of the modes, another one on the next model.
SHARE = 4


def test_every_public_function_is_called():
    functions = {name for name in methods.__all__ if not isinstance(getattr(methods, name), type)}
    assert {name_function(call) for call in CALLS} == functions


def test_every_mode_is_tried_on_several_models_with_every_call():
    tried = {
        mode: sum(mode in choose_modes(model, "steer", SHARE) for model in ODD_MODELS)
        for mode in MODES
    }
    assert all(
        count >= len(ODD_MODELS) // SHARE for mode, count in tried.items() if not MODES[mode].uses
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", ODD_MODELS)
def test_no_function_crashes_or_errs_silently(model):
    faults = find_faults([model], share=SHARE)
    assert not faults, "\n" + describe(faults)


def test_a_crash_is_found(monkeypatch):
    monkeypatch.setattr(methods, "score_sink", lambda model, tokens: [][0])
    (fault,) = find_faults(["base"], ["plain"], ["score_sink"])
    assert "IndexError" in fault.text


def test_a_silent_nan_is_found(monkeypatch):
    monkeypatch.setattr(methods, "score_sink", lambda model, tokens: model.W_E.log())
    (fault,) = find_faults(["base"], ["plain"], ["score_sink"])
    assert "is nan" in fault.text


def test_draws_in_the_dtype_of_the_model_are_found(monkeypatch):
    def draw(model, draws):
        return torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=model.W_E.dtype)

    monkeypatch.setattr(methods, "score_random_composition", draw)
    (fault,) = find_faults(["base"], ["float64"], ["score_random_composition"])
    assert "differs" in fault.text


def test_a_tolerance_in_the_units_of_the_metric_is_found(monkeypatch):
    def measure(model, tokens, metric, *others):
        return metric(model(tokens)).mean().clamp(min=1e-3)

    monkeypatch.setattr(methods, "measure_saliency", measure)
    (fault,) = find_faults(["base"], ["small unit"], ["measure_saliency"])
    assert "differs" in fault.text


def test_an_error_of_pythons_own_is_no_sentence(monkeypatch):
    monkeypatch.setattr(
        methods, "score_sink", lambda model, tokens: dict(zip(*[[1, 2], [3, 4]], strict=True))[5]
    )
    (fault,) = find_faults(["base"], ["plain"], ["score_sink"])
    assert "KeyError" in fault.text
