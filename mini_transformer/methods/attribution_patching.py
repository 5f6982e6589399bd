"""Attribution patching: what activation patching would show, estimated by a gradient for all entries of a map at once.

With base activation a and source activation a', patching an entry changes the metric by about (a' - a) times its gradient at a:
a few forwards and one backward for all layers, where patching needs a forward per entry. The estimate is exact where the
metric is linear between a and a', and can be wrong by all of the effect where it is not: a saturated softmax has no
gradient, paths that cancel are not seen together. The integrated form averages the gradient over points between a and a' (two
forwards and a backward each, per layer): the estimates of a layer's entries then add up to the effect of patching the whole layer.
Sources: Syed et al. 2023 (2310.10348); Kramár et al. 2024 (2403.00745), section 2; Marks et al. 2024 (2403.19647), section 2.

Checked against: activation patching of sites from which the metric is linear, patching by smaller and smaller steps (finite
differences), the sum over a whole layer, and the saturated attention of a hand-set model.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import check_gradients, widen
from mini_transformer.methods.patching import Metric, check_metric, check_pair
from mini_transformer.methods.sites import (
    Tokens,
    choose_rows,
    find_axes,
    read_sites,
    run_in_parts,
    run_with,
)
from mini_transformer.model import Transformer

Run = Callable[
    [slice, Sequence[Tensor]], Tensor
]  # these prompts with these values at the site: logits (b, t, v)


def estimate_patches(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    site: str = "resid_pre",
    per: str = "pos",
    direction: Literal["denoise", "noise"] = "denoise",
    steps: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "layer *per"]:
    """Estimates of what `patch_activations` measures with the same arguments: the mean metric after each patch.

    steps 0 takes the gradient in the base run; steps n averages it over n points between base and source activations.
    At most `batch_size` prompts go through one forward and backward; by default as many as keep memory small. ValueError as in
    `patch_activations`, for a metric that has no gradient, such as an accuracy, and under torch.inference_mode.

    >>> from mini_transformer import Config
    >>> from mini_transformer.methods import patch_activations
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> runs = model, torch.tensor([[1, 2, 3]]), torch.tensor([[4, 2, 3]]), lambda logits: logits[:, -1, 7], "resid_post"
    >>> bool(torch.allclose(estimate_patches(*runs)[-1], patch_activations(*runs)[-1]))  # the readout is linear
    True
    """
    if steps < 0:
        raise ValueError(
            f"steps is {steps}, but must be 0 (gradient at the base run) or a number of points to average over"
        )
    check_gradients(model)
    base, other = check_pair(clean, corrupt, direction)
    run = read_sites(model, base, site, "resid_pre", batch_size=batch_size)
    source = read_sites(model, other, site, batch_size=batch_size)[site]
    kept, rows = find_axes(site, per), choose_rows(model.config, base.shape[1], batch_size)
    # Scores that the causal mask set to -inf are the same in both runs: their difference is nothing, not nan.
    changes = [
        torch.where(new == old, 0.0, new - old) for new, old in zip(source, run[site], strict=True)
    ]
    if steps:
        slopes = [
            average_slope(
                model,
                layer,
                site,
                run["resid_pre"][layer],
                run[site][layer],
                change,
                metric,
                steps,
                rows,
            )
            for layer, change in enumerate(changes)
        ]
    else:

        def run_nudged(part: slice, nudges: Sequence[Tensor]) -> Tensor:
            add = [
                ((site, i), lambda value, hook, nudge=nudge: value + nudge)
                for i, nudge in enumerate(nudges)
            ]
            return model.run_with_hooks(base[part], fwd_hooks=add)

        slopes = find_slopes(
            run_nudged, [torch.zeros_like(value) for value in run[site]], metric, rows
        )
    with torch.no_grad():
        start = check_metric(metric, run_in_parts(model, base, batch_size))
    effects = [
        widen(change * slope).sum(dim=0) for change, slope in zip(changes, slopes, strict=True)
    ]
    return start + torch.stack([sum_to(effect, kept) for effect in effects])


def average_slope(
    model: Transformer,
    layer: int,
    site: str,
    resid: Tensor,
    base: Tensor,
    change: Tensor,
    metric: Metric,
    steps: int,
    rows: int,
) -> Float[Tensor, "batch ..."]:
    """The mean gradient with respect to one layer's site over points on the straight line from `base`."""

    def run_at(part: slice, values: Sequence[Tensor]) -> Tensor:
        return run_with(model, layer, site, resid[part], values[0])

    total = torch.zeros_like(widen(base))
    for step in range(steps):
        total += find_slopes(run_at, [base + (step + 0.5) / steps * change], metric, rows)[0]
    return total / steps


def find_slopes(
    run: Run, values: Sequence[Tensor], metric: Metric, rows: int
) -> list[Float[Tensor, "batch ..."]]:
    """The gradient of the mean metric with respect to each of `values`, with at most `rows` prompts in one graph.

    The metric sees all prompts at once: first come its slopes in their logits, then those of the logits, part by part.
    """
    parts = [slice(start, start + rows) for start in range(0, len(values[0]), rows)]
    with torch.no_grad():
        logits = torch.cat([run(part, [value[part] for value in values]) for part in parts])
    found = []
    with torch.enable_grad():
        (slope,) = differentiate(check_metric(metric, logits.requires_grad_()), [logits])
        for part in parts:
            leaves = [value[part].clone().requires_grad_() for value in values]
            found.append(
                torch.autograd.grad(run(part, leaves), leaves, slope[part], materialize_grads=True)
            )
    return [torch.cat(pieces) for pieces in zip(*found, strict=True)]


def differentiate(value: Float[Tensor, ""], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of the value with respect to each input; ValueError if it has none in any."""
    check_gradients()
    found: Sequence[Tensor | None] = [None]
    if value.requires_grad:
        found = torch.autograd.grad(value, inputs, allow_unused=True)
    if all(slope is None for slope in found):
        raise ValueError(
            "the metric has no gradient: use a logit difference or a probability, not an accuracy"
        )
    return [
        torch.zeros_like(x) if slope is None else slope
        for x, slope in zip(inputs, found, strict=True)
    ]


def sum_to(effect: Tensor, kept: list[int]) -> Tensor:
    """The sum over all axes that are not kept; those that are come in the order in which they are named."""
    dropped = [axis for axis in range(effect.ndim) if axis not in kept]
    return (
        effect.permute(*kept, *dropped)
        .reshape(*(effect.shape[axis] for axis in kept), -1)
        .sum(dim=-1)
    )
