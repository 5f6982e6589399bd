"""Edge attribution patching: estimate by gradients what switching off each edge would do.

The estimate for an edge is (clean minus corrupt value of its writer) times the gradient of the
metric at what its reader reads: one forward and one backward for all edges (EAP), where exact
patching needs a forward per edge. It fails where the metric is not close to linear: a saturated
softmax has no gradient, so that an edge that carries everything scores nothing.

Averaging the gradient over runs between the corrupt and the clean one helps. Along the inputs
(EAP-IG) only the embedding is moved, and everything computed from it follows. Along the masks all
edges are turned from off to on together, which is integrated gradients of the edge engine's own
switches: these scores add up to the whole difference between clean and corrupt run. (Not for zero
ablation of a model with a norm, which magnifies the stream without bound where all edges are nearly
off.) Memory grows with prompts times readers; along the inputs, as many points share a graph as fit
a budget.

The sum over positions hides an edge that helps at one and harms as much at another. The products
that are summed are there for each position, so that scores by position cost no more.
Sources: Syed et al. 2023 (2310.10348), section 2; Hanna et al. 2024 (2403.17806), section 3;
Sundararajan et al. 2017 (1703.01365); Haklay et al. 2025 (2502.04577), by position.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.edges import (
    Ablation,
    EdgeScores,
    list_edges,
    replace_by,
    run_edges,
    write_outputs,
)
from mini_transformer.hooks import HookPoint
from mini_transformer.methods.arguments import Metric, Tokens, check_batch, check_metric
from mini_transformer.methods.gradients import differentiate
from mini_transformer.methods.numerics import check_gradients, widen, without_autocast
from mini_transformer.model import Block, Transformer

__all__ = ["eap"]


def eap(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
    steps: int = 0,
    along: Literal["inputs", "masks"] = "inputs",
    by_position: bool = False,
) -> EdgeScores:
    """Estimate by gradients what the mean metric would lose without each edge.

    That is what `patch_edges` measures with the same arguments and "noise". steps 0 is EAP: the
    gradient in the clean run. steps n averages it over n runs between the corrupt and the clean
    one: along "inputs" (EAP-IG) or along "masks" (all edges from off to on together). The scores
    are (edge), or with `by_position` (edge, position of what its reader reads), whose sum they are.
    ValueError as in `patch_edges`, for a metric that has no gradient, such as an accuracy, and
    under torch.inference_mode.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> for steps in (0, 30):
    ...     bool(eap(*runs, steps=steps)["a0.h0->a1.h0<k>"] > 1)  # exact patching says 20
    False
    True
    >>> case = toys.load("opposite_positions")
    >>> batch = case.task.everything()
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> scores = eap(*runs, by_position=True)
    >>> [round(scores[f"m0->a1.h0<k> @{position}"].item()) for position in (0, 1)]
    [32, -32]
    >>> round(scores.sum()["m0->a1.h0<k>"].item())  # what plain EAP says
    0
    """
    clean, corrupt = check_batch(clean, corrupt)
    if steps < 0:
        fits = "0 (gradient in the clean run) or a number of runs to average"
        raise ValueError(f"steps is {steps}, but must be {fits}")
    if along not in ("inputs", "masks"):
        raise ValueError(f"along is {along!r}, but must be 'inputs' or 'masks'")
    check_gradients(model)
    points = [(step + 0.5) / steps for step in range(steps)] or [1.0]
    if along == "masks":
        with torch.no_grad():
            off = write_outputs(model, corrupt, ablation)
        runs = model, clean, off, metric
        slopes = [find_mask_slopes(*runs, point, by_position) for point in points]
        return EdgeScores(model, torch.stack(slopes).mean(dim=0))
    with torch.no_grad():
        both = write_outputs(model, torch.cat([clean, corrupt]))  # one run, not two
        on, other = both.split(len(clean), dim=1)
        changes = on - replace_by(ablation, other)
        streams = torch.stack([on[0] - (1 - point) * changes[0] for point in points])
    found = [
        sum_products(changes, find_reader_slopes(model, part, metric), by_position)
        for part in streams.split(choose_points(model, clean))
    ]
    return EdgeScores(model, torch.stack(found).sum(dim=0) / len(points))


def find_mask_slopes(
    model: Transformer,
    tokens: Tokens,
    off: Float[Tensor, "writer batch pos d_model"],
    metric: Metric,
    point: float,
    by_position: bool = False,
) -> Float[Tensor, "edge *position"]:
    """Find the gradient of the mean metric in each edge's switch, with all at `point`."""
    positions = tokens.shape[1:] if by_position else ()
    masks = widen(off).new_full((1, len(list_edges(model)), *positions), point).requires_grad_()
    with torch.enable_grad():
        value = check_metric(metric, run_edges(model, tokens, masks, off)[0])
        return differentiate(value, [masks])[0][0]


