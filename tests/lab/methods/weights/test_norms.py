"""Weights that read a norm's output read the same from the stream before it."""

import torch

from mini_transformer.methods.weights.norms import read_through


def test_weights_that_read_a_norm_read_the_same_from_the_stream(model):
    """What is read changes with the division only."""
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norm, W = model.blocks[1].ln1, model.blocks[1].attn.W_Q
    seen = torch.einsum("td,ndh->nth", x, read_through(norm, W))
    if norm is not None:
        centred = x - x.mean(dim=1, keepdim=True) if norm.centred else x
        bias = 0.0 if norm.b is None else norm.b @ W[:, None]
        seen = seen / (centred.square().mean(dim=1) + 1e-5).sqrt()[:, None] + bias
    torch.testing.assert_close(seen, (x if norm is None else norm.normalize(x)) @ W)
