"""To TransformerLens and back: a HookedTransformer under 3.9, a TransformerBridge under 4.3.

Weights and hooks have one name on both sides; a page in docs/ lists what differs. A conversion runs
both models in float64 on random tokens and takes from each position's logits their mean, since only
differences matter. What then differs by more than a thousandth of their standard deviation is
refused.
"""

import copy
import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from mini_transformer.isolation.explaining import describe_kind
from mini_transformer.model import EPS, Config, Transformer
from mini_transformer.weights import check_told, copy_weights, draw_tokens, run_alone

__all__ = ["from_transformer_lens", "to_transformer_lens"]

ROUNDING = 1e-3  # of the standard deviation of the logits, both models in float64
SIZES = ("n_layers", "d_model", "n_ctx", "n_heads", "d_head", "d_vocab")
NORMS = {None: "none", "LN": "layer", "RMS": "rms", "LNPre": "layer", "RMSPre": "rms"}
PREFIXES = {"W_E": "embed.", "W_pos": "pos_embed.", "W_U": "unembed.", "b_U": "unembed."}
WITHOUT = {  # what a configuration of theirs says of what a Transformer does not have
    "attn_scores_soft_cap": -1.0,
    "clip_qkv": None,
    "eps": EPS,
    "gated_mlp": False,
    "num_experts": None,
    "output_logits_soft_cap": -1.0,
    "parallel_attn_mlp": False,
    "post_embedding_ln": False,
    "scale_attn_by_inverse_layer_idx": False,
    "use_attention_sinks": False,
    "use_normalization_before_and_after": False,
    "use_qk_norm": False,
}


def to_transformer_lens(model: Transformer) -> Any:
    """Make a HookedTransformer or a TransformerBridge, whichever is installed, of a model.

    It is in evaluation mode and has no hooks. Biases that the model lacks are zero there, fixed
    positions learned, a tied unembedding free. Raise ImportError if TransformerLens is missing or
    of another version, ValueError if the result would not compute the same.
    """
    if not isinstance(model, Transformer):
        fix = "give case.model" if hasattr(model, "truth") else "from_transformer_lens makes one"
        raise ValueError(f"the model is {describe_kind(model)}, expected a Transformer: {fix}")
    make = make_hooked if find_version() == 3 else make_bridge
    check_told(model)
    hooked = make(model).eval()
    check_equal(hooked, model)
    return hooked


def from_transformer_lens(hooked: Any) -> Transformer:
    """Make a Transformer of a HookedTransformer, or of a TransformerBridge, without hooks.

    Biases that are all zero are left out, and so are positions. Raise ValueError, which names the
    hook or the setting, for hooks and for what a Transformer does not have (rotary positions, gated
    MLPs ...).
    """
    if isinstance(hooked, Transformer):
        raise ValueError("the model is a Transformer already: to_transformer_lens is the way there")
    config = read_config(hooked.cfg) if hasattr(hooked, "cfg") else None
    if config is None or not hasattr(hooked, "pos_embed"):
        raise ValueError(
            f"the model is {describe_kind(hooked)}, expected a HookedTransformer or a "
            "TransformerBridge: an encoder's embedding and other classes cannot be read"
        )
    points = hooked.hook_dict.items()
    if heard := [name for name, point in points if point.fwd_hooks or point.bwd_hooks]:
        raise ValueError(
            f"the model has hooks ({', '.join(heard)}), and a Transformer is made without: "
            "take them off with reset_hooks(including_permanent=True)"
        )
    model = Transformer(config).to(hooked.W_E)
    for name, parameter in model.named_parameters():
        place, _, attribute = (PREFIXES.get(name, "") + name).rpartition(".")
        theirs = getattr(attrgetter(place)(hooked), attribute, None)
        if theirs is not None:  # folded norms have neither gain nor bias
            parameter.data.copy_(theirs)
    biases = [p for name, p in model.named_parameters() if name.rpartition(".")[2].startswith("b_")]
    if not any(one.any() for one in biases):
        config = replace(config, biases=False)
    if not model.W_pos.any():
        config = replace(config, positions="none", positions_to="stream")
    model = copy_weights(model, config)
    check_equal(hooked, model)
    return model