def find_reader_slopes(
    model: Transformer, streams: Float[Tensor, "point batch pos d_model"], metric: Metric
) -> list[Float[Tensor, "_ batch pos d_model"]]:
    """Find the gradient of the mean metric at what each reader reads, summed over `streams`.

    Each stream is a run. The list has an entry for the heads of each block (q, k and v of the
    first, of the second, ...), for its MLP, and for the logits. All runs share one graph. What
    comes back through it is one small gradient per head, that of its q, k or v: the step from there
    to the stream is made apart.
    """
    reached = dict[str, Tensor]()

    def reach(value: Tensor, hook: HookPoint) -> Tensor:
        reached[hook.name] = value if value.requires_grad else value.detach().requires_grad_()
        return reached[hook.name]

    read = [(point.name, reach) for block in model.blocks for point in list_reading_points(block)]
    streams_in = [block.hook_resid_pre.name for block in model.blocks]
    last = HookPoint()
    with torch.enable_grad():
        with model.recording(streams_in) as entering, model.hooks(read):
            resid = model(
                resid=streams.flatten(0, 1).requires_grad_(), stop_at_layer=model.config.n_layers
            )
        logits = model.unembed(reach(resid, last)).unflatten(0, streams.shape[:2])
        value = torch.stack([check_metric(metric, own) for own in logits]).sum()
        found = dict(zip(reached, differentiate(value, list(reached.values())), strict=True))
    slopes = list[Tensor]()
    for block in model.blocks:
        points = list_reading_points(block)
        heads = torch.stack([found[point.name] for point in points[:3]])
        if block.hook_q_input in points:
            slopes.append(heads.permute(3, 0, 1, 2, 4).flatten(0, 1))
        else:
            slopes.append(reach_back(block, entering[block.hook_resid_pre.name], heads))
        slopes += [found[point.name].unsqueeze(0) for point in points[3:]]
    slopes.append(found[last.name].unsqueeze(0))
    if len(streams) == 1:
        return [widen(slope) for slope in slopes]  # a sum of one would be a copy
    return [widen(slope).unflatten(1, streams.shape[:2]).sum(dim=1) for slope in slopes]


def list_reading_points(block: Block) -> list[HookPoint]:
    """List where the gradients of a block's readers are taken.

    That is at q, k, v, and at what the MLP reads. Where hooks edit what the heads read, or q, k or
    v, gradients are taken at what the heads read: the edits come after the projection, or are part
    of what is projected.
    """
    inputs = [block.hook_q_input, block.hook_k_input, block.hook_v_input]
    projected = [block.attn.hook_q, block.attn.hook_k, block.attn.hook_v]
    edited = any(point.on for point in (*inputs, *projected))
    return (inputs if edited else projected) + ([] if block.mlp is None else [block.hook_mlp_in])


@torch.no_grad()
def reach_back(
    block: Block,
    stream: Float[Tensor, "batch pos d_model"],
    slopes: Float[Tensor, "3 batch pos head width"],
) -> Float[Tensor, "reader batch pos d_model"]:
    """Turn gradients at q, k and v into those at what they read, before weights and norm."""
    weights = torch.stack([block.attn.W_Q, block.attn.W_K, block.attn.W_V])
    slopes = torch.einsum("pbtnh,pndh->npbtd", slopes, weights).flatten(0, 1)
    if block.ln1 is None:
        return slopes
    own = stream.detach().repeat(len(slopes), 1, 1, 1).requires_grad_()
    with torch.enable_grad():
        normalized = block.ln1.normalize(own)
    return torch.autograd.grad(normalized, own, slopes.to(normalized.dtype))[0]


@torch.no_grad()
def sum_products(
    changes: Float[Tensor, "writer batch pos d_model"],
    slopes: Sequence[Float[Tensor, "_ batch pos d_model"]],
    by_position: bool = False,
) -> Float[Tensor, "edge *position"]:
    """Sum each writer's change times the slope at each reader that comes after it."""

    def line_up(parts: Tensor) -> Float[Tensor, "*pos part summed"]:
        parts = parts.movedim(2, 0).flatten(2) if by_position else parts.flatten(1)
        return parts.double()  # where terms cancel, float32 leaves noise in place of 0

    written = line_up(changes)
    found = list[Tensor]()
    heard = 1
    with without_autocast():
        for slope in slopes:
            found.append((line_up(slope) @ written[..., :heard, :].mT).flatten(-2))
            heard += max(1, len(slope) // 3)  # a head reads three times and writes once
    scores = torch.cat(found, dim=-1).to(widen(changes).dtype)
    return scores.T if by_position else scores


def choose_points(model: Transformer, tokens: Tokens) -> int:
    """Choose how many points share a graph, which keeps every block and reader's slope."""
    c = model.config
    rows = choose_rows(c, tokens.shape[1], streams=14 + 5 * c.n_heads, blocks=c.n_layers)
    return max(1, 2 * rows // len(tokens))
