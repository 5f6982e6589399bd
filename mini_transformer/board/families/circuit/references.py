"""Scores of edges that run no experiment: from nothing, names, weights, or how activations move."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mini_transformer.board.problem import Method
from mini_transformer.edges import Edge, Node, list_edges, list_writers, write_outputs
from mini_transformer.model import Transformer

__all__ = ["REFERENCES", "compose", "find_best_paths", "find_kind", "follow_paths"]

Strengths = dict[str, float]  # of edges


def score_alike(model, clean, corrupt, metric, ablation) -> Tensor:
    """Score all edges alike."""
    return torch.ones(len(list_edges(model)))


# ---- names only


def score_by_names(
    model, clean, corrupt, metric, ablation, rule: Callable[[Edge, int], float]
) -> Strengths:
    """Score each edge by a rule that knows its name and how many layers there are."""
    return {name: rule(Edge.parse(name), model.config.n_layers) for name in list_edges(model)}


def find_layer(node: Node, n_layers: int) -> int:
    """Return a node's layer: -1 for the input, the number of layers for the logits."""
    if node.layer is None:
        return -1 if node.kind == "input" else n_layers
    return node.layer


def find_gap(edge: Edge, n_layers: int) -> int:
    """Count the layers that an edge bridges."""
    return find_layer(edge.reader, n_layers) - find_layer(edge.writer, n_layers)


def find_kind(edge: Edge) -> str:
    """Name what both ends are."""
    return f"{edge.writer.kind} {edge.reader.kind}{edge.part or ''}"


# Of 1000 edges of a kind that bridge 0, 1, 2, ... layers: how many were in circuits (zero or
# resample) of 140 other forged models. The one guess that has seen truths.
PRIOR = {
    "input mlp": (0, 393, 96, 182, 281, 266, 223),
    "head mlp": (67, 52, 35, 7, 6),
    "input headq": (0, 0, 20, 43, 33, 12),
    "mlp headq": (0, 11, 15, 13, 7, 6),
    "input headk": (0, 0, 24, 27, 10),
    "mlp headk": (0, 27, 26, 26, 16, 10),
    "input headv": (0, 0, 237, 250, 147, 9),
    "mlp headv": (0, 21),
    "mlp mlp": (0, 156, 92, 10, 5),
    "mlp logits": (0, 450, 536, 14),
}


def recall(edge: Edge, n_layers: int) -> int:
    """Recall how often such an edge was in a circuit."""
    known = PRIOR.get(find_kind(edge), ())
    gap = find_gap(edge, n_layers)
    return known[gap] if gap < len(known) else 0


NAMES: dict[str, Callable[[Edge, int], float]] = {
    "late": lambda edge, n_layers: find_layer(edge.writer, n_layers),
    "near": lambda edge, n_layers: -find_gap(edge, n_layers),
    "from_input": lambda edge, n_layers: edge.writer.kind == "input",
    "values": lambda edge, n_layers: edge.part in (None, "v"),
    "mlps": lambda edge, n_layers: "mlp" in (edge.writer.kind, edge.reader.kind),
    "learned": recall,
}


# ---- weights only


def compose(model: Transformer, whole: bool, relative: bool) -> Strengths:
    """Measure the norm of what each writer writes times what each reader reads with.

    `whole` takes a head's QK or OV circuit, `relative` divides by both norms (the composition score
    of Elhage et al. 2021).
    """
    found = {}
    nodes = map(Node.parse, list_writers(model))
    written = {node: get_written(model, node) for node in nodes}
    read: dict[tuple[Node, str | None], Tensor] = {}
    for name in list_edges(model):
        edge = Edge.parse(name)
        place = edge.reader, edge.part
        if place not in read:
            read[place] = get_read(model, edge, whole)
        out, into = written[edge.writer], read[place]
        size = (out @ into).norm()
        found[name] = (size / (out.norm() * into.norm()) if relative else size).item()
    return found


def get_written(model: Transformer, node: Node) -> Tensor:
    """Return a matrix whose rows a node writes."""
    if node.kind == "input":
        return torch.cat([model.W_E, model.W_pos])
    return model.W_out[node.layer] if node.kind == "mlp" else model.W_O[node.place]


def get_read(model: Transformer, edge: Edge, whole: bool) -> Tensor:
    """Return a matrix whose columns an edge's reader reads."""
    if edge.reader.kind == "logits":
        return model.W_U - model.W_U.mean(dim=1, keepdim=True)
    if edge.reader.kind == "mlp":
        return model.W_in[edge.reader.layer]
    layer, head = edge.reader.place
    if not whole:
        return {"q": model.W_Q, "k": model.W_K, "v": model.W_V}[edge.part or ""][layer, head]
    if edge.part == "v":
        return model.OV(layer, head)
    return model.QK(layer, head) if edge.part == "q" else model.QK(layer, head).T


def follow_paths(strengths: Strengths, best: bool = False) -> Strengths:
    """Measure the paths to the logits that begin with each edge: the strongest, or their sum."""
    reach = {Node("logits"): 1.0}
    found = {}
    for name in reversed(strengths):
        edge = Edge.parse(name)
        found[name] = strengths[name] * reach.get(edge.reader, 0.0)
        before = reach.get(edge.writer, 0.0)
        reach[edge.writer] = max(before, found[name]) if best else before + found[name]
    return {name: found[name] for name in strengths}


def find_best_paths(strengths: Strengths) -> Strengths:
    """Measure the strongest path from the input to the logits through each edge."""
    to_logits = follow_paths(strengths, best=True)
    reached = {Node("input"): 1.0}
    for name, strength in strengths.items():
        edge = Edge.parse(name)
        so_far = reached.get(edge.reader, 0.0)
        reached[edge.reader] = max(so_far, strength * reached[edge.writer])
    return {name: reached[Edge.parse(name).writer] * to_logits[name] for name in strengths}


@torch.no_grad()
def score_by_weights(
    model, clean, corrupt, metric, ablation, whole: bool, paths: bool, moves: bool = False
) -> Strengths:
    """Score edges by composition; `moves` times how much the writer's output moves on prompts."""
    found = compose(model, whole, relative=True)
    if paths:
        found = find_best_paths(found)
    if moves:
        sizes = measure_changes(model, clean, corrupt, metric, ablation)
        found = {name: score * sizes[str(Edge.parse(name).writer)] for name, score in found.items()}
    return found


# ---- what moves


def measure_changes(model, clean, corrupt, metric, ablation) -> dict[str, float]:
    """Score each node by how much what it writes differs between clean and corrupt prompts."""
    with torch.no_grad():
        changes = write_outputs(model, clean) - write_outputs(model, corrupt)
    sizes = changes.norm(dim=-1).mean(dim=(1, 2)).tolist()
    return dict(zip(list_writers(model), sizes, strict=True))


REFERENCES: dict[str, Method] = {
    "alike": score_alike,
    **{f"names_{name}": partial(score_by_names, rule=rule) for name, rule in NAMES.items()},
    "weights": partial(score_by_weights, whole=False, paths=False),
    "weights_paths": partial(score_by_weights, whole=False, paths=True),
    "composition": partial(score_by_weights, whole=True, paths=False),
    "composition_paths": partial(score_by_weights, whole=True, paths=True),
    "composition_moves": partial(score_by_weights, whole=True, paths=True, moves=True),
    "activation_changes": measure_changes,
}
