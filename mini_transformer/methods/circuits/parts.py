"""Parts of a model, edges or nodes: those in a circuit, and those that have scores.

This is what techniques for circuits share. A circuit of nodes keeps all edges between them.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    Edge,
    EdgeScores,
    is_edge,
    list_edges,
    list_writers,
    mask_of,
    run_masks,
    write_outputs,
)
from mini_transformer.methods.arguments import (
    Metric,
    Tokens,
    check_batch,
    score_prompts,
    tell_apart,
)
from mini_transformer.model import Transformer
from mini_transformer.nearest import find_nearest

__all__ = ["Circuit", "Scores", "mask_parts", "measure_shares", "name_parts", "read_scores"]

# Names of edges, or of nodes.
Circuit = Iterable[str]

# One per edge, or one per writer: by name, or in the order of `list_edges` or `list_writers`.
Scores = (
    EdgeScores
    | Mapping[str, float]
    | Float[Tensor, "part"]
    | Integer[Tensor, "part"]
    | Bool[Tensor, "part"]
)


def name_parts(model: Transformer, circuit: Circuit) -> tuple[list[str], list[str]]:
    """List the names in a circuit, each once, and all names that the model has of their kind.

    The node `logits` is always there and is left out. A circuit without names has no edges. The
    names of a set, which has no order of its own, come in the model's. KeyError for a name that the
    model does not have; ValueError for edges and nodes in one circuit.
    """
    parts = list(dict.fromkeys([circuit] if isinstance(circuit, str) else circuit))
    if len({is_edge(part) for part in parts}) > 1:
        given = f"the circuit mixes edges and nodes ({parts[0]!r}, ...)"
        raise ValueError(f"{given}, but must name one of the two")
    level = list_edges(model) if not parts or is_edge(parts[0]) else list_writers(model)
    parts = [part for part in parts if part != "logits"]
    if unknown := [part for part in parts if part not in level]:
        nearest = find_nearest(unknown[0], level)
        raise KeyError(
            f"no edge or node is called {unknown[0]!r} in this model; nearest: {nearest!r}"
        )
    return sorted(parts, key=level.index) if isinstance(circuit, Set) else parts, level


def mask_parts(model: Transformer, circuit: Circuit) -> Float[Tensor, "edge"]:
    """Write 1.0 for the edges of a circuit; a circuit of nodes has all edges between them."""
    parts, level = name_parts(model, circuit)
    edges = list_edges(model)
    if level == edges:
        return mask_of(model, parts)
    kept = {*parts, "logits"}
    between = [edge for edge in map(Edge.parse, edges) if {*map(str, edge[:2])} <= kept]
    return mask_of(model, between)


def read_scores(model: Transformer, scores: Scores) -> tuple[list[str], Tensor]:
    """Read the names of what is scored, all edges or all writers, and a number for each.

    ValueError unless every edge, or every writer, has a number.
    """
    edges = list_edges(model)
    writers = list_writers(model)
    if isinstance(scores, Mapping):
        level = edges if any(map(is_edge, scores)) else writers
        given = f"given by {len(scores)} names"
        fits = set(scores) == set(level)
        values = torch.tensor([float(scores[name]) for name in level]) if fits else torch.empty(0)
    else:
        values = scores.values if isinstance(scores, EdgeScores) else scores
        given = f"{tuple(values.shape)}"
        level = edges if values.shape == (len(edges),) else writers
        fits = values.shape == (len(level),)
    if not fits or values.isnan().any():
        given += " with NaN" if values.isnan().any() else ""
        expected = f"a number for each of {len(edges)} edges or {len(writers)} nodes"
        fix = ": add up those at all positions by scores.sum()" if values.ndim == 2 else ""
        raise ValueError(f"scores are {given}, expected {expected}{fix}")
    return level, values


@torch.no_grad()
def measure_shares(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    masks: Sequence[Float[Tensor, "edge"]],
    ablation: Ablation,
) -> Float[Tensor, "mask"]:
    """Measure the mean metric under each mask, in shares: no edges give 0, all edges give 1.

    ValueError for a metric that does not tell these two apart.
    """
    clean, corrupt = check_batch(clean, corrupt)
    ends = [mask_of(model, ()), mask_of(model, list_edges(model))]
    off = write_outputs(model, corrupt, ablation)
    runs = chain.from_iterable(run_masks(model, clean, torch.stack([*ends, *masks]), off))
    *scores, differs = tell_apart(metric, next(runs), next(runs))
    scores += [score_prompts(metric, logits) for logits in runs]
    empty, whole, *_ = values = torch.stack(scores).mean(dim=1)
    if not differs:
        told = f"the metric is {whole:.4g} for the model and {empty:.4g} without edges"
        raise ValueError(f"{told}, but it must differ, by more than rounding does, and be finite")
    return (values[2:] - empty) / (whole - empty)
