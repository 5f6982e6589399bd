"""The model equals its definition by slow loops, PyTorch's own encoder layer, and the identities
it promises.
"""

import copy
import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_models import CONFIGS, SIZES, draw_tokens, scramble
from torch import nn

from mini_transformer import Config, Transformer

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


class SlowTransformer:
    """One sequence at a time, one position at a time, one head at a time, in float64 NumPy."""

    def __init__(self, model: Transformer) -> None:
        self.c = model.config
        self.W = {name: p.detach().double().numpy() for name, p in model.named_parameters()}

    def norm(self, x, name):
        if self.c.norm == "none":
            return x
        if self.c.norm == "layer":
            x = x - sum(x) / len(x)
        rms = math.sqrt(sum(value * value for value in x) / len(x) + 1e-5)
        return x / rms * self.W[f"{name}.w"] + self.W.get(f"{name}.b", 0)

    def position(self, t):
        if self.c.positions == "learned":
            return self.W["W_pos"][t]
        columns = range(self.c.d_model) if self.c.positions == "sinusoidal" else []
        waves = [
            (math.cos if i % 2 else math.sin)(t / 10_000 ** (2 * (i // 2) / self.c.d_model))
            for i in columns
        ]
        return np.array(waves or [0.0] * self.c.d_model)

    def act(self, x):
        return max(x, 0.0) if self.c.act == "relu" else x / 2 * (1 + math.erf(x / math.sqrt(2)))

    def attend(self, stream, layer):
        """What attention adds at every position."""
        at = f"blocks.{layer}.attn."
        normalized = [self.norm(x, f"blocks.{layer}.ln1") for x in stream]
        with_pos = [x + self.position(t) for t, x in enumerate(normalized)]
        qk_reads = with_pos if self.c.positions_to == "qk" else normalized
        added = [np.array(self.W.get(f"{at}b_O", np.zeros(self.c.d_model))) for _ in stream]
        for n in range(self.c.n_heads):
            read = {
                kind: [
                    x @ self.W[f"{at}W_{kind}"][n] + self.W.get(f"{at}b_{kind}", [0] * (n + 1))[n]
                    for x in inputs
                ]
                for kind, inputs in (("Q", qk_reads), ("K", qk_reads), ("V", normalized))
            }
            for i, q in enumerate(read["Q"]):
                keys = range(i + 1) if self.c.causal else range(len(stream))
                scores = [q @ read["K"][j] / self.c.attn_scale for j in keys]
                weights = [math.exp(score - max(scores)) for score in scores]
                for j, weight in zip(keys, weights, strict=True):
                    added[i] += weight / sum(weights) * read["V"][j] @ self.W[f"{at}W_O"][n]
        return added

    def think(self, x, layer):
        """What the MLP adds at one position."""
        at = f"blocks.{layer}.mlp."
        out = np.array(self.W.get(f"{at}b_out", np.zeros(self.c.d_model)))
        y = self.norm(x, f"blocks.{layer}.ln2")
        for f in range(self.c.d_mlp):
            out += (
                self.act(y @ self.W[f"{at}W_in"][:, f] + self.W.get(f"{at}b_in", [0] * (f + 1))[f])
                * (self.W[f"{at}W_out"][f])
            )
        return out

    def logits(self, tokens):
        in_stream = self.c.positions_to == "stream"
        stream = [
            self.W["W_E"][token] + in_stream * self.position(t) for t, token in enumerate(tokens)
        ]
        for layer in range(self.c.n_layers):
            stream = [
                x + added for x, added in zip(stream, self.attend(stream, layer), strict=True)
            ]
            stream = [x + self.think(x, layer) if self.c.d_mlp else x for x in stream]
        W_U = self.W["W_E"].T if self.c.tied else self.W["W_U"]
        return [self.norm(x, "ln_final") @ W_U + self.W.get("b_U", 0) for x in stream]


def assert_equals_slow_loops(config: Config, tokens: torch.Tensor) -> None:
    model = scramble(config)
    slow = np.array([SlowTransformer(model).logits(sequence) for sequence in tokens.tolist()])
    # float64 throughout, except the fixed positions, which are computed in float32
    tolerance = 1e-5 if config.positions == "sinusoidal" else 1e-10
    np.testing.assert_allclose(model(tokens).detach().numpy(), slow, rtol=tolerance, atol=tolerance)


@every_config
def test_logits_equal_those_of_slow_loops(config: Config) -> None:
    assert_equals_slow_loops(config, draw_tokens(config))


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(
    st.builds(
        dict,
        d_vocab=st.integers(1, 9),
        n_ctx=st.integers(1, 6),
        d_model=st.integers(1, 7),
        n_layers=st.integers(0, 2),
        n_heads=st.integers(1, 3),
        d_head=st.integers(1, 4),
        d_mlp=st.integers(0, 5),
        act=st.sampled_from(["relu", "gelu"]),
        norm=st.sampled_from(["none", "layer", "rms"]),
        positions=st.sampled_from(["learned", "sinusoidal", "none"]),
        attn_scale=st.floats(0.5, 3),
        causal=st.booleans(),
        biases=st.booleans(),
        tied=st.booleans(),
    ),
    st.booleans(),
)
def test_any_configuration_equals_slow_loops(options: dict, qk: bool) -> None:
    if qk and options["positions"] != "none" and options["n_layers"]:
        options = options | {"positions_to": "qk"}
    config = Config(**options)
    assert_equals_slow_loops(config, draw_tokens(config, length=config.n_ctx))


@pytest.mark.parametrize("act", ["relu", "gelu"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_block_equals_the_encoder_layer_of_pytorch(act: str, causal: bool) -> None:
    config = Config(
        **SIZES | {"n_layers": 1}, d_mlp=8, act=act, norm="layer", biases=True, causal=causal
    )
    model, d = scramble(config), config.d_model
    block = model.blocks[0]
    theirs = nn.TransformerEncoderLayer(
        d,
        config.n_heads,
        config.d_mlp,
        dropout=0.0,
        activation=act,
        batch_first=True,
        norm_first=True,
    ).double()
    projections = [
        (block.attn.W_Q, block.attn.b_Q),
        (block.attn.W_K, block.attn.b_K),
        (block.attn.W_V, block.attn.b_V),
    ]
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat(
                [W.transpose(0, 1).reshape(d, d).T for W, _ in projections]
            ),
            "self_attn.in_proj_bias": torch.cat([b.flatten() for _, b in projections]),
            "self_attn.out_proj.weight": block.attn.W_O.reshape(d, d).T,
            "self_attn.out_proj.bias": block.attn.b_O,
            "linear1.weight": block.mlp.W_in.T,
            "linear1.bias": block.mlp.b_in,
            "linear2.weight": block.mlp.W_out.T,
            "linear2.bias": block.mlp.b_out,
            "norm1.weight": block.ln1.w,
            "norm1.bias": block.ln1.b,
            "norm2.weight": block.ln2.w,
            "norm2.bias": block.ln2.b,
        }
    )
    resid = torch.randn(2, 5, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = (
        nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64) if causal else None
    )
    torch.testing.assert_close(model(resid=resid, stop_at_layer=1), theirs(resid, src_mask=mask))


@every_config
def test_patching_the_whole_residual_stream_restores_the_clean_run(config: Config) -> None:
    model, clean, corrupt = (
        scramble(config),
        draw_tokens(config, seed=1),
        draw_tokens(config, seed=2),
    )
    logits, cache = model.run_with_cache(clean)
    assert not torch.allclose(logits, model(corrupt))
    for name in [name for name in cache if "hook_resid" in name]:
        patched = model.run_with_hooks(
            corrupt, fwd_hooks=[(name, lambda x, hook: cache[hook.name])]
        )
        assert torch.equal(patched, logits), name


@every_config
def test_a_run_resumed_at_any_layer_ends_in_the_same_logits(config: Config) -> None:
    model, tokens = scramble(config), draw_tokens(config)
    logits, cache = model.run_with_cache(tokens)
    for layer in range(config.n_layers + 1):
        resid = model(tokens, stop_at_layer=layer)
        assert torch.equal(model(resid=resid, start_at_layer=layer), logits)
        if layer < config.n_layers:
            assert torch.equal(resid, cache["resid_pre", layer])
            torch.testing.assert_close(
                model(resid=resid, start_at_layer=layer, stop_at_layer=layer + 1),
                cache["resid_post", layer],
            )


@every_config
def test_the_labelled_sum_of_writers_equals_the_stream(config: Config) -> None:
    model, tokens = scramble(config), draw_tokens(config)
    logits, cache = model.run_with_cache(tokens)
    for layer in range(config.n_layers + 1):
        parts = model.decompose(cache, layer)
        torch.testing.assert_close(sum(parts.values()), model(tokens, stop_at_layer=layer))
    parts = model.decompose(cache)
    torch.testing.assert_close(model.unembed(sum(parts.values())), logits)
    assert [label for label in parts if ".h" in label] == [
        f"a{layer}.h{head}" for layer in range(config.n_layers) for head in range(config.n_heads)
    ]


def test_each_label_of_the_sum_is_what_that_component_wrote() -> None:
    config = CONFIGS["layer_norm_relu_biases"]
    model, tokens = scramble(config), draw_tokens(config)
    _, cache = model.run_with_cache(tokens)
    parts = model.decompose(cache)
    assert torch.equal(parts["embed"], model.W_E[tokens])
    torch.testing.assert_close(parts["pos_embed"], model.W_pos[:5].expand(2, -1, -1))
    for layer, head in ((0, 0), (1, 2)):
        without = model.run_with_cache(tokens, names_filter=("attn_out", layer))[1][
            "attn_out", layer
        ]
        hooks = [
            (("z", layer), lambda z, hook, head=head: z.index_fill(2, torch.tensor([head]), 0.0))
        ]
        with model.hooks(hooks):
            ablated = model.run_with_cache(tokens, names_filter=("attn_out", layer))[1][
                "attn_out", layer
            ]
        torch.testing.assert_close(parts[f"a{layer}.h{head}"], without - ablated)


@pytest.mark.parametrize(
    "edited", [("resid_pre", 0), ("resid_pre", 1), ("resid_mid", 1), ("attn_out", 0)]
)
def test_the_sum_of_writers_refuses_a_run_whose_stream_was_replaced(
    edited: tuple[str, int],
) -> None:
    config = CONFIGS["layer_norm_relu_biases"]
    model = scramble(config)
    with model.hooks([(edited, lambda x, hook: x + 1)]):
        _, cache = model.run_with_cache(draw_tokens(config))
    with pytest.raises(ValueError, match="do not add up"):
        model.decompose(cache)


@pytest.mark.parametrize(
    "edited", ["embed", "pos_embed", ("pattern", 0), ("z", 1), ("result", 1), ("mlp_out", 0)]
)
def test_the_sum_of_writers_follows_edits_of_what_is_written(edited: str | tuple[str, int]) -> None:
    config = CONFIGS["layer_norm_relu_biases"]
    model = scramble(config)
    with model.hooks([(edited, lambda x, hook: x * 0.5)]):
        _, cache = model.run_with_cache(draw_tokens(config), names_filter=lambda name: True)
    torch.testing.assert_close(sum(model.decompose(cache).values()), cache["resid_post", -1])


@pytest.mark.parametrize("head", range(3))
def test_scores_and_results_follow_from_the_QK_and_OV_circuits(head: int) -> None:
    config = CONFIGS["plain"]
    model = scramble(config)
    _, cache = model.run_with_cache(draw_tokens(config), names_filter=lambda name: True)
    for layer in range(2):
        x, pattern = cache["resid_pre", layer], cache["pattern", layer][:, head]
        scores = (x @ model.QK(layer, head) @ x.mT / math.sqrt(config.d_head)).tril()
        torch.testing.assert_close(cache["attn_scores", layer][:, head].tril(), scores)
        torch.testing.assert_close(
            cache["result", layer][:, :, head], pattern @ x @ model.OV(layer, head)
        )


def test_stacked_weights_are_those_of_the_blocks_and_carry_gradients() -> None:
    model = scramble(CONFIGS["layer_norm_relu_biases"])
    for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
        assert torch.equal(getattr(model, name)[1], getattr(model.blocks[1].attn, name))
    for name in ("W_in", "b_in", "W_out", "b_out"):
        assert torch.equal(getattr(model, name)[1], getattr(model.blocks[1].mlp, name))
    model.W_Q[1].sum().backward()
    assert model.blocks[1].attn.W_Q.grad.eq(1).all()


def test_weights_that_a_model_does_not_have_are_missing_attributes() -> None:
    assert not hasattr(scramble(CONFIGS["plain"]), "W_in")
    assert not hasattr(scramble(CONFIGS["plain"]), "b_Q")
    assert not hasattr(scramble(CONFIGS["no_layers"]), "W_Q")


def test_a_tied_unembedding_is_the_embedding_also_in_training() -> None:
    model = scramble(CONFIGS["rms_tied_full"])
    assert torch.equal(model.W_U, model.W_E.T)
    assert "W_U" not in model.state_dict()
    with torch.no_grad():
        model.W_E.zero_()
    assert model(draw_tokens(model.config)).eq(0).all()


@every_config
def test_only_causal_models_ignore_what_comes_later(config: Config) -> None:
    model, tokens = scramble(config), draw_tokens(config)
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % config.d_vocab
    same = torch.allclose(model(tokens)[:, :-1], model(changed)[:, :-1])
    assert same == (config.causal or config.n_layers == 0)


@pytest.mark.parametrize("positions", ["none", "learned"])
def test_only_a_model_without_positions_ignores_the_order_of_earlier_tokens(positions: str) -> None:
    config = Config(**SIZES, positions=positions, causal=False)
    model, tokens = scramble(config), torch.tensor([[1, 2, 3, 4]])
    swapped = model(tokens[:, [1, 0, 2, 3]])[:, -1]
    assert torch.allclose(model(tokens)[:, -1], swapped) == (positions == "none")


def test_positions_to_qk_never_enter_the_stream() -> None:
    model = scramble(CONFIGS["learned_positions_to_qk"])
    tokens = draw_tokens(model.config)
    assert torch.equal(model(tokens, stop_at_layer=0), model.W_E[tokens])


def test_building_and_running_a_model_leaves_the_global_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (Transformer(CONFIGS["plain"], seed=seed) for seed in (5, 5, 6))
    one(draw_tokens(one.config))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.W_E, same.W_E)
    for first, second in pairwise((one, same, other)):
        assert torch.equal(first.W_U, second.W_U) == (second is same)


def test_int32_tokens_and_an_empty_batch_are_fine() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    assert torch.equal(model(tokens.int()), model(tokens))
    logits, cache = model.run_with_cache(tokens[:0])
    assert logits.shape == (0, 5, 11)
    assert cache["pattern", 0].shape == (0, 3, 5, 5)


@every_config
def test_a_configuration_survives_being_written_down(config: Config) -> None:
    assert Config(**dataclasses.asdict(config)) == config
    model = Transformer(config)
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    assert not any("mask" in name or "hook" in name for name in model.state_dict())


def test_a_model_draws_itself() -> None:
    assert repr(Transformer(CONFIGS["layer_norm_relu_biases"])).startswith(
        "Transformer(11 tokens -> [3 heads + 8 relu neurons] -> [3 heads + 8 relu neurons] -> 11 "
        "logits; d_model 6, "
    )
    assert (
        repr(Transformer(CONFIGS["no_layers"]))
        == "Transformer(11 tokens -> 11 logits; d_model 6, 197 weights)"
    )


WIDE = {"d_vocab": 9, "n_ctx": 6, "d_model": 64, "n_layers": 3, "n_heads": 4, "d_mlp": 64}
PROMPTS = torch.randint(9, (4, 6), generator=torch.Generator().manual_seed(0))
NORMS = ["none", "layer", "rms"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_stream_is_the_sum_of_its_writers_in_every_dtype(dtype, norm):
    model = Transformer(Config(**WIDE, norm=norm, biases=True)).to(dtype)
    assert len(model.decompose(model.run_with_cache(PROMPTS)[1])) == 20


def test_a_stream_is_the_sum_of_its_writers_under_autocast():
    model = Transformer(Config(**WIDE, norm="layer"))
    with torch.autocast("cpu", torch.bfloat16):
        _, cache = model.run_with_cache(PROMPTS)
        model.decompose(cache)
    model.decompose(cache)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_replaced_stream_is_noticed_beside_a_loud_dimension(dtype):
    model = Transformer(Config(**WIDE)).to(dtype)
    with torch.no_grad():
        model.W_E[:, 0] += 1000  # and nothing reads it
        for block in model.blocks:
            for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.mlp.W_in):
                W[..., 0, :] = 0

    def replace(value, hook):
        value[..., 5] += 10

    with model.hooks([(("resid_post", 1), replace)]):
        _, cache = model.run_with_cache(PROMPTS)
    with pytest.raises(ValueError, match="a hook replaced the stream"):
        model.decompose(cache)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_cache_works_inside_vmap_and_grad_as_hooks_do(norm, positions):
    model = Transformer(Config(**WIDE, norm=norm, positions=positions)).double()

    def read(tokens):
        with model.hooks([(("z", 0), lambda z, hook: z * 2)]):
            return model.run_with_cache(tokens.unsqueeze(0))[1]["pattern", 1]

    found = torch.vmap(read)(PROMPTS)
    torch.testing.assert_close(found, torch.stack([read(tokens) for tokens in PROMPTS]))

    def measure(stream):
        return model.run_with_cache(resid=stream, names_filter=("z", 1))[1]["z", 1].square().sum()

    streams = model(PROMPTS, stop_at_layer=0).detach().unsqueeze(1)
    gradients = torch.vmap(torch.func.grad(measure))(streams)
    for stream, gradient in zip(streams, gradients, strict=True):
        own = stream.clone().requires_grad_()
        torch.testing.assert_close(gradient, torch.autograd.grad(measure(own), own)[0])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8])
def test_tokens_of_every_whole_number_type_give_the_same_logits(dtype):
    model = Transformer(Config(**WIDE))
    assert torch.equal(model(PROMPTS.to(dtype)), model(PROMPTS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_stream_of_another_dtype_is_converted_at_the_door(dtype):
    model = Transformer(Config(**WIDE))
    stream = torch.ones(1, 2, 64)
    assert torch.equal(model(resid=stream.to(dtype)), model(resid=stream))


def test_a_window_hides_all_but_the_last_positions():
    pattern = Transformer(Config(**WIDE, window=2)).run_with_cache(PROMPTS)[1]["pattern", 0][0, 0]
    assert torch.equal(pattern > 0, torch.ones(6, 6).tril().triu(-1).bool())


def test_a_seed_gives_the_same_weights_in_every_default_dtype():
    config = Config(**WIDE, positions="sinusoidal")
    expected = Transformer(config)
    torch.set_default_dtype(torch.float64)
    try:
        model = Transformer(config)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(model.W_E.float(), expected.W_E)
    assert torch.equal(model.W_pos.float(), expected.W_pos)
