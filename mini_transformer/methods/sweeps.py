"""Sweeps: replace one entry of a site at a time, over all layers, and average the metric.

The replaced runs of a layer share one forward: they are stacked along the batch and resume at that
layer, since nothing before it has changed.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.methods.arguments import Metric, check_metric
from mini_transformer.methods.sites import find_axes, run_with
from mini_transformer.model import Transformer

__all__ = ["arrange_map", "sweep"]


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
    """Measure the mean metric of a run with one entry of `site` at a time from `source`.

    `run` is what `read_sites` returns for `site`, resid_pre and resid_post; `source` has one tensor
    per layer. Patching and ablation differ in `source`.
    """
    swept = find_axes(site, per)
    shape = run[site][0].shape[1:]
    sizes = [size if axis in swept else 1 for axis, size in enumerate(shape)]
    rows = choose_rows(model.config, run["resid_pre"][0].shape[1], batch_size)
    values = []
    for layer, base in enumerate(run[site]):
        streams = run["resid_pre"][layer], run["resid_post"][layer]
        for logits in run_patched(model, layer, site, streams, base, source[layer], sizes, rows):
            values.append(check_metric(metric, logits))
    return arrange_map(values, sizes, swept)


def arrange_map(
    values: Sequence[Float[Tensor, ""]], sizes: Sequence[int], swept: Sequence[int]
) -> Float[Tensor, "layer *per"]:
    """Arrange values, in the order layer and entries of `sizes`, as a map.

    Its axes are the swept ones, in the order in which they were named.
    """
    kept = [1 + axis for axis in swept]
    dropped = [1 + axis for axis in range(len(sizes)) if axis not in swept]
    found = torch.stack(list(values)).view(-1, *sizes).permute(0, *kept, *dropped)
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
    """Yield, for each entry of `sizes`, the logits of all prompts with it from `source`.

    `streams` are those that enter and leave the block. As many entries share a forward as fit into
    `rows` prompts.
    """
    batch = len(base)
    entries = torch.arange(math.prod(sizes), device=base.device)
    # A change of these is the same change of the stream before or after the block: there is no need
    # to run the block for it.
    side = {"resid_pre": 0, "resid_post": 1, "mlp_out": 1}.get(site)
    if site == "attn_out" and not model.config.d_mlp:
        side = 1
    for chunk in entries.split(max(1, rows // batch)):
        chosen = (chunk.unsqueeze(1) == entries).view(-1, 1, *sizes)  # one entry, of all prompts
        patched = torch.where(chosen, source, base)  # entry b ...
        if side is None:
            resid = streams[0].expand(len(chunk), *streams[0].shape).flatten(0, 1)
            parts = zip(resid.split(rows), patched.flatten(0, 1).split(rows), strict=True)
            logits = [run_with(model, layer, site, *part) for part in parts]
        else:
            resid = (streams[side] + patched - base).flatten(0, 1)
            logits = [model(resid=part, start_at_layer=layer + side) for part in resid.split(rows)]
        yield from torch.cat(logits).unflatten(0, (-1, batch))
