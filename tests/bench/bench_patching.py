"""Compare a stream-patching sweep with one bare hooked forward per layer and position.

Where TransformerLens before version 4 is installed, also compare a full sweep (stream, heads, MLPs)
with the sweeps that it comes with.
"""

from functools import partial
from typing import Any

import torch
from bench_model import build_lens
from timing import STYLE, make_row, take_turns
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.methods import patch_activations

SIZES = ((128, 50, 3, 0.9), (1, 16, 21, 0.3))  # batch, positions, turns, bound on the ratio
LENS_SIZES = ((128, 50, 1, 1 / 1.5), (1, 16, 9, 1 / 10))
FULL = (("resid_pre", "pos"), ("z", "head"), ("mlp_out", "pos"))


def metric(logits: Tensor) -> Tensor:
    return logits[:, -1, 3] - logits[:, -1, 5]


@torch.no_grad()
def patch_in_a_loop(model: Transformer, clean: Tensor, corrupt: Tensor) -> Tensor:
    layers = range(model.config.n_layers)
    positions = range(clean.shape[1])
    _, cache = model.run_with_cache(clean, names_filter=[("resid_pre", layer) for layer in layers])
    values = torch.zeros(len(layers), len(positions))
    for layer in layers:
        for position in positions:

            def put(
                value: Tensor, hook: object, layer: int = layer, position: int = position
            ) -> None:
                value[:, position] = cache["resid_pre", layer][:, position]

            logits = model.run_with_hooks(corrupt, fwd_hooks=[(("resid_pre", layer), put)])
            values[layer, position] = metric(logits).mean()
    return values


def rows() -> list[dict[str, Any]]:
    """Compare the two maps, then make one row per size."""
    config = Config(d_vocab=50, n_ctx=50, d_model=64, n_layers=2, n_heads=4, d_mlp=256, **STYLE)
    model = Transformer(config)
    found = []
    generator = torch.Generator().manual_seed(0)
    for batch, length, turns, bound in SIZES:
        clean, corrupt = torch.randint(50, (2, batch, length), generator=generator)
        runs = {
            "ours": partial(patch_activations, model, clean, corrupt, metric, direction="denoise"),
            "a hooked run per entry": partial(patch_in_a_loop, model, clean, corrupt),
        }
        ours, other = (run() for run in runs.values())
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)
        times = take_turns(runs, turns, warm_up=0)
        found.append(make_row(f"residual patching sweep, {batch} x {length}", times, bound))
    return found + compare_with_lens(model)


def patch_everything(model: Transformer, clean: Tensor, corrupt: Tensor) -> list[Tensor]:
    return [
        patch_activations(model, clean, corrupt, metric, site, per, direction="denoise")
        for site, per in FULL
    ]


def compare_with_lens(model: Transformer) -> list[dict[str, Any]]:
    """Compare the maps of a full sweep in both libraries, then time them.

    Weights and metric are the same.
    """
    lens = build_lens(model)
    found = []
    generator = torch.Generator().manual_seed(1)
    if lens is None:
        return []
    from transformer_lens import patching

    patching.tqdm = list  # no progress bars

    @torch.no_grad()
    def patch_lens(clean: Tensor, corrupt: Tensor) -> list[Tensor]:
        _, cache = lens.run_with_cache(clean)
        runs = lens, corrupt, cache, lambda logits: metric(logits).mean()
        return [
            patching.get_act_patch_resid_pre(*runs),
            patching.get_act_patch_attn_head_out_all_pos(*runs),
            patching.get_act_patch_mlp_out(*runs),
        ]

    for batch, length, turns, bound in LENS_SIZES:
        clean, corrupt = torch.randint(50, (2, batch, length), generator=generator)
        runs = {
            "ours": partial(patch_everything, model, clean, corrupt),
            "TransformerLens": partial(patch_lens, clean, corrupt),
        }
        for ours, other in zip(*(run() for run in runs.values()), strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)
        times = take_turns(runs, turns, warm_up=0)
        found.append(make_row(f"full patching sweep, {batch} x {length}", times, bound))
    return found
