"""Patchscopes: put a hidden state of one prompt into another, and read what it holds.

The stream of the source prompt at one layer and position replaces that of the target prompt at a
layer and position of its own; the target goes on from there, and its logits are the reading. The
target is chosen so that what comes next depends on what was put in: "X lives in", with the state
put in place of X. A logit lens is the case in which the target layer is the last, so that only the
norm and the unembedding are left. An earlier one can read what other components have yet to
translate. But the answer may come from the target itself: compare what it says with other sources
put in, or none. And layers and, where positions are in the stream, places meet a state that was
never meant for them. One token is read; the paper lets the model write on.
Sources: Ghandeharioun et al. 2024 (2401.06102), section 3.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.methods.arguments import check_prompts
from mini_transformer.model import Transformer

__all__ = ["apply_patchscope"]

States = Float[Tensor, "layer pos batch d_model"]


@torch.no_grad()
def apply_patchscope(
    model: Transformer,
    source: Integer[Tensor, "batch source_pos"],
    target: Integer[Tensor, "target_batch target_pos"],
    target_layer: int,
    target_position: int = -1,
    read_position: int = -1,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    transform: Callable[[States], States] | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "layer pos batch out"]:
    """Run the target with the stream of each source layer and position put into it.

    Returned are the logits at `read_position`. Layer l is the stream that enters block l, and
    n_layers the one that leaves the last. `layers` and `positions` are the source's, by default
    all. Source row i goes into target row i, or into the only one. `transform` maps the states
    before they are put in. At most `batch_size` targets go through one forward; by default as many
    as keep memory small. ValueError for layers and positions that do not exist, other numbers of
    rows, and a reading that the state cannot reach.

    >>> from mini_transformer import toys
    >>> case = toys.load("facts")
    >>> source, target = torch.tensor([[1, 9, 17], [6, 10, 17]]), torch.tensor([[0, 8, 17]])
    >>> case.task.read(target[0])  # in place of this name come "Ben Bird" and "Gus Cole"
    'Ada Abel lives_in'
    >>> said = apply_patchscope(case.model, source, target, 1, 1, layers=[1], positions=[1])
    >>> case.task.read(said.argmax(dim=-1).flatten())
    'Kyoto Rome'
    >>> case.task.read(case.model(source)[:, -1].argmax(dim=-1))  # where these two do live
    'Kyoto Rome'
    """
    for what, prompts in (("the source's tokens", source), ("the target's tokens", target)):
        if prompts.ndim != 2:
            check_prompts(prompts, what)
    states = read_states(model, source, layers, positions)
    check_target(model, source, target, target_layer, target_position, read_position)
    mapped = states if transform is None else transform(states)
    if mapped.shape != states.shape:
        given = f"the transform made {tuple(mapped.shape)} of states {tuple(states.shape)}"
        raise ValueError(f"{given}: keep the shape")
    base = model(target, stop_at_layer=target_layer).expand(len(source), -1, -1)
    rows = choose_rows(model.config, target.shape[1], batch_size)
    parts = run_target(model, base, mapped.flatten(0, 2), target_layer, target_position, rows)
    return torch.cat([logits[:, read_position] for logits in parts]).unflatten(0, states.shape[:3])


def read_states(
    model: Transformer,
    source: Tensor,
    layers: Sequence[int] | None,
    positions: Sequence[int] | None,
) -> States:
    """Read the source's streams at the given layers and positions, layer by layer.

    ValueError for those that do not exist.
    """
    n_layers, length = model.config.n_layers, source.shape[1]
    if not source.numel():
        shape = tuple(source.shape)
        raise ValueError(f"the source is {shape}, but must hold at least one prompt and position")
    layers = range(n_layers + 1) if layers is None else layers
    positions = range(length) if positions is None else positions
    for what, given, low, high in (
        ("layer", layers, 0, n_layers),
        ("position", positions, -length, length - 1),
    ):
        if not len(given) or min(given) < low or max(given) > high:
            fits = f"at least one, from {low} to {high}"
            raise ValueError(f"source {what}s are {[*given]}, but must be {fits}")
    streams = [model(source, stop_at_layer=0)]
    for layer in range(n_layers):
        streams.append(model(resid=streams[-1], start_at_layer=layer, stop_at_layer=layer + 1))
    chosen = torch.stack([streams[layer] for layer in layers])  # layer b t d
    return chosen[:, :, torch.tensor([*positions], device=chosen.device)].transpose(1, 2)


def check_target(
    model: Transformer, source: Tensor, target: Tensor, layer: int, position: int, read: int
) -> None:
    """Raise ValueError unless the target has these places and goes with the source.

    It must be read where the state can be seen.
    """
    (batch, length), n_layers = target.shape, model.config.n_layers
    if batch not in (1, len(source)) or not length:
        fits = f"one prompt or {len(source)}, like the source"
        raise ValueError(f"the target is {tuple(target.shape)}, but must hold {fits}")
    if not 0 <= layer <= n_layers:
        has = f"the stream enters blocks 0 to {n_layers} (the end)"
        raise ValueError(f"target_layer is {layer}, but {has}")
    for what, given in (("target_position", position), ("read_position", read)):
        if not -length <= given < length:
            has = f"the target has positions {-length} to {length - 1}"
            raise ValueError(f"{what} is {given}, but {has}")
    position, read = position % length, read % length
    too_early = read < position and model.config.causal
    too_late = read != position and layer == n_layers
    if too_early or too_late:
        state = f"a state put in at position {position} of layer {layer}"
        raise ValueError(f"position {read} is read, but {state} cannot reach it")


def run_target(
    model: Transformer,
    base: Tensor,
    states: Float[Tensor, "state d_model"],
    layer: int,
    position: int,
    rows: int,
) -> Iterator[Float[Tensor, "some pos out"]]:
    """Yield the logits of the target with each state in its place, `rows` at a time.

    State i belongs to prompt i modulo the batch.
    """
    for some in torch.arange(len(states), device=base.device).split(rows):
        patched = base[some % len(base)]
        patched[:, position] = states[some].to(patched)
        yield model(resid=patched, start_at_layer=layer)
