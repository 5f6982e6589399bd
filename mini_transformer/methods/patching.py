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
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.model import Config, Transformer

Tokens = Int[Tensor, "batch pos"]
Metric = Callable[[Tensor], Tensor]  # logits (b, t, v) to one number per prompt (b)

# What can be patched in a block, and its axes after the batch.
SITES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_in", "mlp_out"), ("pos", "d_model")),
    **dict.fromkeys(("q_input", "k_input", "v_input", "result"), ("pos", "head", "d_model")),
    **dict.fromkeys(("q", "k", "v", "z"), ("pos", "head", "d_head")),
    **dict.fromkeys(("attn_scores", "pattern"), ("head", "query", "key")),
    **dict.fromkeys(("pre", "post"), ("pos", "neuron")),
}
MODULES = dict.fromkeys(("q", "k", "v", "z", "result", "attn_scores", "pattern"), "attn.")
MODULES |= dict.fromkeys(("pre", "post"), "mlp.")
BUDGET = 16e6  # bytes of activations in one forward; four times more or less was slower (batch 128 x 50)


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

    `metric(logits)` gives one number per prompt for logits (b, t, v). `SITES` lists the sites and their axes: heads are
    `site="z", per="head"`; per="head pos" gives a map (layer, head, pos), and per="" patches a whole layer at once. At
    most `batch_size` prompts (times patches) go through one forward; by default as many as keep memory small.
    ValueError for prompts of different shape, a site or axis that does not exist, a metric that is not one number each.

    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> clean, corrupt = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 2, 3]])
    >>> values = patch_activations(model, clean, corrupt, lambda logits: logits[:, -1, 7])
    >>> tuple(values.shape), torch.allclose(values[0, 0], model(clean)[0, -1, 7])  # the prompts differ at position 0
    ((2, 3), True)
    """
    base, other = check_pair(clean, corrupt, direction)
    both = read_sites(model, torch.cat([base, other]), site, "resid_pre", "resid_post")  # one run reads both
    run = {site: [value[: len(base)] for value in values] for site, values in both.items()}
    source = [value[len(base) :] for value in both[site]]
    return sweep(model, run, metric, site, per, source, batch_size)


def share_recovered(
    values: Float[Tensor, "*entry"], model: Transformer, clean: Tokens, corrupt: Tokens, metric: Metric
) -> Float[Tensor, "*entry"]:
    """Mean metrics on the scale on which the corrupt run is 0 and the clean run is 1.

    ValueError if the metric hardly tells the two runs apart: there is nothing to recover then.
    """
    with torch.no_grad():
        low, high = (check_metric(metric, model(tokens)) for tokens in (corrupt, clean))
    if not (high - low).abs() > 1e-4 * max(1.0, high.abs().item()):
        raise ValueError(f"the metric is {high:.4g} on clean and {low:.4g} on corrupt prompts, but it must differ")
    return (values - low) / (high - low)


def check_pair(clean: Tokens, corrupt: Tokens, direction: str = "noise") -> tuple[Tokens, Tokens]:
    """The prompts that are run, and those that are patched into them; ValueError unless they go together row by row."""
    if clean.shape != corrupt.shape:
        given = f"clean prompts are {tuple(clean.shape)} and corrupt ones {tuple(corrupt.shape)}"
        raise ValueError(f"{given}, but they must have one shape: row i of one is patched into row i of the other")
    if direction not in ("denoise", "noise"):
        raise ValueError(f"direction is {direction!r}, but must be 'denoise' (clean into corrupt) or 'noise'")
    return (corrupt, clean) if direction == "denoise" else (clean, corrupt)


def find_axes(site: str, per: str) -> list[int]:
    """The axes of a site (0 is the first after the batch) that `per` names; ValueError for one that it does not have."""
    axes, swept = SITES[site], per.split()
    if unknown := [axis for axis in swept if axis not in axes]:
        raise ValueError(f"{site} has the axes {', '.join(axes)}, but per asks for {unknown[0]!r}")
    if len(set(swept)) < len(swept):
        raise ValueError(f"per is {per!r}, but must name an axis once at most")
    return [axes.index(axis) for axis in swept]


def read_sites(model: Transformer, tokens: Tokens, *sites: str) -> dict[str, list[Tensor]]:
    """The activations at each site, one tensor per layer; ValueError for a site that this model does not have."""
    layers = range(model.config.n_layers)
    known = [site for site in SITES if layers and name_site(site, 0) in model.hook_points]
    if unknown := [site for site in sites if site not in known]:
        raise ValueError(f"site is {unknown[0]!r}, but must be one of: {', '.join(known) or 'none, without layers'}")
    if not len(tokens):
        raise ValueError("the batch holds no prompts, but a mean needs at least one")
    names = {site: [name_site(site, layer) for layer in layers] for site in sites}
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=[name for site in names for name in names[site]])
    return {site: [cache[name] for name in names[site]] for site in sites}


def name_site(site: str, layer: int) -> str:
    """The full name of a site's hook: looking up short ones took a quarter of a sweep over one short prompt."""
    return f"blocks.{layer}.{MODULES.get(site, '')}hook_{site}"


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
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1, or None")
    swept, shape = find_axes(site, per), run[site][0].shape[1:]
    sizes = [size if axis in swept else 1 for axis, size in enumerate(shape)]
    rows, values = batch_size or count_rows(model.config, run["resid_pre"][0].shape[1]), []
    for layer, base in enumerate(run[site]):
        streams = run["resid_pre"][layer], run["resid_post"][layer]
        for logits in run_patched(model, layer, site, streams, base, source[layer], sizes, rows):
            values.append(check_metric(metric, logits))
    dropped = [1 + axis for axis in range(len(sizes)) if axis not in swept]
    found = torch.stack(values).view(-1, *sizes).permute(0, *(1 + axis for axis in swept), *dropped)
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
    batch, entries = len(base), torch.arange(math.prod(sizes))
    in_stream = {"resid_pre": 0, "resid_post": 1, "mlp_out": 1} | ({} if model.config.d_mlp else {"attn_out": 1})
    for chunk in entries.split(max(1, rows // batch)):
        chosen = (chunk.unsqueeze(1) == entries).view(-1, 1, *sizes)  # one entry each, of all prompts
        patched = torch.where(chosen, source, base)  # entry b ...
        if (side := in_stream.get(site)) is not None:  # the same change in a stream: no need to run the block for it
            resid = (streams[side] + patched - base).flatten(0, 1)
            logits = [model(resid=part, start_at_layer=layer + side) for part in resid.split(rows)]
        else:
            resid = streams[0].expand(len(chunk), *streams[0].shape).flatten(0, 1)
            parts = zip(resid.split(rows), patched.flatten(0, 1).split(rows), strict=True)
            logits = [run_with(model, layer, site, *part) for part in parts]
        yield from torch.cat(logits).unflatten(0, (-1, batch))


def run_with(model: Transformer, layer: int, site: str, resid: Tensor, value: Tensor) -> Float[Tensor, "row pos out"]:
    """Logits of a run that enters block `layer` with the stream `resid`, and has `value` at one of its sites."""
    hook = (name_site(site, layer), lambda old, hook: value)
    return model.run_with_hooks(resid=resid, start_at_layer=layer, fwd_hooks=[hook])


def count_rows(config: Config, length: int) -> int:
    """How many prompts of this length go through one forward on the budget, by the largest tensors of a block."""
    per_head = config.n_heads * (4 * config.d_head + 3 * length)
    per_position = 8 * config.d_model + per_head + 3 * config.d_mlp + 2 * config.d_vocab_out
    return max(1, int(BUDGET / (4 * length * per_position)))


def check_metric(metric: Metric, logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, ""]:
    """The mean of the metric over prompts; ValueError if it is not one number per prompt."""
    value = metric(logits)
    if not isinstance(value, Tensor) or value.shape != logits.shape[:1] or not value.is_floating_point():
        given = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        fits = f"must return one float per prompt: shape ({len(logits)},)"
        raise ValueError(f"the metric returned {given} for logits {tuple(logits.shape)}, but {fits}")
    return value.mean()
