"""Path patching: what one component does to another, along one path only.

Patching a head changes all that comes after it. Path patching follows a chain of edges: the first
node writes what it would write on the corrupt prompt, only the next node on the path hears it, and
so on. Nodes off the path carry their clean values, and whoever hears the last node of the path
hears it in every way. So a path that ends at `logits` is a direct effect.

A node's effect splits into the direct one (through its edge to the logits) and the indirect one
(through all its other edges); where the two interact, they do not add up to the total. MLPs are
nodes like heads here, not part of the connection between two heads.
Sources: Goldowsky-Dill et al. 2023 (2304.05969), section 2; Wang et al. 2022 (2211.00593), section
3; Pearl 2001, "Direct and indirect effects".
"""

from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    Edge,
    list_edges,
    list_writers,
    mask_of,
    parse_path,
    run_edges,
    run_masks,
    write_outputs,
    write_under,
)
from mini_transformer.methods.arguments import Metric, Tokens, check_batch, check_metric
from mini_transformer.model import Transformer

__all__ = ["patch_path", "patch_senders", "split_effects"]

Key = TypeVar("Key")
EFFECTS = ("total", "direct", "indirect")


@torch.no_grad()
def patch_path(
    model: Transformer, clean: Tokens, corrupt: Tokens, path: str, ablation: Ablation = "resample"
) -> Float[Tensor, "batch pos out"]:
    """Run clean prompts with the first node of `path` corrupted, as heard along it alone.

    Returned are the logits. A path is written `a0.h0->a1.h0<k>->logits`. Ablation "resample"
    corrupts with what is written on the same row of `corrupt`, "mean" with its mean over prompts,
    "zero" with nothing. ValueError for a path without an edge, KeyError for an edge that does not
    exist.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> for path in ("a0.h0->a1.h0<k>->logits", "a0.h0->a1.h0<v>->logits", "a0.h0->logits"):
    ...     logits = patch_path(case.model, batch.clean, batch.corrupt, path)
    ...     print(path, batch.correct(logits).float().mean().item() > 0.99)
    a0.h0->a1.h0<k>->logits False
    a0.h0->a1.h0<v>->logits True
    a0.h0->logits True
    """
    clean, corrupt = check_batch(clean, corrupt)
    edges = parse_path(path)
    masks = [1 - mask_of(model, [edge]).unsqueeze(0) for edge in edges]
    on_path = [list_writers(model).index(str(edge.writer)) for edge in edges]
    carried = write_outputs(model, clean)
    carried[on_path[0]] = write_outputs(model, corrupt, ablation)[on_path[0]]
    for mask, reader in zip(masks, on_path[1:], strict=False):
        carried[reader] = write_under(model, clean, mask, carried)[reader, 0]
    return run_edges(model, clean, masks[-1], carried)[0]


@torch.no_grad()
def patch_senders(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    receivers: Sequence[str],
    ablation: Ablation = "resample",
) -> dict[str, Float[Tensor, ""]]:
    """Measure, per sender, what the metric loses when only `receivers` hear it corrupted.

    Receivers are the ends of edges, such as `a1.h0<k>`, `m0` or `logits`; given several, all of
    them hear it. The sender that matters to them is the one without which the mean metric loses
    most. KeyError for a receiver that does not exist.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> losses = patch_senders(*runs, ["a1.h0<k>"])
    >>> max(losses, key=lambda node: losses[node])
    'a0.h0'
    """
    clean, corrupt = check_batch(clean, corrupt)
    receivers = [receivers] if isinstance(receivers, str) else list(receivers)
    if not receivers:
        raise ValueError("no receivers were given, but at least one is needed, like 'logits'")
    edges = [Edge.parse(edge) for edge in list_edges(model)]
    known = {edge.receiver for edge in edges}
    if unknown := [receiver for receiver in receivers if receiver not in known]:
        like = edges[0].receiver
        raise KeyError(
            f"no receiver is called {unknown[0]!r}; they look like {like!r}, or 'logits'"
        )
    heard: dict[str, list[Edge]] = {sender: [] for sender in list_writers(model)}
    for edge in edges:
        if edge.receiver in receivers:
            heard[str(edge.writer)].append(edge)
    cut = {sender: mask_of(model, own) for sender, own in heard.items() if own}
    return measure_without(model, clean, corrupt, metric, cut, ablation)


@torch.no_grad()
def split_effects(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
) -> dict[str, dict[str, Float[Tensor, ""]]]:
    """Measure what the metric loses when a node is corrupted, directly and indirectly.

    The keys are "total", "direct" and "indirect", then the node. Direct: only the logits hear the
    corrupted value. Indirect: only everything else does.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> direct = split_effects(*runs)["direct"]
    >>> [round(direct[node].item()) for node in ("a0.h0", "a1.h0")]  # one works through the other
    [0, 40]
    """
    clean, corrupt = check_batch(clean, corrupt)
    out: dict[str, list[Edge]] = {writer: [] for writer in list_writers(model)}
    for edge in map(Edge.parse, list_edges(model)):
        out[str(edge.writer)].append(edge)
    cut = dict[tuple[str, str], Tensor]()
    for writer, own in out.items():
        *rest, last = own
        cut["total", writer] = mask_of(model, own)
        cut["direct", writer] = mask_of(model, [last])
        cut["indirect", writer] = mask_of(model, rest)
    losses = measure_without(model, clean, corrupt, metric, cut, ablation)
    return {
        effect: {node: losses[effect, node] for node in list_writers(model)} for effect in EFFECTS
    }


def measure_without(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    cut: dict[Key, Float[Tensor, "edge"]],
    ablation: Ablation,
) -> dict[Key, Float[Tensor, ""]]:
    """Measure, per key of `cut`, what the metric loses when its edges carry corrupted values."""
    off = write_outputs(model, corrupt, ablation)
    masks = 1 - torch.stack([torch.zeros(len(list_edges(model)), device=off.device), *cut.values()])
    runs = chain.from_iterable(run_masks(model, clean, masks, off))
    values = torch.stack([check_metric(metric, logits) for logits in runs])
    return dict(zip(cut, values[0] - values[1:], strict=True))
