"""Exact edge patching: what each edge of the computation does for the metric, measured by switching it, one edge at a time.

Only the edge's reader hears another value of its writer; everything after the reader is computed again. Noising puts corrupt values
(or their mean, or zero) into the clean run: what is lost is what the edge alone is *needed* for. Denoising puts clean values
into the corrupt run: what is gained is what the edge alone is *enough* for. A circuit needs several edges at once, so denoising misses
most of it; noising misses what a backup replaces.

The runs share what they have in common: what comes before the reader does not change, and the stream without a writer is the
same for all heads of a layer, so that one run of the attention serves them all. Only what follows is computed per edge.
Sources: Goldowsky-Dill et al. 2023 (2304.05969), section 2; Conmy et al. 2023 (2304.14997), section 2.

Checked against: the edge engine with one switch off per mask, one hooked run per edge, and the circuits of hand-set models.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.edges import Ablation, list_edges, list_writers, replace_by, write_outputs
from mini_transformer.hooks import Recorder
from mini_transformer.methods.patching import Metric, check_metric
from mini_transformer.methods.path_patching import check_batch
from mini_transformer.model import Norm, Transformer

Tokens = Integer[Tensor, "batch pos"]
Run = Callable[
    [slice, Tensor], Tensor
]  # these prompts with changes (w, b, t, d) of writers: logits (w, ..., b, t, v)
BUDGET = 32e6  # bytes of activations in one forward


@torch.no_grad()
def patch_edges(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
    direction: Literal["denoise", "noise"] = "noise",
    batch_size: int | None = None,
) -> Float[Tensor, "edge"]:
    """What the mean metric loses when each edge alone is corrupted (noise), or gains when it alone is clean (denoise).

    In the order of `list_edges`; positive: the edge helps. `metric(logits)` gives one number per
    prompt for logits (b, t, v). A corrupted edge carries what its writer writes on the same row of
    `corrupt` (ablation "resample"), the mean of that ("mean") or nothing ("zero"); denoising is for
    "resample" only. At most `batch_size` prompts (times writers, each with a run per head and q, k,
    v) go through one forward; by default as many as keep memory small. ValueError for prompts of
    different shape, an empty batch, an unknown ablation or direction, a metric that is not one
    number per prompt.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> drops = patch_edges(case.model, batch.clean, batch.corrupt, batch.logit_difference)
    >>> circuit = {edge for edge, drop in zip(list_edges(case.model), drops) if drop > 1}
    >>> circuit == set(case.truth.circuits["resample"].edges[0])
    True
    """
    clean, corrupt = check_batch(clean, corrupt)
    if direction not in ("noise", "denoise"):
        raise ValueError(
            f"direction is {direction!r}, but must be 'noise' (corrupt into clean) or 'denoise'"
        )
    if direction == "denoise" and ablation != "resample":
        raise ValueError(
            f"ablation is {ablation!r}, but denoising puts clean values into the run on `corrupt`: 'resample'"
        )
    base, other = (clean, corrupt) if direction == "noise" else (corrupt, clean)
    on, off = write_outputs(model, torch.cat([base, other])).split(
        len(base), dim=1
    )  # one run, not two
    changes, rows = replace_by(ablation, off) - on, choose_rows(model, clean.shape[1], batch_size)
    values, stream, seen = list[Tensor](), on[0], 1
    for layer, block in enumerate(model.blocks):
        heads = on[seen : seen + model.config.n_heads]
        run = partial(run_heads, model, layer, stream, heads)
        values.append(sweep(run, changes[:seen], metric, rows).movedim(0, -1).flatten())
        stream = stream + heads.sum(dim=0) + (0.0 if block.attn.b_O is None else block.attn.b_O)
        seen += model.config.n_heads
        if block.mlp is not None:
            run = partial(run_mlp, model, layer, stream)
            values.append(sweep(run, changes[:seen], metric, rows))
            stream, seen = stream + on[seen], seen + 1
    values.append(sweep(partial(run_readout, model, stream), changes, metric, rows))
    effects = torch.cat(values) - check_metric(metric, model.unembed(stream))
    return effects if direction == "denoise" else -effects


def sweep(
    run: Run, changes: Float[Tensor, "writer batch pos d_model"], metric: Metric, rows: int
) -> Float[Tensor, "writer *reader"]:
    """The mean metric of every run; at most `rows` prompts times writers at once, unless that is less than one of each."""
    found, batch = list[Tensor](), changes.shape[1]
    parts = [slice(start, start + rows) for start in range(0, batch, rows)]
    for chunk in changes.split(max(1, rows // batch)):
        logits = torch.cat([run(part, chunk[:, part]) for part in parts], dim=-3)
        values = torch.stack([check_metric(metric, each) for each in logits.flatten(0, -4)])
        found.append(values.view(logits.shape[:-3]))
    return torch.cat(found)


def run_heads(
    model: Transformer, layer: int, stream: Tensor, heads: Tensor, part: slice, changes: Tensor
) -> Float[Tensor, "writer head 3 batch pos out"]:
    """The logits when one head hears one writer changed in its q, k or v; else it hears `stream`, and they write `heads`."""
    block, before = model.blocks[layer], stream[part]
    changed = normalize(block.ln1, before + changes)  # w b t d
    own = normalize(block.ln1, before).expand_as(changed)
    inputs = [
        torch.stack([changed if i == j else own for j in range(3)], dim=1).flatten(0, 2)
        for i in range(3)
    ]
    if model.config.positions_to == "qk":
        inputs[:2] = [x + model.pos_embed(1, x.shape[1]) for x in inputs[:2]]
    recorder = Recorder()
    with model._listening([(block.attn.hook_result, recorder)]):
        block.attn(*inputs)
    result = recorder.values[block.attn.hook_result.name].unflatten(
        0, (len(changes), 3, -1)
    )  # w 3 b t n d
    rest = before + heads[:, part].sum(dim=0) + (0.0 if block.attn.b_O is None else block.attn.b_O)
    after = result.movedim(-2, 1) + (rest - heads[:, part]).unsqueeze(1)  # w n 3 b t d
    if block.mlp is not None:
        after = after + block.mlp(normalize(block.ln2, after).flatten(0, 3)).view_as(after)
    return continue_run(model, layer, after)


def run_mlp(
    model: Transformer, layer: int, stream: Tensor, part: slice, changes: Tensor
) -> Float[Tensor, "writer batch pos out"]:
    """The logits when an MLP hears one writer changed."""
    block, before = model.blocks[layer], stream[part]
    assert block.mlp is not None
    return continue_run(
        model,
        layer,
        before + block.mlp(normalize(block.ln2, before + changes).flatten(0, 1)).view_as(changes),
    )


def run_readout(
    model: Transformer, stream: Tensor, part: slice, changes: Tensor
) -> Float[Tensor, "writer batch pos out"]:
    """The logits when the unembedding hears one writer changed."""
    return continue_run(model, model.config.n_layers - 1, stream[part] + changes)


def continue_run(
    model: Transformer, layer: int, resid: Float[Tensor, "*run batch pos d_model"]
) -> Tensor:
    """The logits of runs in which `resid` leaves block `layer`."""
    logits = model(resid=resid.flatten(0, -3), start_at_layer=layer + 1)
    return logits.unflatten(0, resid.shape[:-2])


def normalize(
    norm: Norm | None, x: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    return x if norm is None else norm.normalize(x)


def choose_rows(model: Transformer, length: int, batch_size: int | None) -> int:
    """How many prompts (times writers) go through one forward; on the budget, if not given."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1, or None")
    c = model.config
    per_head = 12 * c.d_model + 3 * (4 * c.d_head + 3 * length + 3 * c.d_mlp + 2 * c.d_vocab_out)
    return batch_size or max(1, int(BUDGET / (4 * length * c.n_heads * per_head)))


def score_nodes(model: Transformer, scores: Float[Tensor, "edge"]) -> dict[str, float]:
    """Scores of edges to scores of the nodes that write them: a node scores as high as the highest edge out of it.

    So the nodes above a threshold are those that the edges above it start from. ValueError unless there is one score per edge.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1))
    >>> score_nodes(model, torch.tensor([0.0, 1.0, 0.0, 3.0, 2.0]))  # the last two are input->logits and a0.h0->logits
    {'input': 3.0, 'a0.h0': 2.0}
    """
    edges = list_edges(model)
    if scores.shape != (len(edges),):
        raise ValueError(
            f"scores are {tuple(scores.shape)}, expected ({len(edges)},): one per edge of this model"
        )
    writers = [edge.split("->")[0] for edge in edges]
    return {
        node: max(
            score for writer, score in zip(writers, scores.tolist(), strict=True) if writer == node
        )
        for node in list_writers(model)
    }
