"""Where to intervene in a block, and how to read and resume runs there.

One forward holds no more prompts than fit a budget of activations. What grows with the batch is
what must be kept: the activations at the site, the stream of each layer, and the logits that the
metric is given.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.batches import choose_rows, join
from mini_transformer.methods.arguments import Tokens, check_prompts
from mini_transformer.model import Transformer

__all__ = [
    "SITES",
    "find_axes",
    "name_site",
    "read_sites",
    "run_in_parts",
    "run_with",
]

# What can be patched in a block, and its axes after the batch.
SITES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_in", "mlp_out"),
        ("pos", "d_model"),
    ),
    **dict.fromkeys(("q_input", "k_input", "v_input", "result"), ("pos", "head", "d_model")),
    **dict.fromkeys(("q", "k", "v", "z"), ("pos", "head", "d_head")),
    **dict.fromkeys(("attn_scores", "pattern"), ("head", "query", "key")),
    **dict.fromkeys(("pre", "post"), ("pos", "neuron")),
}
MODULES = dict.fromkeys(("q", "k", "v", "z", "result", "attn_scores", "pattern"), "attn.")
MODULES |= dict.fromkeys(("pre", "post"), "mlp.")


def find_axes(site: str, per: str) -> list[int]:
    """Find the axes of a site that `per` names; 0 is the first after the batch.

    ValueError for one that the site does not have.
    """
    axes, swept = SITES[site], per.split()
    if unknown := [axis for axis in swept if axis not in axes]:
        raise ValueError(f"{site} has the axes {', '.join(axes)}, but per asks for {unknown[0]!r}")
    if len(set(swept)) < len(swept):
        raise ValueError(f"per is {per!r}, but must name an axis once at most")
    return [axes.index(axis) for axis in swept]


@torch.no_grad()
def read_sites(
    model: Transformer,
    inputs: Tokens | Float[Tensor, "batch pos d_model"],
    *sites: str,
    batch_size: int | None = None,
) -> dict[str, list[Tensor]]:
    """Read the activations at each site, one tensor per layer.

    `inputs` are tokens, or the stream that enters the first block. ValueError for a site that this
    model does not have.
    """
    layers = range(model.config.n_layers)
    known = [site for site in SITES if layers and name_site(site, 0) in model.hook_points]
    if unknown := [site for site in sites if site not in known]:
        choices = ", ".join(known) or "none, without layers"
        raise ValueError(f"site is {unknown[0]!r}, but must be one of: {choices}")
    if not inputs.is_floating_point():
        check_prompts(inputs)
    names = {site: [name_site(site, layer) for layer in layers] for site in sites}
    parts = dict[str, list[Tensor]]()
    for rows in inputs.split(choose_rows(model.config, inputs.shape[1], batch_size)):
        run = {"resid": rows} if rows.is_floating_point() else {"tokens": rows}
        wanted = (name for site in names for name in names[site])
        _, cache = model.run_with_cache(**run, names_filter=[*wanted])
        for name, value in cache.items():
            parts.setdefault(str(name), []).append(value)
    # Popped, so that they are not kept twice.
    found = {name: join(parts.pop(name)) for name in list(parts)}
    return {site: [found[name] for name in names[site]] for site in sites}


def name_site(site: str, layer: int) -> str:
    """Write the full name of a site's hook.

    Looking up short ones took a quarter of a sweep over one short prompt.
    """
    return f"blocks.{layer}.{MODULES.get(site, '')}hook_{site}"


def run_with(
    model: Transformer, layer: int, site: str, resid: Tensor, value: Tensor
) -> Float[Tensor, "row pos out"]:
    """Run from block `layer` with the stream `resid` and with `value` at one of its sites."""
    hook = (name_site(site, layer), lambda old, hook: value)
    return model.run_with_hooks(resid=resid, start_at_layer=layer, fwd_hooks=[hook])


def run_in_parts(
    model: Transformer, tokens: Tokens, batch_size: int | None = None
) -> Float[Tensor, "batch pos out"]:
    """Run the model without gradients, some prompts at a time, and return the logits."""
    with torch.no_grad():
        parts = tokens.split(choose_rows(model.config, tokens.shape[1], batch_size))
        return torch.cat([model(part) for part in parts])
