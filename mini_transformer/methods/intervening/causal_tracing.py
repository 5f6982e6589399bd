"""Causal tracing: blur some tokens with noise, and restore one clean activation.

Noise on the embeddings of the subject takes away which one it is without putting another in its
place, so no second prompt is needed; every later activation is then noisy too, except the one that
is restored. What noise does depends on its size: little leaves the answer there, much makes a
stream that the model never saw. A restored activation that brings the answer back carries it; it
need not be where it is computed. Where another prompt of the same form exists, patching from that
one is the cleaner question (Zhang and Nanda 2024, 2309.16042).

One layer of many that do the same may bring back little: a window restores several at once. And a
restored stream passes through later layers, so one may ask which of them it needs: severed, they go
on writing what they wrote in the noisy run.
Sources: Meng et al. 2022 (2202.05262), section 2.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.hooks import HookPoint
from mini_transformer.methods.arguments import Metric, Tokens, check_metric, check_prompts
from mini_transformer.methods.numerics import draw_normal, widen
from mini_transformer.methods.sites import SITES, find_axes, name_site, read_sites
from mini_transformer.methods.sweeps import arrange_map, sweep
from mini_transformer.model import Transformer

__all__ = ["causal_trace", "run_with_noise"]

Blurred = Bool[Tensor, "batch pos"]


@torch.no_grad()
def causal_trace(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    blurred: Blurred,
    site: str = "resid_post",
    per: str = "pos",
    noise: float | int | None = None,
    draws: int = 10,
    seed: int = 0,
    window: int = 1,
    severed: Literal["attn_out", "mlp_out"] | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "layer *per"]:
    """Measure the mean metric of noisy runs in which one entry of `site` has its clean value.

    Sites and `per` are those of `patch_activations`. `blurred` marks the positions whose token
    embeddings get normal noise with standard deviation `noise` (default: three times that of the
    embeddings W_E), drawn `draws` times from `seed`, the same in every dtype. The scale is that of
    `measure_share_recovered` if 0 is the metric of `run_with_noise` and 1 that of the plain run.

    `window` layers are restored together, l - window // 2 and on (10 in the paper, for attention
    and MLPs). `severed` names what keeps its noisy value in all layers at the entry's position,
    except where it is itself restored. ValueError for what does not fit.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> tokens, subject = torch.tensor([[1, 2, 3]]), torch.tensor([[True, False, False]])
    >>> def metric(logits):
    ...     return logits[:, -1, 7]
    >>> values = causal_trace(model, tokens, metric, subject, "resid_pre")
    >>> torch.allclose(values[0, 0], metric(model(tokens)))  # all that was blurred is restored
    True
    """
    if window < 1 or severed not in (None, "attn_out", "mlp_out"):
        given = f"window is {window} and severed {severed!r}"
        raise ValueError(f"{given}, but must be from 1, and 'attn_out' or 'mlp_out'")
    blurs = draw_noise(model, tokens, blurred, noise, draws, seed)
    source = read_sites(model, tokens, site, batch_size=batch_size)[site]
    stream = model.embed(tokens)
    sites = dict.fromkeys((site, "resid_pre", "resid_post", *([severed] if severed else [])))
    maps = []
    for blur in blurs:
        noisy = stream + blur
        run = read_sites(model, noisy, *sites, batch_size=batch_size)
        if window == 1 and severed is None:
            values = sweep(model, run, metric, site, per, source, batch_size)
        else:
            frozen: dict[str, list[Tensor]] = {severed: run[severed]} if severed else {}
            values = sweep_windows(
                model, noisy, metric, site, per, source, frozen, window, batch_size
            )
        maps.append(values)
    return torch.stack(maps).mean(dim=0)


@torch.no_grad()
def run_with_noise(
    model: Transformer,
    tokens: Tokens,
    blurred: Blurred,
    noise: float | int | None = None,
    draws: int = 10,
    seed: int = 0,
) -> Float[Tensor, "draw batch pos out"]:
    """Run with noise and restore nothing; return the logits of each draw.

    The noise is that of `causal_trace`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> tokens, subject = torch.tensor([[1, 2, 3]]), torch.tensor([[False, False, True]])
    >>> logits = run_with_noise(model, tokens, subject, draws=4)
    >>> logits.shape
    torch.Size([4, 1, 3, 9])
    >>> torch.allclose(logits[:, :, :2], model(tokens)[:, :2].expand(4, -1, -1, -1))
    True
    """
    blurs = draw_noise(model, tokens, blurred, noise, draws, seed)
    stream = model.embed(tokens)
    return torch.stack([model(resid=stream + blur) for blur in blurs])


def draw_noise(
    model: Transformer,
    tokens: Tokens,
    blurred: Blurred,
    noise: float | int | None,
    draws: int,
    seed: int,
) -> list[Float[Tensor, "batch pos d_model"]]:
    """Draw what is added to the embeddings.

    ValueError for a mask that blurs nothing or does not fit the tokens.
    """
    check_prompts(tokens)
    if blurred.dtype != torch.bool or blurred.shape != tokens.shape:
        given = f"blurred is {blurred.dtype} {tuple(blurred.shape)}"
        fits = f"torch.bool {tuple(tokens.shape)}"
        raise ValueError(f"{given}, expected {fits}: which tokens get noise, per prompt")
    if not blurred.any():
        raise ValueError("blurred marks no token, but there is nothing to trace without noise")
    if draws < 1:
        raise ValueError(f"draws is {draws}, but must be at least 1")
    if noise is None:
        noise = 3 * widen(model.W_E).std(correction=int(model.W_E.numel() > 1)).item()
        if not noise:
            given = "all entries of W_E are the same, which gives noise no size"
            raise ValueError(f"{given}: give `noise`")
    if not 0 < noise < math.inf:
        raise ValueError(f"noise is {noise}, but must be a positive standard deviation")
    generator = torch.Generator().manual_seed(seed)
    size = (*tokens.shape, model.config.d_model)
    drawn = (draw_normal(*size, generator=generator, like=model.W_E.detach()) for _ in range(draws))
    return [noise * values * blurred.unsqueeze(-1).to(values.device) for values in drawn]


def sweep_windows(
    model: Transformer,
    stream: Float[Tensor, "batch pos d_model"],
    metric: Metric,
    site: str,
    per: str,
    source: Sequence[Tensor],
    frozen: dict[str, list[Tensor]],
    window: int,
    batch_size: int | None,
) -> Float[Tensor, "layer *per"]:
    """Measure the mean metric with one entry restored to `source` in a window of layers.

    There is one run from `stream` per entry. What is `frozen` keeps its value at the entry's
    position.
    """
    layers = len(source)
    swept = find_axes(site, per)
    rows = choose_rows(model.config, stream.shape[1], batch_size)
    sizes = [size if axis in swept else 1 for axis, size in enumerate(source[0].shape[1:])]
    entries = torch.arange(math.prod(sizes), device=stream.device)
    everywhere = torch.ones(1, 1, 1, dtype=torch.bool, device=stream.device)
    values = []
    for layer in range(layers):
        restored = range(max(0, layer - window // 2), min(layers, layer + (window + 1) // 2))
        for entry in entries:
            chosen = (entry == entries).view(1, *sizes)
            at = everywhere
            if "pos" in SITES[site]:
                at = chosen.flatten(2).any(dim=2, keepdim=True)  # 1 t 1
            edits = [
                (name_site(other, i), frozen[other][i], at)
                for other in frozen
                for i in range(layers)
            ]
            # These come after the frozen ones, and win.
            edits += [(name_site(site, i), source[i], chosen) for i in restored]
            values.append(check_metric(metric, run_edited(model, stream, edits, rows)))
    return arrange_map(values, sizes, swept)


def run_edited(
    model: Transformer, stream: Tensor, edits: Sequence[tuple[str, Tensor, Tensor]], rows: int
) -> Float[Tensor, "batch pos out"]:
    """Run from `stream` with edits (hook name, new value, where), and return the logits."""

    def put(new: Tensor, where: Tensor, value: Tensor, hook: HookPoint) -> Tensor:
        return torch.where(where, new, value)

    logits = []
    for start in range(0, len(stream), rows):
        part = slice(start, start + rows)
        hooks = [(name, partial(put, new[part], where)) for name, new, where in edits]
        logits.append(model.run_with_hooks(resid=stream[part], fwd_hooks=hooks))
    return torch.cat(logits)
