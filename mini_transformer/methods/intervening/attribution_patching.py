"""Attribution patching: estimate all entries of a patching map at once, by a gradient.

With base activation a and source activation a', patching an entry changes the metric by about
(a' - a) times its gradient at a: a few forwards and one backward for all layers, where patching
needs a forward per entry. The estimate is exact where the metric is linear between a and a', and
can be wrong by all of the effect where it is not: a saturated softmax has no gradient, paths that
cancel are not seen together. The integrated form averages the gradient over points between a and a'
(two forwards and a backward each, per layer): the estimates of a layer's entries then add up to the
effect of patching the whole layer.
Sources: Syed et al. 2023 (2310.10348); Kramár et al. 2024 (2403.00745), section 2; Marks et al.
2024 (2403.19647), section 2.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.methods.arguments import Metric, Tokens, check_metric, check_pair
from mini_transformer.methods.gradients import find_slopes
from mini_transformer.methods.numerics import check_gradients, widen
from mini_transformer.methods.sites import find_axes, read_sites, run_in_parts, run_with
from mini_transformer.model import Transformer

__all__ = ["attribution_patch"]


def attribution_patch(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    site: str = "resid_pre",
    per: str = "pos",
    steps: int = 0,
    batch_size: int | None = None,
    *,
    direction: Literal["denoise", "noise"],
) -> Float[Tensor, "layer *per"]:
    """Estimate what `patch_activations` measures with the same arguments.

    steps 0 takes the gradient in the base run; steps n averages it over n points between base and
    source activations. At most `batch_size` prompts go through one forward and backward; by default
    as many as keep memory small. ValueError as in `patch_activations`, for a metric that has no
    gradient, such as an accuracy, and under torch.inference_mode.

    >>> from mini_transformer import Config
    >>> from mini_transformer.methods import patch_activations
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> def metric(logits):
    ...     return logits[:, -1, 7]
    >>> run = model, torch.tensor([[1, 2, 3]]), torch.tensor([[4, 2, 3]]), metric, "resid_post"
    >>> estimated = attribution_patch(*run, direction="noise")
    >>> exact = patch_activations(*run, direction="noise")
    >>> torch.allclose(estimated[-1], exact[-1])  # the readout is linear
    True
    """
    if steps < 0:
        fits = "0 (gradient at the base run) or a number of points to average over"
        raise ValueError(f"steps is {steps}, but must be {fits}")
    check_gradients(model)
    base, other = check_pair(clean, corrupt, direction)
    run = read_sites(model, base, site, "resid_pre", batch_size=batch_size)
    source = read_sites(model, other, site, batch_size=batch_size)[site]
    kept = find_axes(site, per)
    rows = choose_rows(model.config, base.shape[1], batch_size)
    # Scores that the causal mask set to -inf are the same in both runs: their difference is
    # nothing, not nan.
    changes = [
        torch.where(new == old, 0.0, new - old) for new, old in zip(source, run[site], strict=True)
    ]

    def run_nudged(part: slice, nudges: Sequence[Tensor]) -> Tensor:
        add = [
            ((site, i), lambda value, hook, nudge=nudge: value + nudge)
            for i, nudge in enumerate(nudges)
        ]
        return model.run_with_hooks(base[part], fwd_hooks=add)

    if steps:
        slopes = [
            average_slope(model, layer, site, resid, own, change, metric, steps, rows)
            for layer, (resid, own, change) in enumerate(
                zip(run["resid_pre"], run[site], changes, strict=True)
            )
        ]
    else:
        nothing = [torch.zeros_like(value) for value in run[site]]
        slopes = find_slopes(run_nudged, nothing, metric, rows)
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
    """Average the gradient at one layer's site over points on the straight line from `base`."""

    def run_at(part: slice, values: Sequence[Tensor]) -> Tensor:
        return run_with(model, layer, site, resid[part], values[0])

    total = torch.zeros_like(widen(base))
    for step in range(steps):
        total += find_slopes(run_at, [base + (step + 0.5) / steps * change], metric, rows)[0]
    return total / steps


def sum_to(effect: Tensor, kept: list[int]) -> Tensor:
    """Sum over all axes that are not kept; those that are come in the order of `kept`."""
    dropped = [axis for axis in range(effect.ndim) if axis not in kept]
    sizes = [effect.shape[axis] for axis in kept]
    return effect.permute(*kept, *dropped).reshape(*sizes, -1).sum(dim=-1)
