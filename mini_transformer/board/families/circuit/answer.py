"""Read scores of edges or nodes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mini_transformer.board.answers import check_finite, read_tensor
from mini_transformer.edges import EdgeScores, is_edge, list_edges, list_writers

__all__ = ["read_answer"]


def read_answer(answer: Any, model: Any, *_: Any) -> Tensor | dict[str, float]:
    """Return one score per edge, or a dict from node to score.

    A dict names edges or nodes. What it leaves out scores lower than all that it holds.
    """
    edges = list_edges(model)
    answer = answer.values if isinstance(answer, EdgeScores) else answer
    if not isinstance(answer, Mapping):
        what = "one score per edge, or a dict from edge or node to score"
        return read_tensor(answer, what, len(edges))

    scores = {str(name): float(score) for name, score in answer.items()}
    is_edges = any(map(is_edge, scores))
    if not is_edges:
        scores.pop("logits", None)  # it writes nothing, so it is in every circuit
    known = edges if is_edges else list_writers(model)
    if unknown := [name for name in scores if name not in known]:
        raise ValueError(
            f"the answer scores {unknown[0]!r}, but this model has no such "
            f"{'edge' if is_edges else 'node'}: it has {known[-1]!r}"
        )
    if not scores:
        raise ValueError(
            "the answer is an empty dict, expected a score for at least one edge or node"
        )
    rest = min(scores.values()) - 1
    found = torch.tensor([scores.get(name, rest) for name in known])
    check_finite(found, "the scores")
    return found if is_edges else dict(zip(known, found.tolist(), strict=True))
