"""Small models that together use every option of Config, with every weight random and every size
different.
"""

import torch
from torch import Tensor

from mini_transformer import Config, Transformer

SIZES = {"d_vocab": 11, "n_ctx": 7, "d_model": 6, "n_layers": 2, "n_heads": 3}

CONFIGS = {
    "plain": Config(**SIZES),
    "no_layers": Config(**SIZES | {"n_layers": 0}, norm="layer", biases=True),
    "layer_norm_relu_biases": Config(**SIZES, d_mlp=8, norm="layer", biases=True),
    "rms_norm_gelu_sinusoidal": Config(
        **SIZES, d_mlp=8, act="gelu", norm="rms", positions="sinusoidal"
    ),
    "learned_positions_to_qk": Config(
        **SIZES, d_mlp=8, positions_to="qk", norm="layer", biases=True
    ),
    "sinusoidal_positions_to_qk": Config(**SIZES, positions="sinusoidal", positions_to="qk"),
    "no_positions_full_tied": Config(
        **SIZES, d_mlp=8, positions="none", causal=False, tied=True, biases=True
    ),
    "rms_tied_full": Config(**SIZES, norm="rms", causal=False, tied=True),
    "own_head_width_scale_and_output": Config(
        **SIZES, d_head=5, attn_scale=1.7, d_vocab_out=4, norm="layer"
    ),
    "one_wide_head": Config(**SIZES | {"n_heads": 1}, d_head=9, d_mlp=4, act="gelu", biases=True),
}


def scramble(config: Config, seed: int = 0) -> Transformer:
    """A float64 model in which no weight, bias or norm gain is left at its initial zero or one."""
    model = Transformer(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return model


def draw_tokens(config: Config, batch: int = 2, length: int = 5, seed: int = 0) -> Tensor:
    return torch.randint(
        config.d_vocab, (batch, length), generator=torch.Generator().manual_seed(seed)
    )
