"""Ablation: take a component out of a model, by one of three kinds of nothing, and see what the model can no longer do.

What a component turns out to be needed for depends on what replaces it: zero may be far from anything that the rest of the model
ever saw; the mean over prompts keeps what is common to all of them (often the positions); resample, the same component on
another prompt, is in distribution but can bring back the same value. A small effect does not prove that a component
is idle: a backup may have taken over; taking components out in pairs shows it. (Directions of the stream: `directions`.)
Sources: Olsson et al. 2022; Wang et al. 2022, section 3; Chan et al. 2022.

Checked against: the edge engine with all edges out of the component switched off, hooks written out in loops, and models
with the component's weights at zero.
"""

import difflib
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.edges import Ablation
from mini_transformer.hooks import HookFunction
from mini_transformer.methods.patching import Metric, check_metric, sweep
from mini_transformer.methods.sites import check_prompts, read_sites
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Reference = Integer[Tensor, "reference pos"]
Place = tuple[
    str, int, int | slice
]  # a site with axes (b, t, entry, ...), its layer, and one entry or all


def ablate(
    model: Transformer,
    tokens: Tokens,
    parts: Iterable[str],
    ablation: Ablation = "zero",
    reference: Reference | None = None,
    positions: Sequence[int] | None = None,
) -> Float[Tensor, "batch pos out"]:
    """Logits without the named heads (`a0.h1`), neurons (`m0.n5`) or whole layers (`a0`, `m0`), all taken out together.

    "zero": nothing is written; "mean": the mean over the prompts of `reference` (default: `tokens`), per position;
    "resample": what is written on the same row of `reference`. `positions` restricts it to some positions. Attention biases (b_O)
    belong to no head and stay. KeyError for a part that the model does not have, ValueError for a position that it does not.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> for part in ("a0.h0", "a0.h1"):
    ...     print(part, batch.correct(ablate(case.model, batch.clean, [part])).float().mean().item())
    a0.h0 0.0
    a0.h1 1.0
    """
    check_prompts(tokens)
    places = locate_parts(model, parts)
    length = tokens.shape[1]
    if wrong := [position for position in positions or () if not -length <= position < length]:
        raise ValueError(
            f"position {wrong[0]} was asked for, but the prompts have positions {-length} to {length - 1}"
        )
    at = slice(None) if positions is None else list(positions)
    source = read_source(
        model, tokens, ablation, reference, *dict.fromkeys(site for site, _, _ in places)
    )
    with torch.no_grad():
        return model.run_with_hooks(
            tokens, fwd_hooks=[_replace(place, at, source) for place in places]
        )


def ablate_each(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    site: str,
    per: str,
    ablation: Ablation = "zero",
    reference: Reference | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "layer *per"]:
    """The mean metric after ablating each entry of a site alone: neurons are `site="post", per="neuron"`.

    Sites and `per` are those of `patch_activations`: `"attn_out", ""` takes out each layer's attention, `"resid_pre", "pos"` each
    position of the stream, `"pattern", "head key"` what a head sees of a position. Ablations are those of `ablate`.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4, d_mlp=5))
    >>> tuple(ablate_each(model, torch.tensor([[1, 2, 3]]), lambda logits: logits[:, -1, 7], "post", "neuron").shape)
    (2, 5)
    """
    source = read_source(model, tokens, ablation, reference, site)[site]
    run = read_sites(model, tokens, site, "resid_pre", "resid_post", batch_size=batch_size)
    return sweep(model, run, metric, site, per, source, batch_size)


def ablate_each_head(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    ablation: Ablation = "zero",
    reference: Reference | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "layer head"]:
    """The mean metric after taking out each head alone; `metric(logits)` gives one number per prompt.

    All heads of a layer share one forward. Ablations and `reference` are those of `ablate`, `batch_size` that of
    `patch_activations`.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> ablate_each_head(case.model, batch.clean, lambda logits: batch.correct(logits).float())
    tensor([[0., 1.],
            [0., 1.]])
    """
    return ablate_each(model, tokens, metric, "z", "head", ablation, reference, batch_size)


def ablate_pairs(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    parts: Sequence[str],
    ablation: Ablation = "zero",
    reference: Reference | None = None,
) -> Float[Tensor, "part part"]:
    """The mean metric after taking out parts i and j together; on the diagonal, part i alone.

    Two parts back each other up where a pair costs more than its parts do one by one. Parts and
    ablations are those of `ablate`.

    >>> from mini_transformer import toys
    >>> case = toys.load("backup_head")
    >>> batch = case.task.draw(64)
    >>> parts = [case.truth.roles["mover"], case.truth.roles["backup"]]
    >>> ablate_pairs(case.model, batch.clean, lambda logits: batch.correct(logits).float(), parts)
    tensor([[1., 0.],
            [0., 1.]])
    """
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
    """Site, layer and entry of each part; KeyError for one that the model does not have."""
    config, known = model.config, dict[str, Place]()
    for layer in range(config.n_layers):
        known |= {f"a{layer}.h{head}": ("z", layer, head) for head in range(config.n_heads)}
        known |= {f"m{layer}": ("mlp_out", layer, slice(None))} if config.d_mlp else {}
        known |= {f"a{layer}": ("z", layer, slice(None))}
        known |= {f"m{layer}.n{neuron}": ("post", layer, neuron) for neuron in range(config.d_mlp)}
    parts = [parts] if isinstance(parts, str) else list(parts)
    for part in parts:
        if part not in known:
            nearest = difflib.get_close_matches(str(part), known, n=1, cutoff=0.0)
            raise KeyError(
                f"no component is called {part!r}; nearest: {nearest[0] if nearest else 'none, no layers'}"
            )
    return [known[part] for part in parts]


def read_source(
    model: Transformer, tokens: Tokens, ablation: Ablation, reference: Reference | None, *sites: str
) -> dict[str, list[Tensor]]:
    """What this ablation puts in place of each site, one tensor per layer."""
    if ablation not in ("zero", "mean", "resample"):
        raise ValueError(f"ablation is {ablation!r}, but must be 'zero', 'mean' or 'resample'")
    check_prompts(tokens)
    if ablation == "resample" and (reference is None or reference.shape != tokens.shape):
        given = "none" if reference is None else tuple(reference.shape)
        raise ValueError(
            f"resample needs reference prompts of shape {tuple(tokens.shape)}, but was given {given}"
        )
    reference = tokens if reference is None else reference
    check_prompts(reference, "reference prompts")
    if reference.shape[1] != tokens.shape[1]:
        raise ValueError(
            f"reference prompts have {reference.shape[1]} tokens, but the prompts {tokens.shape[1]}"
        )
    written = read_sites(model, reference, *sites)
    if ablation == "resample":
        return written
    nothing = {"zero": torch.zeros_like, "mean": lambda value: value}[ablation]
    return {
        site: [nothing(value.mean(dim=0, keepdim=True)) for value in written[site]]
        for site in sites
    }


def _replace(
    place: Place, at: slice | list[int], source: dict[str, list[Tensor]]
) -> tuple[tuple, HookFunction]:
    """The hook that takes one part out."""
    site, layer, entry = place

    def replace(value: Tensor, hook: object) -> None:
        value[:, at, entry] = source[site][layer][:, at, entry]

    return (site, layer), replace
