"""What the bridge to TransformerLens writes and reads, where that library is not installed.

Checked against TransformerLens 3.9 and 4.3 by tests/peers/compare_transformer_lens.py, whose
figures are read here.
"""

import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sample_models import CONFIGS, draw_tokens, scramble
from torch import nn

from mini_transformer import Transformer, toys
from mini_transformer.interop import transformer_lens as bridge
from mini_transformer.interop.transformer_lens import (
    BridgedAttention,
    from_transformer_lens,
    name_weights,
    read_config,
    to_transformer_lens,
    write_config,
)

PEERS = Path(__file__).parents[2] / "peers"
STORED = {name: json.loads((PEERS / f"{name}.json").read_text()) for name in ("tl3", "tl4")}
WINDOW = replace(CONFIGS["plain"], window=2)
DEFAULTS = {"n_key_value_heads": None, "use_attn_scale": True, "final_rms": False}

each_config = pytest.mark.parametrize(
    "config", [*CONFIGS.values(), WINDOW], ids=[*CONFIGS, "window"]
)


class Hooked(nn.Module):
    """Stands for a HookedTransformer: our model under their names."""

    def __init__(self, model: Transformer, **settings: object) -> None:
        super().__init__()
        full = Transformer(replace(model.config, biases=True, tied=False, positions="learned"))
        self.cfg = SimpleNamespace(**DEFAULTS | write_config(model) | settings)
        self.model = full.double()
        self.blocks = self.model.blocks
        self.ln_final = self.model.ln_final
        self.W_E = self.model.W_E
        self.embed = self.pos_embed = self.unembed = self.model
        weights = {name.rpartition("embed.")[2]: W for name, W in name_weights(model).items()}
        self.model.load_state_dict(weights)
        self.hook_dict = {}

    def forward(self, tokens):
        return self.model(tokens)


@each_config
def test_a_configuration_comes_back(config):
    there = SimpleNamespace(**DEFAULTS | write_config(Transformer(config)))
    lost = {"biases": True, "tied": False, "positions": "learned"}
    assert read_config(there) == replace(config, **lost)


@each_config
def test_a_model_comes_back_with_its_logits_and_caches(config):
    model = scramble(config)
    back = from_transformer_lens(Hooked(model))
    tokens = draw_tokens(config)
    logits, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(back(tokens), logits, rtol=0, atol=1e-12)
    _, again = back.run_with_cache(tokens)
    assert set(again) == set(cache)
    for name, value in cache.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=1e-12)
    fixed = {"sinusoidal": "learned"}.get(config.positions, config.positions)
    assert back.config == replace(config, tied=False, positions=fixed)


def test_folded_norms_come_back_with_gain_one():
    model = scramble(CONFIGS["layer_norm_relu_biases"])
    for name, parameter in model.named_parameters():
        if "ln" in name:
            parameter.data.fill_(name.endswith("w"))
    hooked = Hooked(model, normalization_type="LNPre")
    hooked.ln_final = nn.Identity()  # has neither w nor b
    assert torch.equal(from_transformer_lens(hooked).ln_final.w, torch.ones(6).double())


@pytest.mark.parametrize("case", CONFIGS)
def test_weights_have_the_names_and_shapes_that_the_library_has(case):
    given = name_weights(Transformer(CONFIGS[case]))
    shapes = {name: list(one.shape) for name, one in given.items()}
    assert shapes == STORED["tl3"]["weights"][case]


@pytest.mark.parametrize("config", [c for c in (*CONFIGS.values(), WINDOW) if c.n_layers])
def test_the_bridged_attention_is_ours_and_returns_its_scores(config):
    model = scramble(config)
    ours = model.blocks[0].attn
    theirs = BridgedAttention(config, ours.mask).double()
    for letter in "qkv":
        W, b = getattr(ours, f"W_{letter.upper()}"), getattr(ours, f"b_{letter.upper()}")
        linear = getattr(theirs, letter)
        linear.weight.data = W.permute(0, 2, 1).flatten(0, 1)
        linear.bias.data = torch.zeros(len(linear.weight)).double() if b is None else b.flatten()
    theirs.o.weight.data = ours.W_O.flatten(0, 1).T
    theirs.o.bias.data = ours.b_O if ours.b_O is not None else torch.zeros(6).double()
    with model.recording([("attn_scores", 0), ("pattern", 0)]) as values:
        _, cache = model.run_with_cache(draw_tokens(config))
    seen = []
    out, scores = theirs(
        cache["resid_pre", 0]
        if model.blocks[0].ln1 is None
        else model.blocks[0].ln1(cache["resid_pre", 0]),
        position_ids=cache["pos_embed"] if config.positions_to == "qk" else None,
        pattern_fn=lambda pattern: seen.append(pattern) or pattern,
    )
    torch.testing.assert_close(out, cache["attn_out", 0])
    torch.testing.assert_close(scores, cache["attn_scores", 0])
    torch.testing.assert_close(seen[0], values["pattern", 0])


def test_the_bridged_attention_does_not_look_at_padding():
    config = replace(CONFIGS["plain"], causal=False)
    attention = BridgedAttention(config, torch.zeros(7, 7, dtype=torch.bool))
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    keep = torch.tensor([[1, 1, 1, 0, 0]]).expand(2, -1)
    torch.testing.assert_close(attention(x, keep)[0][:, :3], attention(x[:, :3])[0])
    assert attention(x, torch.zeros(2, 5))[0].isfinite().all()


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("gated_mlp", True, "gated_mlp is True, but a Transformer has False only"),
        (
            "attn_scores_soft_cap",
            50.0,
            "is 50.0, but a Transformer has -1.0 only, which means none",
        ),
        ("eps", 1e-6, "eps is 1e-06, but a Transformer has 1e-05 only"),
        ("positional_embedding_type", "rotary", "a Transformer has 'standard' or 'shortformer'"),
        ("act_fn", "gelu_new", "act_fn is 'gelu_new'"),
        ("n_key_value_heads", 1, "n_key_value_heads is 1, but a Transformer has 3$"),
        ("final_rms", True, "final_rms is True"),
        ("normalization_type", "soft", "normalization_type is 'soft'"),
    ],
)
def test_a_setting_that_a_transformer_does_not_have_is_named(setting, value, says):
    hooked = Hooked(scramble(CONFIGS["layer_norm_relu_biases"]), **{setting: value})
    with pytest.raises(ValueError, match=says):
        from_transformer_lens(hooked)


