"""Small float64 models with no weight at zero, and prompts for them."""

import pytest
import torch

from mini_transformer import Config, Transformer

SIZES = {"d_vocab": 7, "n_ctx": 6, "d_model": 8, "n_layers": 2, "n_heads": 3, "d_head": 4}
CONFIGS = {
    "attention_only": Config(**SIZES),
    "mlp_layer_norm_biases": Config(**SIZES, d_mlp=5, norm="layer", biases=True, act="gelu"),
    "mlp_positions_to_qk_rms_full": Config(
        **SIZES, d_mlp=5, norm="rms", positions_to="qk", causal=False
    ),
}


@pytest.fixture(params=CONFIGS)
def model(request) -> Transformer:
    model = Transformer(CONFIGS[request.param]).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return model


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def corrupt() -> torch.Tensor:
    return torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(2))
