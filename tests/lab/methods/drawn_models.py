"""Small float64 models of most shapes, with every weight drawn, and prompts for them."""

import torch
from torch import Tensor

from mini_transformer import Config, Transformer

SIZES = {"d_vocab": 11, "n_ctx": 7, "d_model": 6, "n_layers": 2, "n_heads": 3}

CONFIGS = {
    "plain": Config(**SIZES),
    "no_layers": Config(**SIZES | {"n_layers": 0}, norm="layer", biases=True),
    "three_layers": Config(
        **SIZES | {"n_layers": 3, "n_heads": 2}, d_mlp=8, norm="rms", biases=True
    ),
    "layer_norm_biases": Config(**SIZES, d_mlp=8, norm="layer", biases=True),
    "learned_positions_to_qk": Config(
        **SIZES, d_mlp=8, positions_to="qk", norm="layer", biases=True
    ),
    "sinusoidal_positions_to_qk": Config(**SIZES, positions="sinusoidal", positions_to="qk"),
    "rms_tied_full": Config(**SIZES, norm="rms", causal=False, tied=True),
    "own_head_width": Config(**SIZES, d_head=5, attn_scale=1.7, d_vocab_out=4, norm="layer"),
    "one_head_as_wide_as_the_model": Config(
        **SIZES | {"n_heads": 1}, d_mlp=4, act="gelu", biases=True
    ),
}


def scramble(config: Config) -> Transformer:
    """A float64 model in which no weight, bias or norm gain is left at its initial zero or one."""
    model = Transformer(config).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return model


def draw_tokens(config: Config, seed: int, batch: int = 3, length: int = 5) -> Tensor:
    return torch.randint(
        config.d_vocab, (batch, length), generator=torch.Generator().manual_seed(seed)
    )


def add_up_streams(model, cache):
    """The stream after each component, as a running sum of what the components wrote."""
    stream = cache["embed"]
    if model.config.positions != "none" and model.config.positions_to == "stream":
        stream = stream + cache["pos_embed"]
    streams = [stream]
    for layer in range(model.config.n_layers):
        for part in ("attn_out", "mlp_out") if model.config.d_mlp else ("attn_out",):
            stream = stream + cache[part, layer]
            streams.append(stream)
    return streams
