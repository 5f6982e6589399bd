"""Exact edge patching: switch one edge at a time, and measure what it does for the metric.

Only the edge's reader hears another value of its writer; everything after the reader is computed
again. Noising puts corrupt values (or their mean, or zero) into the clean run: what is lost is what
the edge alone is *needed* for. Denoising puts clean values into the corrupt run: what is gained is
what the edge alone is *enough* for. A circuit needs several edges at once, so denoising misses most
of it; noising misses what a backup replaces.

The runs share what they have in common: what comes before the reader does not change, and the
stream without a writer is the same for all heads of a layer, so that one run of the attention
serves them all. Only what follows is computed per edge.
Sources: Goldowsky-Dill et al. 2023 (2304.05969), section 2; Conmy et al. 2023 (2304.14997),
section 2; Haklay et al. 2025 (2502.04577), by position.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.edges import (
    Ablation,
    Edge,
    EdgeScores,
    list_writers,
    replace_by,
    write_heads,
    write_mlp,
    write_outputs,
)
from mini_transformer.methods.arguments import Metric, Tokens, check_batch, check_metric
from mini_transformer.methods.circuits.parts import Scores, read_scores
from mini_transformer.model import Block, Transformer

__all__ = ["patch_edges", "score_nodes"]

# Run these prompts with changes (w, b, t, d) of what writers write: logits (w, ..., b, t, v).
Run = Callable[[slice, Tensor], Tensor]


@torch.no_grad()
def patch_edges(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
    batch_size: int | None = None,
    *,
    direction: Literal["denoise", "noise"],
    by_position: bool = False,
) -> EdgeScores:
    """Measure what the mean metric owes to each edge alone; positive: the edge helps.

    With "noise" that is what it loses when the edge alone is corrupted, with "denoise" what it
    gains when the edge alone is clean. `metric(logits)` gives one number per prompt for logits
    (b, t, v). A corrupted edge carries what its writer writes on the same row of `corrupt`
    (ablation "resample"), the mean of that ("mean") or nothing ("zero"); denoising is for
    "resample" only. With `by_position` the edge is switched at one position of what its reader
    reads, and the scores are (edge, position). At most `batch_size` prompts (times writers and
    positions, each with a run per head and q, k, v) go through one forward; by default as many as
    keep memory small. ValueError for prompts of different shape, an empty batch, an unknown
    ablation or direction, a metric that is not one number per prompt.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> scores = patch_edges(*runs, direction="noise")
    >>> round(scores["a0.h0->a1.h0<k>"].item())
    20
    >>> (circuit,) = case.truth.circuits["resample"].edges
    >>> set(scores.top(len(circuit))) == circuit
    True
    """
    clean, corrupt = check_batch(clean, corrupt)
    if direction not in ("noise", "denoise"):
        fits = "'noise' (corrupt into clean) or 'denoise'"
        raise ValueError(f"direction is {direction!r}, but must be {fits}")
    if direction == "denoise" and ablation != "resample":
        why = "denoising puts clean values into the run on `corrupt`"
        raise ValueError(f"ablation is {ablation!r}, but {why}: 'resample'")
    base, other = (clean, corrupt) if direction == "noise" else (corrupt, clean)
    both = write_outputs(model, torch.cat([base, other]))  # one run, not two
    on, off = both.split(len(base), dim=1)
    changes = replace_by(ablation, off) - on
    n_heads = model.config.n_heads
    # Of each prompt with one writer changed there are three runs per head.
    rows = choose_rows(model.config, clean.shape[1], batch_size, runs=3 * n_heads)
    values = list[Tensor]()
    stream = on[0]
    seen = 1
    for layer, block in enumerate(model.blocks):
        heads = on[seen : seen + n_heads]
        run = partial(run_heads, model, layer, stream, heads)
        found = sweep(run, changes[:seen], metric, rows, by_position)
        values.append(found.movedim((-2, -1), (0, 1)).flatten(0, 2))
        stream = add_heads(block, stream, heads)
        seen += n_heads
        if block.mlp is not None:
            run = partial(run_mlp, model, layer, stream)
            values.append(sweep(run, changes[:seen], metric, rows, by_position))
            stream = stream + on[seen]
            seen += 1
    run = partial(run_readout, model, stream)
    values.append(sweep(run, changes, metric, rows, by_position))
    effects = torch.cat(values) - check_metric(metric, model.unembed(stream))
    return EdgeScores(model, effects if direction == "denoise" else -effects)


def sweep(
    run: Run,
    changes: Float[Tensor, "writer batch pos d_model"],
    metric: Metric,
    rows: int,
    by_position: bool,
) -> Float[Tensor, "writer *position_and_reader"]:
    """Measure the mean metric of every run.

    At most `rows` prompts times writers run at once, unless that is less than one of each.
    """
    found = list[Tensor]()
    batch = changes.shape[1]
    parts = [slice(start, start + rows) for start in range(0, batch, rows)]
    for chunk in list_changes(changes, max(1, rows // batch), by_position):
        logits = torch.cat([run(part, chunk[:, part]) for part in parts], dim=-3)
        values = torch.stack([check_metric(metric, each) for each in logits.flatten(0, -4)])
        found.append(values.view(logits.shape[:-3]))
    values = torch.cat(found)
    return values.unflatten(0, (len(changes), -1)) if by_position else values


def list_changes(
    changes: Float[Tensor, "writer batch pos d_model"], at_once: int, by_position: bool
) -> Iterator[Float[Tensor, "some batch pos d_model"]]:
    """List changes, some at a time: of each writer, or of each at one position after the other."""
    if not by_position:
        yield from changes.split(at_once)
        return
    places = torch.eye(changes.shape[2]).to(changes).unsqueeze(-1)  # place t 1
    for some in changes.split(max(1, at_once // len(places))):
        for at in places.split(at_once):
            yield (some.unsqueeze(1) * at.unsqueeze(1)).flatten(0, 1)


def run_heads(
    model: Transformer, layer: int, stream: Tensor, heads: Tensor, part: slice, changes: Tensor
) -> Float[Tensor, "writer head 3 batch pos out"]:
    """Run with one writer changed in the q, k or v of one head; return the logits.

    Without a change the heads hear `stream`, and write `heads`.
    """
    before = stream[part]
    changed = before + changes  # w b t d
    own = before.expand_as(changed)
    heard = list[Tensor]()
    for i in range(3):  # q, k, v: each is changed in one of three runs
        runs = [changed if i == j else own for j in range(3)]
        heard.append(torch.stack(runs, dim=1).flatten(0, 2))
    result = write_heads(model, layer, *heard).unflatten(0, (len(changes), 3, -1))  # w 3 b t n d
    block = model.blocks[layer]
    rest = add_heads(block, before, heads[:, part])
    after = result.movedim(-2, 1) + (rest - heads[:, part]).unsqueeze(1)  # w n 3 b t d
    if block.mlp is not None:
        after = after + write_mlp(model, layer, after)
    return continue_run(model, layer, after)


def add_heads(
    block: Block,
    stream: Float[Tensor, "batch pos d_model"],
    heads: Float[Tensor, "head batch pos d_model"],
) -> Float[Tensor, "batch pos d_model"]:
    """Add what a block's attention writes to the stream."""
    bias = block.attn.b_O
    return stream + heads.sum(dim=0) + (0.0 if bias is None else bias)


