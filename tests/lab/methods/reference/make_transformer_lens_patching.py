"""How transformer_lens_patching.npz was made: patching maps by TransformerLens's own functions, on
a small random model.

    pip install "transformer-lens<4"      # in an environment of its own; 3.9.0 wrote the file
    python make_transformer_lens_patching.py

The file holds the weights under this package's names, the prompts, and one map per site; metric and
prompts as in test_patching_reference.py.
"""

from pathlib import Path

import numpy as np
import torch

SIZES = {
    "d_vocab": 9,
    "n_ctx": 6,
    "d_model": 8,
    "n_layers": 2,
    "n_heads": 3,
    "d_head": 4,
    "d_mlp": 10,
}
MAPS = {
    "resid_pre pos": "get_act_patch_resid_pre",
    "resid_mid pos": "get_act_patch_resid_mid",
    "attn_out pos": "get_act_patch_attn_out",
    "mlp_out pos": "get_act_patch_mlp_out",
    "z head": "get_act_patch_attn_head_out_all_pos",
    "q head": "get_act_patch_attn_head_q_all_pos",
    "k head": "get_act_patch_attn_head_k_all_pos",
    "v head": "get_act_patch_attn_head_v_all_pos",
    "pattern head": "get_act_patch_attn_head_pattern_all_pos",
    "z pos head": "get_act_patch_attn_head_out_by_pos",
    "q pos head": "get_act_patch_attn_head_q_by_pos",
    "k pos head": "get_act_patch_attn_head_k_by_pos",
    "v pos head": "get_act_patch_attn_head_v_by_pos",
}


def metric(logits: torch.Tensor) -> torch.Tensor:
    return (logits[:, -1, 2] - logits[:, 1, 3] ** 2).mean()


def main() -> None:
    from transformer_lens import (
        HookedTransformer,
        HookedTransformerConfig,
        patching,
    )  # not needed to collect this file

    lens = HookedTransformer(
        HookedTransformerConfig(**SIZES, act_fn="gelu", normalization_type="LN", device="cpu")
    )
    generator, weights = torch.Generator().manual_seed(0), {}
    with torch.no_grad():
        for name, parameter in lens.named_parameters():
            parameter.copy_(
                0.4 * torch.randn(parameter.shape, generator=generator) + name.endswith(".w")
            )
            head, _, last = name.rpartition(".")
            short = last if head in ("embed", "pos_embed", "unembed") else name
            weights[f"weight {short}"] = parameter.numpy().copy()
    clean, corrupt = torch.randint(9, (2, 4, 5), generator=generator)
    with torch.no_grad():
        _, cache = lens.run_with_cache(clean)
        maps = {}
        for name, function in MAPS.items():
            maps[f"map {name}"] = getattr(patching, function)(lens, corrupt, cache, metric).numpy()
    where = Path(__file__).parent / "transformer_lens_patching.npz"
    np.savez_compressed(where, clean=clean.numpy(), corrupt=corrupt.numpy(), **weights, **maps)


if __name__ == "__main__":
    main()
