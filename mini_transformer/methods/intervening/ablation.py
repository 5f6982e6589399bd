"""Ablation: take a component out of a model, and see what the model can no longer do.

What a component turns out to be needed for depends on what replaces it. Zero may be far from
anything that the rest of the model ever saw; the mean over prompts keeps what is common to all of
them (often the positions); resample, the same component on another prompt, is in distribution but
can bring back the same value. A small effect does not prove that a component is idle: a backup may
have taken over; taking components out in pairs shows it. (Directions of the stream: `directions`.)
Sources: Olsson et al. 2022; Wang et al. 2022, section 3; Chan et al. 2022.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import Ablation
from mini_transformer.hooks import HookFunction
from mini_transformer.methods.arguments import (
    Metric,
    Reference,
    Tokens,
    check_ablation,
    check_metric,
    check_positions,
    check_prompts,
)
from mini_transformer.methods.sites import read_sites
from mini_transformer.methods.sweeps import sweep
from mini_transformer.model import Transformer
from mini_transformer.nearest import find_nearest

__all__ = ["ablate", "ablate_each", "ablate_each_head", "ablate_pairs"]

# A site with axes (b, t, entry, ...), its layer, and one entry or all.
Place = tuple[str, int, int | slice]


def ablate(
    model: Transformer,
    tokens: Tokens,
    parts: Iterable[str],
    ablation: Ablation,
    reference: Reference | None = None,
    positions: Sequence[int] | None = None,
) -> Float[Tensor, "batch pos out"]:
    """Run without the named parts, all taken out together, and return the logits.

    Parts are heads (`a0.h1`), neurons (`m0.n5`) or whole layers (`a0`, `m0`). "zero": nothing is
    written; "mean": the mean over the prompts of `reference` (default: `tokens`), per position;
    "resample": what is written on the same row of `reference`. `positions` restricts it to some
    positions. Attention biases (b_O) belong to no head and stay. KeyError for a part that the model
    does not have, ValueError for a position that it does not.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> for part in ("a0.h0", "a0.h1"):
    ...     logits = ablate(case.model, batch.clean, [part], "zero")
    ...     print(part, batch.correct(logits).float().mean().item())
    a0.h0 0.0
    a0.h1 1.0
    """
    check_prompts(tokens)
    places = locate_parts(model, parts)
    check_positions(positions or (), tokens.shape[1])
    at = slice(None) if positions is None else list(positions)
    sites = dict.fromkeys(site for site, _, _ in places)
    source = read_source(model, tokens, ablation, reference, *sites)
    hooks = [replace_part(place, at, source) for place in places]
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks)


def ablate_each(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    site: str,
    per: str,
    ablation: Ablation,
    reference: Reference | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "layer *per"]:
    """Measure the mean metric after ablating each entry of a site alone.

    Sites and `per` are those of `patch_activations`: `"post", "neuron"` takes out each neuron,
    `"attn_out", ""` each layer's attention, `"resid_pre", "pos"` each position of the stream,
    `"pattern", "head key"` what a head sees of a position. Ablations are those of `ablate`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4, d_mlp=5))
    >>> def metric(logits):
    ...     return logits[:, -1, 7]
    >>> ablate_each(model, torch.tensor([[1, 2, 3]]), metric, "post", "neuron", "zero").shape
    torch.Size([2, 5])
    """
    source = read_source(model, tokens, ablation, reference, site)[site]
    run = read_sites(model, tokens, site, "resid_pre", "resid_post", batch_size=batch_size)
    return sweep(model, run, metric, site, per, source, batch_size)


def ablate_each_head(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    ablation: Ablation,
    reference: Reference | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "layer head"]:
    """Measure the mean metric after taking out each head alone.

    `metric(logits)` gives one number per prompt. All heads of a layer share one forward. Ablations
    and `reference` are those of `ablate`, `batch_size` that of `patch_activations`.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> def accuracy(logits):
    ...     return batch.correct(logits).float()
    >>> ablate_each_head(case.model, batch.clean, accuracy, "zero")
    tensor([[0., 1.],
            [0., 1.]])
    """
    return ablate_each(model, tokens, metric, "z", "head", ablation, reference, batch_size)


def ablate_pairs(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    parts: Iterable[str],
    ablation: Ablation,
    reference: Reference | None = None,
) -> Float[Tensor, "part part"]:
    """Measure the mean metric after taking out parts i and j together.

    On the diagonal, part i goes alone. Two parts back each other up where a pair costs more than
    its parts do one by one. Parts and ablations are those of `ablate`.

    >>> from mini_transformer import toys
    >>> case = toys.load("backup_head")
    >>> batch = case.task.draw(64)
    >>> parts = [case.truth.roles["mover"], case.truth.roles["backup"]]
    >>> def accuracy(logits):
    ...     return batch.correct(logits).float()
    >>> ablate_pairs(case.model, batch.clean, accuracy, parts, "zero")
    tensor([[1., 0.],
            [0., 1.]])
    """
    parts = list(parts)
    if not parts:
        raise ValueError("no parts were given, but pairs are made from at least one")
    values = dict[tuple[int, int], Tensor]()
    for i, first in enumerate(parts):
        for j, second in enumerate(parts[: i + 1]):
            logits = ablate(model, tokens, [first, second], ablation, reference)
            values[i, j] = values[j, i] = check_metric(metric, logits)
    rows = range(len(parts))
    return torch.stack([torch.stack([values[i, j] for j in rows]) for i in rows])


def locate_parts(model: Transformer, parts: Iterable[str]) -> list[Place]:
    """Find site, layer and entry of each part; KeyError for one that the model does not have."""
    config = model.config
    known = dict[str, Place]()
    for layer in range(config.n_layers):
        known |= {f"a{layer}.h{head}": ("z", layer, head) for head in range(config.n_heads)}
        if config.d_mlp:
            known[f"m{layer}"] = ("mlp_out", layer, slice(None))
        known[f"a{layer}"] = ("z", layer, slice(None))
        known |= {f"m{layer}.n{neuron}": ("post", layer, neuron) for neuron in range(config.d_mlp)}
    parts = [parts] if isinstance(parts, str) else list(parts)
    for part in parts:
        if part not in known:
            nearest = find_nearest(part, known, "none, no layers")
            raise KeyError(f"no component is called {part!r}; nearest: {nearest}")
    return [known[part] for part in parts]


def read_source(
    model: Transformer, tokens: Tokens, ablation: Ablation, reference: Reference | None, *sites: str
) -> dict[str, list[Tensor]]:
    """Read what this ablation puts in place of each site, one tensor per layer."""
    check_ablation(ablation)
    check_prompts(tokens)
    if ablation == "resample" and (reference is None or reference.shape != tokens.shape):
        given = "none" if reference is None else tuple(reference.shape)
        needs = f"resample needs reference prompts of shape {tuple(tokens.shape)}"
        raise ValueError(f"{needs}, but was given {given}")
    reference = tokens if reference is None else reference
    check_prompts(reference, "reference prompts")
    if reference.shape[1] != tokens.shape[1]:
        given = f"reference prompts have {reference.shape[1]} tokens"
        raise ValueError(f"{given}, but the prompts {tokens.shape[1]}")
    written = read_sites(model, reference, *sites)
    if ablation == "resample":
        return written
    means = {site: [value.mean(dim=0, keepdim=True) for value in written[site]] for site in sites}
    if ablation == "mean":
        return means
    return {site: [torch.zeros_like(value) for value in means[site]] for site in sites}


def replace_part(
    place: Place, at: slice | list[int], source: dict[str, list[Tensor]]
) -> tuple[tuple[str, int], HookFunction]:
    """Make the hook that takes one part out."""
    site, layer, entry = place

    def replace(value: Tensor, hook: object) -> None:
        value[:, at, entry] = source[site][layer][:, at, entry]

    return (site, layer), replace