def test_layers_with_and_without_a_window_are_refused():
    hooked = Hooked(scramble(WINDOW), attn_types=["local", "global"])
    with pytest.raises(ValueError, match="attn_types is 'global and local', but"):
        from_transformer_lens(hooked)


def test_eps_is_not_asked_of_a_model_without_norms():
    config = CONFIGS["plain"]
    cfg = SimpleNamespace(**DEFAULTS | write_config(Transformer(config)) | {"eps": 1e-6})
    assert read_config(cfg).norm == "none"


def test_hooks_are_refused_by_name():
    hooked = Hooked(scramble(CONFIGS["plain"]))
    point = SimpleNamespace(fwd_hooks=[], bwd_hooks=[])
    hooked.hook_dict = {"hook_embed": point, "hook_x": SimpleNamespace(fwd_hooks=[1], bwd_hooks=[])}
    with pytest.raises(ValueError, match=r"the model has hooks \(hook_x\)"):
        from_transformer_lens(hooked)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_of_half_precision_is_no_difference(dtype):
    class Rounded(Hooked):
        def forward(self, tokens):
            logits = super().forward(tokens)
            return logits * (1 + 30 * torch.finfo(logits.dtype).eps)

    hooked = Rounded(scramble(CONFIGS["layer_norm_relu_biases"]).to(dtype)).to(dtype)
    assert from_transformer_lens(hooked).W_E.dtype == dtype


def test_what_is_added_to_all_logits_hides_no_difference():
    hooked = Hooked(scramble(CONFIGS["layer_norm_relu_biases"]), attn_scale=1.01)
    hooked.model.b_U.data += 1e6
    with pytest.raises(ValueError, match="logits differ by"):
        from_transformer_lens(hooked)


def test_logits_that_are_no_numbers_are_refused():
    hooked = Hooked(scramble(CONFIGS["plain"]))
    hooked.W_E.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="all logits are NaN or infinite"):
        from_transformer_lens(hooked)


def test_unscaled_attention_has_a_scale_of_one():
    cfg = SimpleNamespace(**DEFAULTS | write_config(Transformer(CONFIGS["plain"])))
    cfg.use_attn_scale = False
    assert read_config(cfg).attn_scale == 1.0


def test_a_model_that_computes_something_else_than_its_settings_say_is_refused():
    hooked = Hooked(scramble(CONFIGS["plain"]), attn_scale=3.0)
    with pytest.raises(ValueError, match=r"logits differ by \d+.\d% of their standard"):
        from_transformer_lens(hooked)


@pytest.mark.parametrize("version", [None, "2.16.1", "3.8.0", "4.2.9", "5.0.0"])
def test_a_missing_or_wrong_version_is_answered_with_the_command(monkeypatch, version):
    def find(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", find)
    says = f"but {version or 'none'} is installed: pip install 'transformer-lens>=3.9,<4'"
    with pytest.raises(ImportError, match=says):
        to_transformer_lens(toys.load("boolean_and").model)


@pytest.mark.parametrize(("version", "major"), [("3.9.0", 3), ("3.10.1", 3), ("4.3.0", 4)])
def test_a_known_version_is_found(monkeypatch, version, major):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert bridge.find_version() == major


@pytest.mark.parametrize("which", ["tl3", "tl4"])
def test_the_stored_comparison_has_every_toy_and_is_within_its_bounds(which):
    told = STORED[which]
    assert told["versions"]["transformer-lens"] == {"tl3": "3.9.0", "tl4": "4.3.0"}[which]
    rows = told["rows"]
    assert [row["name"] for row in rows if row["kind"] == "toy"] == toys.names()
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in told["bounds"]}
    assert counts == {"toy": 37, "forged": 5, "twin": 15, "ours": 30, "theirs": 30}
    bounds = {"toy": 1e-4, "forged": 1e-4, "twin": 1e-4, "ours": 1e-4, "theirs": 1e-5}
    assert told["bounds"] == bounds
    for row in rows:
        figures = [row[key] for key in ("logits", "hooks", "edits", "back")]
        assert max(figures) <= bounds[row["kind"]], row
        assert row["n_hooks"] >= 10
        at_scores = which == "tl4" and row["kind"] == "theirs"
        deaf = {"hook_attn_scores", "hook_resid_mid"} if which == "tl4" else set()
        assert set(row["unheard"]) <= deaf
        assert row["different"] == (["hook_attn_scores"] if at_scores else [])
        not_there = (
            []
            if which == "tl3"
            else [f"hook_{x}" for x in ("k_input", "q_input", "result", "v_input")]
        )
        assert row["missing"] == not_there


@pytest.mark.filterwarnings("ignore")  # of the library itself
@pytest.mark.parametrize("name", ["boolean_and", "induction", "facts", "tracr_reverse"])
def test_toys_go_there_and_back_where_the_library_is_installed(name):
    pytest.importorskip("transformer_lens", reason="TransformerLens is not installed")
    model = toys.load(name).model
    assert from_transformer_lens(to_transformer_lens(model)).config == model.config
