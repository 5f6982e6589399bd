"""Answers that do not look at what a model does: scores per edge from weights, names or nothing.

A forged model on which one of these does well would be a defect.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from mini_transformer.board.families.circuit.references import (
    compose,
    find_best_paths,
    follow_paths,
)
from mini_transformer.edges import list_edges
from mini_transformer.model import Transformer
from mini_transformer.toys.truth import Case


@torch.no_grad()
def score_by_weights(model: Transformer) -> dict[str, Tensor]:
    """Return scores in several forms that read nothing but weights."""
    forms = {}
    for whole in (False, True):
        for relative in (False, True):
            one = compose(model, whole, relative)
            name = f"{'circuits' if whole else 'matrices'}{', relative' if relative else ''}"
            forms[f"weights: {name}"] = one
            forms[f"weights: {name}, paths"] = follow_paths(one)
            forms[f"weights: {name}, best path"] = find_best_paths(one)
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