def find_version() -> int:
    """Return the major version of the TransformerLens that is installed, if it is known here."""
    try:
        version = importlib.metadata.version("transformer-lens")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    major, minor = [*version.split("."), "0"][:2]
    if (major == "3" and int(minor) >= 9) or (major == "4" and int(minor) >= 3):
        return int(major)
    raise ImportError(
        f"TransformerLens 3.9 or 4.3 is needed, but {version} is installed: "
        "pip install 'transformer-lens>=3.9,<4' for a HookedTransformer, "
        "'transformer-lens>=4.3,<5' for a TransformerBridge"
    )


def name_weights(model: Transformer) -> dict[str, Tensor]:
    """Return all weights under the names of TransformerLens 3, which has every bias."""
    config = replace(model.config, biases=True, tied=False, positions="learned")
    full = copy_weights(model, config)
    return {PREFIXES.get(name, "") + name: p.detach() for name, p in full.named_parameters()}


def write_config(model: Transformer) -> dict[str, Any]:
    """Say a model's configuration in the words of TransformerLens, which both versions share."""
    c = model.config
    return {name: getattr(c, name) for name in (*SIZES, "d_vocab_out")} | {
        "d_mlp": c.d_mlp or None,
        "attn_only": not c.d_mlp,
        "act_fn": c.act,
        "normalization_type": {"none": None, "layer": "LN", "rms": "RMS"}[c.norm],
        "positional_embedding_type": "shortformer" if c.positions_to == "qk" else "standard",
        "attn_scale": c.attn_scale,
        "attention_dir": "causal" if c.causal else "bidirectional",
        "use_local_attn": bool(c.window),
        "window_size": c.window or None,
        "attn_types": ["local"] * c.n_layers if c.window else None,
        "eps": EPS,
        "dtype": model.W_E.dtype,
        "device": str(model.W_E.device),
        "init_weights": False,
    }


def read_config(cfg: Any) -> Config:
    """Say their configuration in words of this package; ValueError for what it cannot say."""
    positions = cfg.positional_embedding_type
    local = sorted(set(cfg.attn_types or ["global"])) if cfg.use_local_attn else ["global"]
    norm = NORMS.get(cfg.normalization_type)
    for name, needed in WITHOUT.items():
        is_unused = name == "eps" and norm == "none"
        if not is_unused and (given := getattr(cfg, name, needed)) != needed:
            means = ", which means none" if needed == -1 else ""
            raise ValueError(f"{name} is {given!r}, but a Transformer has {needed!r} only{means}")
    for name, given, choices in (
        ("normalization_type", cfg.normalization_type, tuple(NORMS)),
        ("positional_embedding_type", positions, ("standard", "shortformer")),
        ("act_fn", cfg.act_fn if not cfg.attn_only else "relu", ("relu", "gelu")),
        ("n_key_value_heads", cfg.n_key_value_heads or cfg.n_heads, (cfg.n_heads,)),
        ("final_rms", bool(cfg.final_rms and norm != "rms"), (False,)),
        ("attn_types", " and ".join(local), ("global", "local")),
    ):
        if given not in choices:
            known = " or ".join(map(repr, choices))
            raise ValueError(f"{name} is {given!r}, but a Transformer has {known}")
    causal = cfg.attention_dir == "causal"
    return Config(
        **{name: getattr(cfg, name) for name in SIZES},
        d_vocab_out=max(cfg.d_vocab_out, 0),
        d_mlp=0 if cfg.attn_only else cfg.d_mlp,
        act="gelu" if cfg.act_fn == "gelu" else "relu",
        norm=NORMS[cfg.normalization_type],  # type: ignore[arg-type]
        positions_to="qk" if positions == "shortformer" else "stream",
        attn_scale=max(cfg.attn_scale, 0.0) if cfg.use_attn_scale else 1.0,
        causal=causal,
        window=cfg.window_size if causal and local == ["local"] else 0,
        biases=True,
    )


