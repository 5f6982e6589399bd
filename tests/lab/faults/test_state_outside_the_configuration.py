"""What decides a model's output is in its configuration or its weights; what is in neither is never lost without a word."""

import pytest
import torch

from mini_transformer import Config, Transformer, checkpoints, toys, weights

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


def test_a_window_hides_all_but_the_last_positions():
    pattern = make_model(window=2).run_with_cache(TOKENS)[1]["pattern", 0][0, 0]
    assert torch.equal(pattern > 0, torch.ones(5, 5).tril().triu(-1).bool())


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


def test_a_seed_gives_the_same_weights_in_every_default_dtype():
    expected = make_model(positions="sinusoidal")
    torch.set_default_dtype(torch.float64)
    try:
        model = make_model(positions="sinusoidal")
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(model.W_E.float(), expected.W_E)
    assert torch.equal(model.W_pos.float(), expected.W_pos)


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
