"""Activation patching: put an activation of another run into this one.

A map holds one such experiment per layer and position (or head, or neuron). Denoising runs the
corrupt prompt and puts clean activations in: it finds what is *enough* to restore the answer.
Noising runs the clean prompt and puts corrupt ones in: it finds what is *needed*. With backups or
redundancy the two disagree.
Sources: Vig et al. 2020; Meng et al. 2022, section 2; Heimersheim & Nanda 2024 (2404.15255) on
metrics and directions.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import Metric, Tokens, check_batch, check_pair, tell_apart
from mini_transformer.methods.sites import read_sites, run_in_parts
from mini_transformer.methods.sweeps import sweep
from mini_transformer.model import Transformer

__all__ = ["measure_share_recovered", "patch_activations"]


def patch_activations(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    site: str = "resid_pre",
    per: str = "pos",
    batch_size: int | None = None,
    *,
    direction: Literal["denoise", "noise"],
) -> Float[Tensor, "layer *per"]:
    """Measure the mean metric after patching `site`, per layer and entry.

    There is an entry for each place along the axes named in `per`. `metric(logits)` gives one
    number per prompt for logits (b, t, v). `sites.SITES` lists the sites and their axes: heads are
    `site="z", per="head"`; per="head pos" gives a map (layer, head, pos), and per="" patches a
    whole layer at once. At most `batch_size` prompts (times patches) go through one forward; by
    default as many as keep memory small. An entry is nan or infinite where the metric is.
    ValueError for prompts of different shape, a site or axis that does not exist, a metric that is
    not one number each.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> clean, corrupt = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 2, 3]])
    >>> def metric(logits):
    ...     return logits[:, -1, 7]
    >>> values = patch_activations(model, clean, corrupt, metric, direction="denoise")
    >>> values.shape
    torch.Size([2, 3])
    >>> torch.allclose(values[0, 0], metric(model(clean)))  # the prompts differ at position 0
    True
    """
    base, other = check_pair(clean, corrupt, direction)
    prompts = torch.cat([base, other])  # one run reads both
    both = read_sites(model, prompts, site, "resid_pre", "resid_post", batch_size=batch_size)
    run = {site: [value[: len(base)] for value in values] for site, values in both.items()}
    source = [value[len(base) :] for value in both[site]]
    return sweep(model, run, metric, site, per, source, batch_size)


def measure_share_recovered(
    values: Float[Tensor, "*entry"],
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
) -> Float[Tensor, "*entry"]:
    """Rescale mean metrics so that the corrupt run is 0 and the clean run is 1.

    ValueError if the metric hardly tells the two runs apart, in its own unit: there is nothing to
    recover then.
    """
    check_batch(clean, corrupt)
    with torch.no_grad():
        runs = [run_in_parts(model, tokens) for tokens in (corrupt, clean)]
    before, after, differs = tell_apart(metric, *runs)
    low, high = before.mean(), after.mean()
    if not differs:
        told = f"the metric is {high:.4g} on clean and {low:.4g} on corrupt prompts"
        raise ValueError(f"{told}, but it must differ, by more than rounding does, and be finite")
    return (values - low) / (high - low)
