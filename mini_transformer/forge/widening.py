"""Give a model more layers, heads, neurons and dimensions; it computes the same.

The widths of a forged model follow from its program. Models whose mechanism is to be found are
brought to one size, so that no width tells of it. What is added is no dead weight: added heads and
neurons read the whole stream, and write to directions that only they read.
"""

from dataclasses import replace
from typing import Any

import torch

from mini_transformer.model import Transformer

READ = ("W_Q", "W_K", "W_V", "W_in", "W_U")
WRITE = ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")
WRITTEN_FROM = {"W_O": "W_V", "W_out": "W_in"}


@torch.no_grad()
def widen(
    model: Transformer, generator: torch.Generator, **sizes: Any
) -> tuple[Transformer, tuple[int, ...]]:
    """Return a model with these sizes and equal logits, and where each old layer now stands.

    `sizes` are n_layers, n_heads, d_head, d_mlp and d_model. Old heads, neurons and dimensions come
    first; `disguise` mixes them with the added ones. Raise ValueError for a size below the model's
    own, and for a model with norms, tied or fixed embeddings: an added dimension would be felt.

    >>> from mini_transformer import toys
    >>> plain = toys.load("boolean_xor").model
    >>> wide, layers = widen(plain, torch.Generator().manual_seed(0), n_layers=3, d_model=40)
    >>> tokens = torch.tensor([[0, 1, 2, 2, 2, 3]])
    >>> layers, torch.allclose(plain(tokens), wide(tokens), atol=1e-4)
    ((2,), True)
    """
    c = model.config
    if c.norm != "none" or c.tied or c.positions == "sinusoidal":
        raise ValueError(f"{c} cannot be widened: give a model without norms, with free embeddings")
    for name, size in sizes.items():
        if not 0 < getattr(c, name) <= size:
            raise ValueError(
                f"{name} is {size}, but the model has {getattr(c, name)}: "
                "give at least as many, and none where there are none"
            )
    wide = Transformer(replace(c, **sizes)).to(model.W_E.dtype)
    order = torch.randperm(wide.config.n_layers, generator=generator)
    layers = sorted(order[: c.n_layers].tolist())
    old = dict(model.named_parameters())

    def measure_size(leaf: str) -> float:
        same = [weight.flatten() for name, weight in old.items() if name.endswith(leaf)]
        return float(torch.cat(same).std())

    for name, value in wide.named_parameters():
        leaf = name.rpartition(".")[2]
        size = measure_size(leaf) or 0.5  # a bias may be zero everywhere
        if leaf in ("W_O", "W_out"):  # what is written is as large as what was read
            n_read = wide.config.d_model * value.shape[:-1].numel()
            size = n_read**-0.5 / max(measure_size(WRITTEN_FROM[leaf]), 1e-3)
        value.copy_(size * torch.randn(value.shape, generator=generator).to(value))
        if leaf in WRITE:
            value[..., : c.d_model] = 0.0
        if name.startswith("blocks."):
            layer = int(name.split(".")[1])
            if layer not in layers:
                continue
            name = name.replace(f".{layer}.", f".{layers.index(layer)}.", 1)
        if leaf in READ:
            own = value[: c.n_heads] if value.ndim == 3 else value[:, : old[name].shape[1]]
            own[..., c.d_model :, :] = 0.0
        if leaf == "W_K":
            value[: c.n_heads, :, c.d_head :] = 0.0  # what an old head compares stays equal
        value[tuple(slice(size) for size in old[name].shape)] = old[name]
    return wide, tuple(layers)
