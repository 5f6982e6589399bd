"""Rewritten weights: the same function, a new model, and the property that the rewriting is for."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from sample_models import CONFIGS, draw_tokens, scramble

from mini_transformer import Config, Transformer, checkpoints, toys, weights
from mini_transformer.weights import center_unembed, center_writing_weights, check_same, fold_norms

Rewrite = Callable[[Transformer], Transformer]
FITS: dict[Rewrite, list[str]] = {
    fold_norms: [
        key for key, c in CONFIGS.items() if c.norm != "none" and c.positions_to == "stream"
    ],
    center_writing_weights: [key for key, c in CONFIGS.items() if c.norm == "layer"],
    center_unembed: list(CONFIGS),
}
ODD_ONES = {  # combinations that need the result to have another configuration
    "tied_layer": dataclasses.replace(CONFIGS["layer_norm_relu_biases"], tied=True, biases=False),
    "sinusoidal_layer": dataclasses.replace(
        CONFIGS["layer_norm_relu_biases"], positions="sinusoidal"
    ),
    "sinusoidal_qk_layer": dataclasses.replace(CONFIGS["sinusoidal_positions_to_qk"], norm="layer"),
}
FITS[fold_norms] += ["tied_layer", "sinusoidal_layer"]
FITS[center_writing_weights] += list(ODD_ONES)
FITS[center_unembed] += list(ODD_ONES)
CASES = [(rewrite, which) for rewrite, keys in FITS.items() for which in keys]
REFUSALS = [
    (fold_norms, "plain", "this model has norm='none': there is nothing to fold"),
    (fold_norms, "learned_positions_to_qk", "positions_to='qk' adds positions after the norm"),
    (center_writing_weights, "plain", "only LayerNorm ignores the mean .* norm='none'"),
    (center_writing_weights, "rms_tied_full", "only LayerNorm ignores the mean .* norm='rms'"),
]


def config_of(which: str) -> Config:
    return (CONFIGS | ODD_ONES)[which]


@pytest.mark.parametrize(
    ("rewrite", "which"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_the_new_model_computes_the_same_and_the_old_one_is_untouched(
    rewrite: Rewrite, which: str
) -> None:
    model, tokens = scramble(config_of(which)), draw_tokens(config_of(which), seed=3)
    before, seed = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    new = rewrite(model)
    as_log_probabilities = rewrite is center_unembed
    given, expected = (
        m(tokens).log_softmax(-1) if as_log_probabilities else m(tokens) for m in (new, model)
    )
    torch.testing.assert_close(given, expected, rtol=1e-9, atol=1e-9)
    assert not {p.data_ptr() for p in new.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), seed)
    assert all(p.requires_grad and p.is_leaf for p in new.parameters())


@pytest.mark.parametrize("which", FITS[fold_norms])
def test_folded_norms_only_divide_by_the_scale(which: str) -> None:
    new = fold_norms(scramble(config_of(which)))
    _, cache = new.run_with_cache(draw_tokens(new.config))
    for name in [name for name in cache if "hook_normalized" in name]:
        x = cache[name]
        torch.testing.assert_close(x.pow(2).mean(-1), torch.ones_like(x[..., 0]), rtol=1e-2, atol=0)
        if new.config.norm == "layer":
            torch.testing.assert_close(x.mean(-1), torch.zeros_like(x[..., 0]))


@pytest.mark.parametrize("which", FITS[center_writing_weights])
def test_a_centred_stream_has_mean_zero_in_every_part(which: str) -> None:
    new = center_writing_weights(scramble(config_of(which)))
    saved = new.state_dict()
    new = Transformer(new.config).double()
    new.load_state_dict(
        saved
    )  # nothing may be centred that a checkpoint does not hold, such as fixed positions
    _, cache = new.run_with_cache(draw_tokens(new.config))
    for label, part in new.decompose(cache).items():
        assert part.mean(-1).abs().max() < 1e-12, label


@pytest.mark.parametrize("which", FITS[center_unembed])
def test_centred_logits_have_mean_zero(which: str) -> None:
    new = center_unembed(scramble(config_of(which)))
    assert new(draw_tokens(new.config)).mean(-1).abs().max() < 1e-12


def test_the_three_rewritings_follow_each_other_also_in_float32() -> None:
    model = scramble(CONFIGS["layer_norm_relu_biases"]).float()
    new = center_unembed(center_writing_weights(fold_norms(model)))
    tokens = draw_tokens(model.config)
    torch.testing.assert_close(
        new(tokens).log_softmax(-1), model(tokens).log_softmax(-1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("rewrite", "which", "sentence"), REFUSALS)
def test_a_rewriting_that_does_not_apply_says_why(
    rewrite: Rewrite, which: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        rewrite(scramble(CONFIGS[which]))


def test_a_rewriting_that_changes_the_output_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model = scramble(CONFIGS["layer_norm_relu_biases"])
    other = copy.deepcopy(model)
    other.b_U.data[0] += 1e-6
    with pytest.raises(ValueError, match="by more than rounding"):
        check_same(other, model)
    monkeypatch.setattr(
        weights, "center", lambda writers: [writer.data.mul_(1.001) for writer in writers]
    )
    with pytest.raises(ValueError, match="by more than rounding"):
        center_unembed(model)


SIZES = {"d_vocab": 7, "n_ctx": 5, "d_model": 6, "n_layers": 2, "n_heads": 3, "d_mlp": 4}
TOKENS = torch.tensor([[1, 2, 6, 0, 3]])


def make_model(**options) -> Transformer:
    return Transformer(Config(**SIZES, **options))


def save_and_load(model, folder) -> Transformer:
    return checkpoints.load(checkpoints.save(folder / "model.safetensors", model)).model


@pytest.mark.parametrize("name", toys.names())
def test_every_toy_computes_the_same_after_saving_loading_and_rebuilding(name, tmp_path):
    case = toys.load(name)
    tokens = case.task.draw(16).clean
    expected = case.model(tokens)
    own = Transformer(case.model.config)
    own.load_state_dict(case.model.state_dict())
    for model in (save_and_load(case.model, tmp_path), weights.rebuild(case.model), own):
        assert torch.equal(model(tokens), expected)


def test_the_facts_survive_a_rewriting_of_their_weights():
    case = toys.load("facts")
    batch = case.task.draw(256)
    assert batch.accuracy(weights.center_unembed(case.model)) == 1.0


def narrow(model):
    model.blocks[1].attn.mask[3, 1] = True


def rescale(model):
    model.blocks[0].attn.scale = 9.0


def unmask(model):
    model.blocks[0].attn.causal = False


def exchange_activation(model):
    model.blocks[1].mlp.act = torch.tanh


def move_positions(model):
    model.W_pos *= 2


def drop_mlp(model):
    model.blocks[0].mlp = None


@pytest.mark.parametrize(
    "change", [narrow, rescale, unmask, exchange_activation, move_positions, drop_mlp]
)
def test_a_model_changed_by_hand_where_nothing_holds_it_is_refused(change, tmp_path):
    model = make_model(positions="sinusoidal")
    change(model)
    with pytest.raises(checkpoints.CheckpointError, match=r"configuration"):
        checkpoints.save(tmp_path / "model.safetensors", model)
    with pytest.raises(ValueError, match=r"configuration"):
        weights.rebuild(model)
    assert not list(tmp_path.iterdir())


def test_weights_are_rewritten_as_they_are_also_where_hooks_edit_the_run():
    model = make_model(norm="layer")
    with model.hooks([("embed", lambda value, hook: value * 0)]):
        folded = weights.fold_norms(model)
        model(TOKENS)
    torch.testing.assert_close(folded(TOKENS), model(TOKENS))


def test_norms_with_a_dtype_of_their_own_keep_it(tmp_path):
    model = make_model(norm="layer").bfloat16()
    for block in model.blocks:
        block.ln1.float()
    for copied in (save_and_load(model, tmp_path), weights.rebuild(model)):
        assert {name: p.dtype for name, p in copied.named_parameters()} == {
            name: p.dtype for name, p in model.named_parameters()
        }
        assert torch.equal(copied(TOKENS), model(TOKENS))


def test_a_token_that_never_comes_survives_a_rewriting():
    model = make_model(norm="layer", biases=True)
    with torch.no_grad():
        model.b_U[4] = -torch.inf
    for rewritten in (
        weights.center_unembed(model),
        weights.fold_norms(model),
        weights.center_writing_weights(model),
    ):
        given = rewritten(TOKENS).log_softmax(dim=-1)
        torch.testing.assert_close(given, model(TOKENS).log_softmax(dim=-1))
