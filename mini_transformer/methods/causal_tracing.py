"""Causal tracing: blur some tokens with noise, put clean activations back one at a time, and see where the answer returns.

Noise on the embeddings of the subject takes away which one it is without putting another in its place, so no second prompt is needed;
every later activation is then noisy too, except the one that is restored. What noise does depends on its size: little leaves the
answer there, much makes a stream that the model never saw. A restored activation that brings the answer back carries it; it
need not be where it is computed. Where another prompt of the same form exists, patching from that one is the
cleaner question (Zhang and Nanda 2024, 2309.16042).
Sources: Meng et al. 2022 (2202.05262), section 2.1.

Checked against: hooks written out in loops, one run per draw of the noise and entry, and the trained store of facts.
"""

import math
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mini_transformer.hooks import HookFunction, HookPoint
from mini_transformer.methods.patching import Metric, Tokens, read_sites, sweep
from mini_transformer.model import Transformer

Blurred = Bool[Tensor, "batch pos"]


def trace_causally(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    blurred: Blurred,
    site: str = "resid_post",
    per: str = "pos",
    noise: float | None = None,
    draws: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "layer *per"]:
    """The mean metric of noisy runs in which one entry of `site` is restored to its clean value, per layer and entry.

    Sites and `per` are those of `patch_activations`. `blurred` marks the positions whose token embeddings get normal noise with standard
    deviation `noise` (default: three times that of the embeddings W_E), drawn `draws` times from `seed`. The scale is that of
    `share_recovered` if 0 is the metric of `run_with_noise` and 1 that of the plain run.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> tokens, subject = torch.tensor([[1, 2, 3]]), torch.tensor([[True, False, False]])
    >>> values = trace_causally(model, tokens, lambda logits: logits[:, -1, 7], subject, "resid_pre")
    >>> torch.allclose(values[0, 0], model(tokens)[0, -1, 7])  # everything that was blurred is restored
    True
    """
    source = read_sites(model, tokens, site)[site]
    maps = []
    for hook in make_noise(model, tokens, blurred, noise, draws, seed):
        with model.hooks([("embed", hook)]):
            run = read_sites(model, tokens, site, "resid_pre", "resid_post")
        maps.append(sweep(model, run, metric, site, per, source, batch_size))
    return torch.stack(maps).mean(dim=0)


def run_with_noise(
    model: Transformer,
    tokens: Tokens,
    blurred: Blurred,
    noise: float | None = None,
    draws: int = 10,
    seed: int = 0,
) -> Float[Tensor, "draw batch pos out"]:
    """Logits of the noisy runs in which nothing is restored, one per draw; the same noise as in `trace_causally`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> tokens, subject = torch.tensor([[1, 2, 3]]), torch.tensor([[False, False, True]])
    >>> logits = run_with_noise(model, tokens, subject, draws=4)
    >>> tuple(logits.shape), torch.allclose(logits[:, :, :2], model(tokens)[:, :2].expand(4, -1, -1, -1))
    ((4, 1, 3, 9), True)
    """
    with torch.no_grad():
        hooks = make_noise(model, tokens, blurred, noise, draws, seed)
        return torch.stack([model.run_with_hooks(tokens, fwd_hooks=[("embed", hook)]) for hook in hooks])


def make_noise(
    model: Transformer, tokens: Tokens, blurred: Blurred, noise: float | None, draws: int, seed: int
) -> list[HookFunction]:
    """One hook per draw that blurs the embeddings; ValueError for a mask that blurs nothing or does not fit the tokens."""
    if blurred.dtype != torch.bool or blurred.shape != tokens.shape:
        given, fits = f"{blurred.dtype} {tuple(blurred.shape)}", tuple(tokens.shape)
        raise ValueError(f"blurred is {given}, expected torch.bool {fits}: which tokens get noise, per prompt")
    if not blurred.any():
        raise ValueError("blurred marks no token, or there are no prompts: there is nothing to trace without noise")
    if draws < 1:
        raise ValueError(f"draws is {draws}, but must be at least 1")
    noise = 3 * model.W_E.std().item() if noise is None else noise
    if not 0 < noise < math.inf:
        raise ValueError(f"noise is {noise}, but must be a positive standard deviation")
    generator = torch.Generator().manual_seed(seed)
    size = *tokens.shape, model.config.d_model
    return [
        partial(add_blur, noise * torch.randn(size, generator=generator, dtype=model.W_E.dtype) * blurred.unsqueeze(-1))
        for _ in range(draws)
    ]


def add_blur(blur: Tensor, value: Tensor, hook: HookPoint) -> Tensor:
    return value + blur
