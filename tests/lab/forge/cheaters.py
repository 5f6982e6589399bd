"""Answers that do not look at what a model does: scores per edge from weights, names or nothing.

A forged model on which one of these does well would be a defect.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from mini_transformer.edges import list_edges
from mini_transformer.model import Transformer
from mini_transformer.toys.truth import Case


def _written(model: Transformer, node: str) -> Tensor:
    if node == "input":
        return torch.cat([model.W_E, model.W_pos])
    layer = int(node[1:].split(".")[0])
    if node.startswith("m"):
        return model.W_out[layer]
    return model.blocks[layer].attn.W_O[int(node.split("h")[1])]


def _read(model: Transformer, reader: str, whole: bool) -> Tensor:
    """What a reader reads with; `whole` takes a head's QK or OV circuit."""
    if reader == "logits":
        return model.W_U
    layer = int(reader[1:].split(".")[0])
    if reader.startswith("m"):
        return model.W_in[layer]
    head, part = int(reader.split("h")[1][: -len("<q>")]), reader[-2]
    attn = model.blocks[layer].attn
    if not whole:
        return {"q": attn.W_Q, "k": attn.W_K, "v": attn.W_V}[part][head]
    if part == "v":
        return model.OV(layer, head)
    return model.QK(layer, head) if part == "q" else model.QK(layer, head).T


def _compose(model: Transformer, whole: bool, relative: bool, centred: bool) -> dict[str, float]:
    found = {}
    for edge in list_edges(model):
        writer, reader = edge.split("->")
        out, into = _written(model, writer), _read(model, reader, whole)
        if centred and reader == "logits":
            into = into - into.mean(dim=1, keepdim=True)
        size = (out @ into).norm()
        found[edge] = (size / (out.norm() * into.norm()) if relative else size).item()
    return found


def _along_paths(model: Transformer, strengths: dict[str, float], best: bool) -> dict[str, float]:
    """Strength of the paths to the logits that begin with each edge: the strongest, or the sum."""
    reach: dict[str, float] = {"logits": 1.0}
    found = {}
    for edge in reversed(list(strengths)):
        writer, reader = edge.split("->")
        found[edge] = strengths[edge] * reach.get(reader.split("<")[0], 0.0)
        before = reach.get(writer, 0.0)
        reach[writer] = max(before, found[edge]) if best else before + found[edge]
    return {edge: found[edge] for edge in strengths}


def _through(model: Transformer, strengths: dict[str, float]) -> dict[str, float]:
    """Strength of the strongest path from the input to the logits through each edge."""
    to_logits = _along_paths(model, strengths, best=True)
    reached = {"input": 1.0}
    for edge, strength in strengths.items():
        writer, reader = edge.split("->")
        node = reader.split("<")[0]
        reached[node] = max(reached.get(node, 0.0), strength * reached[writer])
    return {edge: reached[edge.split("->")[0]] * to_logits[edge] for edge in strengths}


@torch.no_grad()
def score_by_weights(model: Transformer) -> dict[str, Tensor]:
    """Return scores in several forms that read nothing but weights."""
    forms = {}
    for whole in (False, True):
        for relative in (False, True):
            one = _compose(model, whole, relative, centred=True)
            name = f"{'circuits' if whole else 'matrices'}{', relative' if relative else ''}"
            forms[f"weights: {name}"] = one
            forms[f"weights: {name}, paths"] = _along_paths(model, one, best=False)
            forms[f"weights: {name}, best path"] = _through(model, one)
    return {name: torch.tensor(list(form.values())) for name, form in forms.items()}


def score_by_names(model: Transformer) -> dict[str, Tensor]:
    """Return scores that read nothing but the names of edges and their order."""
    edges = list_edges(model)
    n_layers = model.config.n_layers

    def layer(node: str) -> int:
        if node in ("input", "logits"):
            return -1 if node == "input" else n_layers
        return int(node[1:].split(".")[0])

    ends = [edge.split("->") for edge in edges]
    gap = [layer(reader.split("<")[0]) - layer(writer) for writer, reader in ends]
    orders = {
        "names: first": [-float(i) for i in range(len(edges))],
        "names: last": [float(i) for i in range(len(edges))],
        "names: near": [-float(distance) for distance in gap],
        "names: far": [float(distance) for distance in gap],
        "names: from the input": [float(writer == "input") for writer, _ in ends],
        "names: values": [float("<v>" in reader or "<" not in reader) for _, reader in ends],
        "names: MLPs": [float("m" in (w + r)[: len(w) + 1]) for w, r in ends],
        "names: to the logits": [float(reader == "logits") for _, reader in ends],
    }
    return {name: torch.tensor(order) for name, order in orders.items()}


def learn_names(cases: Iterable[Case], ablation: str) -> Callable[[Transformer], Tensor]:
    """Learn how often an edge is in the circuits of other models, whatever the head's number."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for case in cases:
        needed = frozenset().union(*case.truth.circuits[ablation].edges)
        for edge in list_edges(case.model):
            counts[re.sub(r"\.h\d+", "", edge)].append(edge in needed)

    def score(model: Transformer) -> Tensor:
        kinds = [counts[re.sub(r"\.h\d+", "", edge)] for edge in list_edges(model)]
        return torch.tensor([sum(own) / len(own) if len(own) > 2 else 0.0 for own in kinds])

    return score


def score_by_nothing(model: Transformer) -> dict[str, Tensor]:
    n = len(list_edges(model))
    generator = torch.Generator().manual_seed(0)
    return {"constant": torch.ones(n), "random": torch.rand(n, generator=generator)}
