"""Units are neurons, axes, lengths of what heads write, directions or latents."""

import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import Dictionary, read_units

MODEL = Transformer(Config(7, 6, 8, n_layers=2, n_heads=3, d_head=4, d_mlp=5), seed=3)
TOKENS = torch.randint(7, (40, 5), generator=torch.Generator().manual_seed(0))


def test_the_units_of_a_site_with_heads_are_the_lengths_of_the_heads_vectors():
    _, cache = MODEL.run_with_cache(TOKENS, names_filter=[("z", 0), ("result", 0)])
    for hook in (("z", 0), ("result", 0)):
        units = read_units(MODEL, TOKENS, hook)
        assert units.shape == (40, 5, 3)
        for head in range(3):
            torch.testing.assert_close(
                units[..., head], cache[hook][:, :, head].square().sum(dim=-1).sqrt()
            )


def test_units_can_be_directions_or_latents():
    _, cache = MODEL.run_with_cache(TOKENS)
    directions = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    got, heads = read_units(MODEL, TOKENS, ("z", 1), directions), cache["z", 1]
    for unit, direction in enumerate(directions):
        by_head = sum(
            (heads[:, :, head] * direction[4 * head : 4 * head + 4]).sum(dim=-1)
            for head in range(3)
        )
        torch.testing.assert_close(got[..., unit], by_head)
    W, zeros = torch.randn(8, 6, generator=torch.Generator().manual_seed(1)), torch.zeros(8)
    dictionary = Dictionary(W, torch.zeros(6), W.T, zeros, zeros + 1, torch.full((6,), 0.5))
    pre = ((cache["resid_post", 0] - 1) @ W).relu()
    torch.testing.assert_close(
        read_units(MODEL, TOKENS, ("resid_post", 0), dictionary), torch.where(pre > 0.5, pre, 0.0)
    )