def run_mlp(
    model: Transformer, layer: int, stream: Tensor, part: slice, changes: Tensor
) -> Float[Tensor, "writer batch pos out"]:
    """Run with one writer changed for an MLP alone; return the logits."""
    before = stream[part]
    return continue_run(model, layer, before + write_mlp(model, layer, before + changes))


def run_readout(
    model: Transformer, stream: Tensor, part: slice, changes: Tensor
) -> Float[Tensor, "writer batch pos out"]:
    """Run with one writer changed for the unembedding alone; return the logits."""
    return continue_run(model, model.config.n_layers - 1, stream[part] + changes)


def continue_run(
    model: Transformer, layer: int, resid: Float[Tensor, "*run batch pos d_model"]
) -> Tensor:
    """Return the logits of runs in which `resid` leaves block `layer`."""
    logits = model(resid=resid.flatten(0, -3), start_at_layer=layer + 1)
    return logits.unflatten(0, resid.shape[:-2])


def score_nodes(model: Transformer, scores: Scores) -> dict[str, float]:
    """Score each writer as high as the highest edge out of it, given scores of edges.

    So the nodes above a threshold are those that the edges above it start from. ValueError unless
    there is one score per edge.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1))
    >>> scores = EdgeScores(model, torch.tensor([0.0, 1.0, 0.0, 3.0, 2.0]))
    >>> scores.top(2)
    ['input->logits', 'a0.h0->logits']
    >>> score_nodes(model, scores)
    {'input': 3.0, 'a0.h0': 2.0}
    """
    values = scores if isinstance(scores, Tensor) else read_scores(model, scores)[1]
    highest = dict.fromkeys(list_writers(model), -math.inf)
    for edge, score in EdgeScores(model, values).items():
        writer = str(Edge.parse(edge).writer)
        highest[writer] = max(highest[writer], score.item())
    return highest
