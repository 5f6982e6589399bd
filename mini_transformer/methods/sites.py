"""Where to intervene in a block, which axes there are, and reading and resuming runs there within bounded memory.

Whatever a sweep does, one forward holds no more prompts than fit a budget of activations; what grows with the batch
is what must be kept: the activations at the site, the stream of each layer, and the logits that the metric is given.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.model import Config, Transformer

Tokens = Integer[Tensor, "batch pos"]

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
BUDGET = (
    16e6  # bytes of activations in one forward; four times more or less was slower (batch 128 x 50)
)


def find_axes(site: str, per: str) -> list[int]:
    """The axes of a site (0 is the first after the batch) that `per` names; ValueError for one that it does not have."""
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
    """The activations at each site, one tensor per layer; ValueError for a site that this model does not have.

    `inputs` are tokens, or the stream that enters the first block.
    """
    layers = range(model.config.n_layers)
    known = [site for site in SITES if layers and name_site(site, 0) in model.hook_points]
    if unknown := [site for site in sites if site not in known]:
        raise ValueError(
            f"site is {unknown[0]!r}, but must be one of: {', '.join(known) or 'none, without layers'}"
        )
    if not inputs.is_floating_point():
        check_prompts(inputs)
    names = {site: [name_site(site, layer) for layer in layers] for site in sites}
    parts = dict[str, list[Tensor]]()
    for rows in inputs.split(choose_rows(model.config, inputs.shape[1], batch_size)):
        run = {"resid": rows} if rows.is_floating_point() else {"tokens": rows}
        _, cache = model.run_with_cache(
            **run, names_filter=[name for site in names for name in names[site]]
        )
        for name, value in cache.items():
            parts.setdefault(str(name), []).append(value)
    found = {
        name: join(parts.pop(name)) for name in list(parts)
    }  # popped, so that they are not kept twice
    return {site: [found[name] for name in names[site]] for site in sites}


def join(parts: list[Tensor]) -> Tensor:
    """One tensor along the batch, without a copy where there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def name_site(site: str, layer: int) -> str:
    """The full name of a site's hook: looking up short ones took a quarter of a sweep over one short prompt."""
    return f"blocks.{layer}.{MODULES.get(site, '')}hook_{site}"


def run_with(
    model: Transformer, layer: int, site: str, resid: Tensor, value: Tensor
) -> Float[Tensor, "row pos out"]:
    """Logits of a run that enters block `layer` with the stream `resid`, and has `value` at one of its sites."""
    hook = (name_site(site, layer), lambda old, hook: value)
    return model.run_with_hooks(resid=resid, start_at_layer=layer, fwd_hooks=[hook])


def run_in_parts(
    model: Transformer, tokens: Tokens, batch_size: int | None = None
) -> Float[Tensor, "batch pos out"]:
    """`model(tokens)` without gradients, some prompts at a time."""
    with torch.no_grad():
        parts = tokens.split(choose_rows(model.config, tokens.shape[1], batch_size))
        return torch.cat([model(part) for part in parts])


def check_prompts(tokens: Tensor, what: str = "tokens") -> None:
    """ValueError unless these are integers (b, t), of at least one prompt with at least one token."""
    if tokens.ndim != 2 or tokens.is_floating_point():
        given = f"{what} are {tokens.dtype} {tuple(tokens.shape)}"
        raise ValueError(f"{given}, expected a tensor of integers with shape (batch, pos)")
    if not len(tokens):
        raise ValueError("the batch holds no prompts, but at least one is needed")
    if not tokens.shape[1]:
        raise ValueError(
            f"{what} are {tuple(tokens.shape)}: prompts without tokens, but each needs at least one"
        )


def choose_rows(config: Config, length: int, batch_size: int | None = None) -> int:
    """How many prompts of this length go through one forward: batch_size, by default what fits; ValueError below 1."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1, or None")
    return batch_size or count_rows(config, length)


def count_rows(config: Config, length: int) -> int:
    """How many prompts of this length go through one forward on the budget, by the largest tensors of a block."""
    per_head = config.n_heads * (4 * config.d_head + 3 * length)
    per_position = 8 * config.d_model + per_head + 3 * config.d_mlp + 2 * config.d_vocab_out
    return max(1, int(BUDGET / (4 * length * per_position)))
