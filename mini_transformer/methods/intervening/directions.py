"""Ablating directions: keep the model from using a direction of the stream.

With orthonormal rows D the stream x becomes x - x D^T D (zero), or gets another run's x' D^T D in
its place (mean, resample). Doing so wherever the stream is read, and taking D out of everything
that writes to the stream, are the same model; the second is a weight edit that needs no hooks, and
that outlives whoever made it. That removing a direction changes the behaviour shows that it was
needed, not that it is all that was: compare a random direction.
Sources: Arditi et al. 2024 (2406.11717), sections 2.4 and 4.1; Elhage et al. 2021 on subspaces of
the stream.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import Ablation
from mini_transformer.hooks import HookFilter, HookPoint, find_names
from mini_transformer.methods.arguments import (
    Reference,
    Tokens,
    check_ablation,
    check_prompts,
)
from mini_transformer.methods.numerics import find_scale, follow, widen, without_autocast
from mini_transformer.model import Transformer

__all__ = ["ablate_directions", "orthogonalize_weights"]

Directions = Float[Tensor, "direction width"]


def ablate_directions(
    model: Transformer,
    tokens: Tokens,
    directions: Directions,
    ablation: Ablation,
    hooks: HookFilter | list[HookFilter] | None = None,
    reference: Reference | None = None,
) -> Float[Tensor, "batch pos out"]:
    """Run without the span of `directions` at each of `hooks`, and return the logits.

    Hooks are named by filters; by default the residual stream wherever it is read. The part in the
    span becomes zero, or what it is in the run on `reference`: its mean over prompts ("mean",
    default reference: `tokens`) or that of the same row ("resample"). ValueError for directions
    that depend on each other or have another width than a hook.

    >>> from mini_transformer import toys
    >>> from mini_transformer.toys.hand_set.refusal_with_trigger import REFUSAL, REFUSE
    >>> case = toys.load("refusal_with_trigger")
    >>> flagged = torch.tensor([[0, 3, 3, 9, 4]])
    >>> without = ablate_directions(case.model, flagged, REFUSAL[None], "zero")
    >>> [case.task.token_names[x[0, -1].argmax()] for x in (case.model(flagged), without)]
    ['REFUSE', 'D']
    """
    check_ablation(ablation)
    check_prompts(tokens)
    basis = find_basis(directions, model)
    filters = hooks if isinstance(hooks, list) else [is_stream if hooks is None else hooks]
    found = (name for where in filters for name in find_names(where, model.hook_points))
    names = list(dict.fromkeys(found))
    reference = tokens if reference is None else reference
    check_prompts(reference, "reference prompts")
    if reference.shape[1] != tokens.shape[1] or (
        ablation == "resample" and len(reference) != len(tokens)
    ):
        given = f"reference prompts are {tuple(reference.shape)}"
        raise ValueError(
            f"{given}, but the prompts {tuple(tokens.shape)}: "
            "they must be equally long, and for resample equally many"
        )
    source = None
    if ablation != "zero":
        with torch.no_grad():
            source = model.run_with_cache(reference, names_filter=[*names])[1]

    def replace(value: Tensor, point: HookPoint) -> Tensor:
        if value.shape[-1] != basis.shape[1]:
            given = f"directions have width {basis.shape[1]}"
            raise ValueError(f"{given}, but {point.name} has {value.shape[-1]}")
        other = torch.zeros_like(value) if source is None else source[point.name]
        if ablation == "mean":
            other = other.mean(dim=0, keepdim=True)
        with without_autocast():
            return follow(value + widen(other - value) @ basis.T @ basis, value)

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(name, replace) for name in names])


def orthogonalize_weights(model: Transformer, directions: Directions) -> Transformer:
    """Copy a model so that nothing in it writes along `directions`.

    They are taken out of W_E, W_pos, W_O, W_out and biases. The copy's output is that of
    `ablate_directions` at every place where the stream is read. ValueError for a tied unembedding,
    which would change along with W_E, and for fixed positions in the stream, which are no weights:
    free them first.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=4))
    >>> edited = orthogonalize_weights(model, torch.eye(8)[:1])
    >>> edited(torch.tensor([[1, 2, 3]]), stop_at_layer=2)[..., 0].abs().max().item()
    0.0
    """
    config = model.config
    in_stream = config.positions_to == "stream"
    if config.tied or (config.positions == "sinusoidal" and in_stream):
        what = "a tied unembedding" if config.tied else "fixed positions in the stream"
        fix = "weights.rebuild(model, tied=False, positions='learned') gives one where it can"
        raise ValueError(f"this model has {what}, which cannot be edited by itself: {fix}")
    basis = find_basis(directions, model)
    if basis.shape[1] != config.d_model:
        given = f"directions have width {basis.shape[1]}"
        raise ValueError(f"{given}, but the stream has {config.d_model}")
    new = copy.deepcopy(model)
    writers: list[Tensor | None] = [new.W_E]
    if config.positions == "learned" and in_stream:
        writers.append(new.W_pos)
    for block in new.blocks:
        writers += [block.attn.W_O, block.attn.b_O]
        if block.mlp is not None:
            writers += [block.mlp.W_out, block.mlp.b_out]
    with torch.no_grad(), without_autocast():
        for writer in writers:
            if writer is not None:
                writer -= widen(writer) @ basis.T @ basis
    return new


def find_basis(directions: Directions, model: Transformer) -> Directions:
    """Orthonormalise directions in the model's dtype, in float32 if that is half precision."""
    weights = widen(model.W_E)
    # Float64 directions may be too large for float32.
    if directions.is_floating_point():
        directions = directions.to(torch.promote_types(directions.dtype, weights.dtype))
    return follow(orthonormalize(directions.to(weights.device)), weights)


def orthonormalize(directions: Directions) -> Directions:
    """Find orthonormal rows with the same span, in float32 at least.

    ValueError unless the directions are independent. Whether they are depends on their angles, not
    on their lengths.

    >>> orthonormalize(torch.tensor([[3.0, 4.0]])).abs()
    tensor([[0.6000, 0.8000]])
    """
    shape = tuple(directions.shape)
    if directions.ndim != 2 or not directions.is_floating_point() or not len(directions):
        fits = "floats of shape (direction, width), at least one"
        raise ValueError(f"directions are {directions.dtype} {shape}, expected {fits}")
    n, width = shape
    if n > width:
        raise ValueError(f"{n} directions were given, but there are only {width} dimensions")
    if not directions.isfinite().all():
        raise ValueError(f"the directions {shape} hold numbers that are not finite")
    directions = widen(directions.detach())
    directions = directions / find_scale(directions, dim=(1,))
    if torch.linalg.matrix_rank(directions) < n:
        fix = "leave out those that the others contain"
        raise ValueError(f"the {n} directions span fewer than {n} dimensions: {fix}")
    return torch.linalg.qr(directions.T)[0].T


def is_stream(name: str) -> bool:
    """Tell whether this hook is on the residual stream."""
    return "hook_resid_" in name
