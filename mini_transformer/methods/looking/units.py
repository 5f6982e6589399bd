"""Units of a hook: one number per prompt and position, read in batches.

A unit is a neuron, an axis of the stream, the length of what a head writes, a direction or a
dictionary's latent.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.hooks import HookName, find_names
from mini_transformer.methods.arguments import Position, Tokens, check_prompts, find_positions
from mini_transformer.methods.numerics import meet, widen, without_autocast
from mini_transformer.methods.representations.dictionaries import Dictionary
from mini_transformer.methods.sites import SITES
from mini_transformer.model import Transformer

__all__ = ["Basis", "list_places", "read_units", "stream_units"]

Basis = Float[Tensor, "unit width"] | Dictionary


def read_units(
    model: Transformer, tokens: Tokens, hook: HookName, basis: Basis | None = None
) -> Float[Tensor, "batch pos unit"]:
    """Read the activation of each unit at `hook`, part of the autograd graph.

    Without a basis, units are the hook's last axis; where the hook has heads (`z`, `result`, ...)
    they are the heads, and the number is the length of the head's vector. With a basis (unit,
    width), dot products; with a dictionary, its codes; heads are put side by side for both.
    ValueError for attention patterns, which are not one vector per position, and for another width.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, n_heads=2, d_mlp=5))
    >>> for hook in (("post", 0), ("result", 0), ("resid_post", 0)):
    ...     print(read_units(model, torch.tensor([[1, 2, 3]]), hook).shape[-1])
    5
    2
    8
    """
    check_prompts(tokens)
    (name,) = find_names(hook, model.hook_points)
    axes = SITES.get(name.rpartition(".hook_")[2], ("pos",))
    if axes[0] != "pos":
        needs = "units need a hook with one vector per position"
        raise ValueError(f"{name} has the axes {', '.join(axes)}, but {needs}")
    values = model.run_with_cache(tokens, names_filter=name)[1][name]
    if basis is None:
        return measure_lengths(values) if values.ndim == 4 else values
    values = values.flatten(2)
    if isinstance(basis, Dictionary):
        return basis.encode(values)
    if basis.ndim != 2 or basis.shape[1] != values.shape[2]:
        given = f"the basis is {tuple(basis.shape)}"
        raise ValueError(f"{given}, but {name} needs (unit, {values.shape[2]})")
    with without_autocast():
        wide, rows = meet(values, basis)
        return (wide @ rows.T).to(values.dtype)


def measure_lengths(
    vectors: Float[Tensor, "batch pos head width"],
) -> Float[Tensor, "batch pos head"]:
    """Measure the length of each head's vector; squares are summed in float32 at least."""
    return widen(vectors).norm(dim=-1).to(vectors.dtype)


def stream_units(
    model: Transformer,
    tokens: Tokens,
    hook: HookName,
    basis: Basis | None,
    position: Position,
    batch_size: int | None = None,
) -> Iterator[tuple[slice, Float[Tensor, "row unit"]]]:
    """Yield activations in batches, one row per place, with the numbers of their rows.

    Row r is the r-th place of `list_places`. A batch holds at most `batch_size` prompts.
    """
    check_prompts(tokens)
    rows = choose_rows(model.config, tokens.shape[1], batch_size)
    places = list_places(tokens, position)
    start = 0
    for part, at in zip(tokens.split(rows), places.split(rows), strict=True):
        prompt = torch.arange(len(part), device="cpu")[:, None]
        with torch.no_grad():
            values = read_units(model, part, hook, basis)[prompt, at].flatten(0, 1)
        yield slice(start, start + len(values)), values
        start += len(values)


def list_places(tokens: Tokens, position: Position) -> Integer[Tensor, "batch place"]:
    """List the positions that are looked at, per prompt; ValueError as in `find_positions`."""
    everything = torch.arange(tokens.shape[1], device="cpu").expand(tokens.shape)
    return everything[find_positions(position, tokens.shape)]