def make_hooked(model: Transformer) -> Any:
    """Make a HookedTransformer of TransformerLens 3."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    hooked = HookedTransformer(HookedTransformerConfig(**write_config(model)))
    own = hooked.state_dict()  # also buffers, which stay
    hooked.load_state_dict(own | name_weights(model))
    return hooked


def make_bridge(model: Transformer) -> Any:
    """Make a TransformerBridge of TransformerLens 4 around its native model.

    That one knows no window, no positions beside the stream, no attn_scale of 1; and it shows the
    pattern at hook_attn_scores. `BridgedAttention` takes the place of its attention.
    """
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources import build_bridge_from_module
    from transformer_lens.model_bridge.sources.native import NativeModel
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    class Shortformer(NativeModel):
        """Hands positions on to attention, as what a block calls position_ids."""

        def forward(
            self, input_ids: Any = None, inputs_embeds: Any = None, **kwargs: Any
        ) -> Tensor:
            x = self.tok_embed(input_ids) if inputs_embeds is None else inputs_embeds
            positions = self.pos(torch.arange(x.shape[1], device=x.device).expand(len(x), -1))
            for block in self.layers:
                (x,) = block(x, kwargs.get("attention_mask"), position_ids=positions)
            return self.head(self.ln_out(x))

    told = write_config(model)
    later = {name: told.pop(name) for name in ("attn_scale", "positional_embedding_type")}
    cfg = TransformerBridgeConfig(**told)
    make = Shortformer if model.config.positions_to == "qk" else NativeModel
    with torch.random.fork_rng(devices=[]):  # weights are drawn, and then replaced
        native = make(cfg)
        for theirs, ours in zip(native.layers, model.blocks, strict=True):
            theirs.attn = BridgedAttention(model.config, ours.attn.mask)
    bridge = build_bridge_from_module(
        native.to(model.W_E), "TransformerLensNative", tl_config=cfg, model_name="mini-transformer"
    )
    bridge.load_state_dict(convert_tl_checkpoint(name_weights(model), bridge.cfg))
    for name, value in later.items():  # where the native model would refuse them
        setattr(bridge.cfg, name, value)
    return bridge


class BridgedAttention(nn.Module):
    """Attention as a bridge of TransformerLens 4 wraps it: four linear maps, and what it hooks.

    The bridge shows the second thing that is returned at hook_attn_scores.
    """

    accepts_pattern_fn = True
    hidden: Tensor

    def __init__(self, config: Config, mask: Tensor) -> None:
        super().__init__()
        width = config.n_heads * config.d_head
        self.config = config
        self.q = nn.Linear(config.d_model, width)
        self.k = nn.Linear(config.d_model, width)
        self.v = nn.Linear(config.d_model, width)
        self.o = nn.Linear(width, config.d_model)
        hidden = mask if config.causal else torch.zeros_like(mask)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Any = None,
        pattern_fn: Callable[[Tensor], Tensor] | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return what the layer's attention adds to the stream, and its scores."""
        x = hidden_states
        hidden = self.hidden[: x.shape[1], : x.shape[1]]
        if attention_mask is not None:  # (b, t), 0 at padding
            hidden = hidden | (attention_mask == 0)[:, None, None]
        read = x + position_ids if self.config.positions_to == "qk" else x
        q, k, v = (
            y.unflatten(-1, (self.config.n_heads, self.config.d_head)).transpose(1, 2)  # b n t h
            for y in (self.q(read), self.k(read), self.v(x))
        )
        scores = q @ k.transpose(-2, -1) / self.config.attn_scale
        scores = scores.masked_fill(hidden, float("-inf"))
        pattern = scores.softmax(dim=-1).masked_fill(hidden, 0.0)  # NaN where all is padding
        if pattern_fn is not None:
            pattern = pattern_fn(pattern)
        return self.o((pattern @ v).transpose(1, 2).flatten(2)), scores


@torch.no_grad()
def check_equal(hooked: Any, model: Transformer) -> None:
    """Raise ValueError unless both models compute the same on random tokens, up to rounding."""
    theirs, ours = (copy.deepcopy(one).double() for one in (hooked, model))
    theirs.cfg.dtype = torch.float64  # their norms cast to it
    given, expected = center(theirs(draw_tokens(model))), center(run_alone(ours))
    finite = expected.isfinite()
    if not finite.any():
        raise ValueError("all logits are NaN or infinite: give a model whose weights are finite")
    size = max(expected[finite].square().mean().sqrt().item(), 1e-9)  # all may be equal
    if not torch.allclose(given, expected, rtol=0.0, atol=ROUNDING * size, equal_nan=True):
        difference = (given - expected)[finite].abs().max().item() / size
        raise ValueError(
            f"the two models' logits differ by {difference:.1%} of their standard deviation: the "
            "other library's model has a setting that a Transformer does not have"
        )


def center(logits: Tensor) -> Tensor:
    """Take from each position's finite logits their mean; a single one stays as it is."""
    if logits.shape[-1] == 1:
        return logits
    finite = logits.masked_fill(~logits.isfinite(), torch.nan)
    return logits - finite.nanmean(dim=-1, keepdim=True).nan_to_num()
