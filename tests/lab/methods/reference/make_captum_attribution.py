"""How captum_attribution.npz was made: input attribution by captum's own classes, on a small random
model. float64.

    pip install torch==2.13.0 captum==0.9.0      # in an environment of its own, beside this package
    python make_captum_attribution.py

The file holds the weights, the prompts, the baseline tokens, and one map per method, (batch, pos);
model and metric as in test_captum_reference.py. captum attributes to every number of an embedding:
maps are sums over it (saliency: the norm).
"""

from pathlib import Path

import numpy as np
import torch

from mini_transformer import Config, Transformer

CONFIG = Config(
    d_vocab=7,
    n_ctx=6,
    d_model=8,
    n_layers=2,
    n_heads=2,
    d_mlp=10,
    act="gelu",
    norm="layer",
    biases=True,
)


def metric(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def main() -> None:
    from captum import attr  # not needed to collect this file

    model, generator = Transformer(CONFIG).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.4 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    tokens, (baseline,) = (
        torch.randint(7, (3, 5), generator=generator),
        torch.randint(7, (1, 5), generator=generator),
    )
    full, empty = model.W_E[tokens].detach(), model.W_E[baseline].detach()[None]

    def forward(embedding: torch.Tensor) -> torch.Tensor:
        rows = torch.zeros(embedding.shape[:2], dtype=torch.int64)
        return metric(
            model.run_with_hooks(rows, fwd_hooks=[("embed", lambda value, hook: embedding)])
        )

    players = torch.arange(5)[None, :, None].repeat(1, 1, 8)  # one feature per position
    torch.manual_seed(0)  # for the sampled orders
    maps = {
        "saliency": attr.Saliency(forward).attribute(full).norm(dim=-1),
        "input x gradient": attr.InputXGradient(forward).attribute(full).sum(dim=-1),
        "integrated gradients": attr.IntegratedGradients(forward)
        .attribute(full, empty, n_steps=50)
        .sum(dim=-1),
        "occlusion": attr.Occlusion(forward).attribute(
            full, (1, 8), baselines=empty.expand_as(full)
        )[..., 0],
        "feature ablation": attr.FeatureAblation(forward).attribute(
            full, empty, feature_mask=players
        )[..., 0],
        "shapley values": attr.ShapleyValues(forward).attribute(full, empty, feature_mask=players)[
            ..., 0
        ],
        "shapley sampling": attr.ShapleyValueSampling(forward).attribute(
            full, empty, feature_mask=players, n_samples=400
        )[..., 0],
    }
    np.savez_compressed(
        Path(__file__).parent / "captum_attribution.npz",
        tokens=tokens.numpy(),
        baseline=baseline.numpy(),
        **{f"weight {name}": value.detach().numpy() for name, value in model.state_dict().items()},
        **{f"map {name}": value.detach().numpy() for name, value in maps.items()},
    )


if __name__ == "__main__":
    main()
