"""Activation patching: put one activation of another run into this one, and see how much of that run's answer comes along.

A map holds one such experiment per layer and position (or head, or neuron). Denoising runs the corrupt prompt and puts clean
activations in: it finds what is *enough* to restore the answer. Noising runs the clean prompt and puts corrupt ones in:
it finds what is *needed*. With backups or redundancy the two disagree. Sources: Vig et al. 2020; Meng et al. 2022, section
2; Heimersheim & Nanda 2024 (2404.15255) on metrics and directions.

The patched runs of a layer share one forward: they are stacked along the batch and resume at that layer, since nothing
before it has changed. Checked against: one hooked forward per entry of the map, for every site; the maps of
TransformerLens 3.9 on the same weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import make_ordinary, widen
from mini_transformer.methods.sites import (
    Tokens,
    check_prompts,
    choose_rows,
    find_axes,
    read_sites,
    run_in_parts,
    run_with,
)
from mini_transformer.model import Transformer

# Logits (b, t, v) to one number per prompt (b). Where that is nan or infinite, so are the means of it.
Metric = Callable[[Tensor], Tensor]


def patch_activations(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    site: str = "resid_pre",
    per: str = "pos",
    direction: Literal["denoise", "noise"] = "denoise",
    batch_size: int | None = None,
) -> Float[Tensor, "layer *per"]:
    """The mean metric after patching `site`, for every layer and every entry along the axes named in `per`.

    `metric(logits)` gives one number per prompt for logits (b, t, v). `sites.SITES` lists the sites and their axes: heads are
    `site="z", per="head"`; per="head pos" gives a map (layer, head, pos), and per="" patches a whole layer at once. At
    most `batch_size` prompts (times patches) go through one forward; by default as many as keep memory small.
    An entry is nan or infinite where the metric is.
    ValueError for prompts of different shape, a site or axis that does not exist, a metric that is not one number each.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> clean, corrupt = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 2, 3]])
    >>> values = patch_activations(model, clean, corrupt, lambda logits: logits[:, -1, 7])
    >>> tuple(values.shape), torch.allclose(values[0, 0], model(clean)[0, -1, 7])  # the prompts differ at position 0
    ((2, 3), True)
    """
    base, other = check_pair(clean, corrupt, direction)
    prompts = torch.cat([base, other])  # one run reads both
    both = read_sites(model, prompts, site, "resid_pre", "resid_post", batch_size=batch_size)
    run = {site: [value[: len(base)] for value in values] for site, values in both.items()}
    source = [value[len(base) :] for value in both[site]]
    return sweep(model, run, metric, site, per, source, batch_size)


def share_recovered(
    values: Float[Tensor, "*entry"],
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
) -> Float[Tensor, "*entry"]:
    """Mean metrics on the scale on which the corrupt run is 0 and the clean run is 1.

    ValueError if the metric hardly tells the two runs apart, in its own unit: there is nothing to recover then.
    """
    check_pair(clean, corrupt)
    with torch.no_grad():
        runs = [run_in_parts(model, tokens) for tokens in (corrupt, clean)]
    before, after, differs = tell_apart(metric, *runs)
    low, high = before.mean(), after.mean()
    if not differs:
        told = f"the metric is {high:.4g} on clean and {low:.4g} on corrupt prompts"
        raise ValueError(f"{told}, but it must differ, by more than rounding does, and be finite")
    return (values - low) / (high - low)


def check_pair(clean: Tokens, corrupt: Tokens, direction: str = "noise") -> tuple[Tokens, Tokens]:
    """The prompts that are run, and those that are patched into them; ValueError unless they go together row by row."""
    if clean.shape != corrupt.shape:
        given = f"clean prompts are {tuple(clean.shape)} and corrupt ones {tuple(corrupt.shape)}"
        raise ValueError(
            f"{given}, but they must have one shape: row i of one is patched into row i of the other"
        )
    check_prompts(clean)
    if direction not in ("denoise", "noise"):
        raise ValueError(
            f"direction is {direction!r}, but must be 'denoise' (clean into corrupt) or 'noise'"
        )
    clean, corrupt = make_ordinary(clean), make_ordinary(corrupt)
    return (corrupt, clean) if direction == "denoise" else (clean, corrupt)


@torch.no_grad()
def sweep(
    model: Transformer,
    run: dict[str, list[Tensor]],
    metric: Metric,
    site: str,
    per: str,
    source: Sequence[Tensor],
    batch_size: int | None = None,
) -> Float[Tensor, "layer *per"]:
    """The mean metric of a run with one entry of `site` at a time replaced by that of `source` (one per layer).

    `run` is what `read_sites` returns for `site`, resid_pre and resid_post. Patching and ablation differ in `source`.
    """
    swept, shape = find_axes(site, per), run[site][0].shape[1:]
    sizes = [size if axis in swept else 1 for axis, size in enumerate(shape)]
    rows, values = choose_rows(model.config, run["resid_pre"][0].shape[1], batch_size), []
    for layer, base in enumerate(run[site]):
        streams = run["resid_pre"][layer], run["resid_post"][layer]
        for logits in run_patched(model, layer, site, streams, base, source[layer], sizes, rows):
            values.append(check_metric(metric, logits))
    return arrange_map(values, sizes, swept)


def arrange_map(
    values: Sequence[Float[Tensor, ""]], sizes: Sequence[int], swept: Sequence[int]
) -> Float[Tensor, "layer *per"]:
    """Values in the order layer, entries of `sizes`, as a map with the swept axes in the order in which they were named."""
    dropped = [1 + axis for axis in range(len(sizes)) if axis not in swept]
    found = (
        torch.stack(list(values))
        .view(-1, *sizes)
        .permute(0, *(1 + axis for axis in swept), *dropped)
    )
    return found.reshape(found.shape[: 1 + len(swept)])


def run_patched(
    model: Transformer,
    layer: int,
    site: str,
    streams: tuple[Tensor, Tensor],
    base: Tensor,
    source: Tensor,
    sizes: Sequence[int],
    rows: int,
) -> Iterator[Float[Tensor, "batch pos out"]]:
    """For each entry of `sizes` in turn, the logits of all prompts with that entry of `base` replaced by `source`.

    `streams` are those that enter and leave the block. As many entries share a forward as fit into `rows` prompts.
    """
    batch, entries = len(base), torch.arange(math.prod(sizes), device=base.device)
    in_stream = {"resid_pre": 0, "resid_post": 1, "mlp_out": 1} | (
        {} if model.config.d_mlp else {"attn_out": 1}
    )
    for chunk in entries.split(max(1, rows // batch)):
        chosen = (chunk.unsqueeze(1) == entries).view(
            -1, 1, *sizes
        )  # one entry each, of all prompts
        patched = torch.where(chosen, source, base)  # entry b ...
        if (
            side := in_stream.get(site)
        ) is not None:  # the same change in a stream: no need to run the block for it
            resid = (streams[side] + patched - base).flatten(0, 1)
            logits = [model(resid=part, start_at_layer=layer + side) for part in resid.split(rows)]
        else:
            resid = streams[0].expand(len(chunk), *streams[0].shape).flatten(0, 1)
            parts = zip(resid.split(rows), patched.flatten(0, 1).split(rows), strict=True)
            logits = [run_with(model, layer, site, *part) for part in parts]
        yield from torch.cat(logits).unflatten(0, (-1, batch))


def check_metric(metric: Metric, logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, ""]:
    """The mean of the metric over prompts; ValueError if it is not one number per prompt."""
    return score_prompts(metric, logits).mean()


def score_prompts(metric: Metric, logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, "batch"]:
    """Score each prompt, in float32 at least; ValueError if that is not one number per prompt.

    The metric gets a copy of the logits, which it may edit.
    """
    value = metric(logits.clone())
    if (
        not isinstance(value, Tensor)
        or value.shape != logits.shape[:1]
        or not value.is_floating_point()
    ):
        given = (
            f"{value.dtype} {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else type(value).__name__
        )
        fits = f"must return one float per prompt: shape ({len(logits)},)"
        raise ValueError(
            f"the metric returned {given} for logits {tuple(logits.shape)}, but {fits}"
        )
    return widen(value)


@torch.no_grad()
def tell_apart(
    metric: Metric, one: Float[Tensor, "batch pos out"], other: Float[Tensor, "batch pos out"]
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"], bool]:
    """Score the prompts of two runs, and say whether their means are finite and differ.

    They must differ by a ten-thousandth of the metric's own size, whatever its unit, and by more
    than rounding. Scores near zero may hold nothing else.
    """
    scores = score_prompts(metric, one), score_prompts(metric, other)
    size = torch.stack(scores).abs().mean(dim=1).max()
    gap = (scores[0].mean() - scores[1].mean()).abs()
    differs = bool(gap.isfinite() and gap > 1e-4 * size)
    if differs and gap < 1e-4:  # else rounding is not in question
        differs = bool(
            gap
            > torch.maximum(
                measure_metric_rounding(metric, one), measure_metric_rounding(metric, other)
            ).mean()
        )
    return *scores, differs


@torch.no_grad()
def measure_metric_rounding(
    metric: Metric, logits: Float[Tensor, "batch pos out"]
) -> Float[Tensor, "batch"]:
    """Measure how far rounding can move the metric of each prompt, by trying it on the logits.

    All logits are stretched alike, so that equal ones stay equal: an accuracy does not move.
    """
    start, eps = score_prompts(metric, logits), torch.finfo(logits.dtype).eps
    moved = [score_prompts(metric, logits * (1 + step * eps)) - start for step in (-4, -2, 2, 4)]
    return 4 * torch.stack(moved).abs().amax(dim=0)
