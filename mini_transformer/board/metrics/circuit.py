"""How well scores of edges find a circuit, where several circuits may be right.

Only the order of the scores counts, and equal scores are equal: AUROC and AUPRC are exact over all
thresholds. Precision, recall, F1 and distance compare sets: the highest scores, as many as the
circuit has edges. Edges at the lowest score are never kept, so scores of 0 and 1 mean the set of
ones.

With a set of right circuits each figure comes twice: `_best` against the member that it fits best,
`_union` against all edges of any member. The best of several is above chance by selection: judge a
random scorer by the union.

Sources: Fawcett 2006 (Pattern Recognition Letters 27, 861) on ROC curves; Davis & Goadrich 2006
(ICML) on precision and recall; Tsamardinos et al. 2006 (Machine Learning 65, 31) on the structural
Hamming distance.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["compare_sets", "keep_highest", "measure_auprc", "measure_auroc", "score_circuit"]

Scores = Float[Tensor, "edge"]
Edges = Bool[Tensor, "edge"]


def score_circuit(scores: Scores, members: Bool[Tensor, "member edge"]) -> dict[str, float]:
    """Compare scores per edge (or per node) with the right circuits, one mask per row.

    `distance` is in edges, lower is better; all other figures are from 0 to 1. There is no `_union`
    if the members together hold every edge. Raise ValueError for scores that are not numbers, and
    for a mask that holds no edge or all.

    >>> members = torch.tensor([[True, False, False, True], [False, True, False, True]])
    >>> found = score_circuit(torch.tensor([0.9, 0.1, 0.0, 0.8]), members)
    >>> found["auroc_best"], found["f1_best"], found["f1_union"]
    (1.0, 1.0, 1.0)
    >>> score_circuit(torch.tensor([1.0, 0.0, 0.0, 1.0]), members)["recall_union"]
    0.6666666666666666
    """
    if not len(members):
        raise ValueError("the set of right circuits is empty, but at least one is needed")
    each = [compare_with(scores, member) for member in members]
    found = {}
    for name in each[0]:
        best = min if name == "distance" else max
        found[f"{name}_best"] = best(member[name] for member in each)
    union = members.any(dim=0)
    if not union.all():
        found |= {f"{name}_union": value for name, value in compare_with(scores, union).items()}
    return found


def compare_with(scores: Scores, truth: Edges) -> dict[str, float]:
    """Compare the scores with one circuit."""
    kept = keep_highest(scores, int(truth.sum()))
    return {
        "auroc": measure_auroc(scores, truth),
        "auprc": measure_auprc(scores, truth),
        **compare_sets(kept, truth),
    }


def measure_auroc(scores: Scores, truth: Edges) -> float:
    """Measure how probably an edge of the circuit scores higher than one outside.

    Equal scores count one half. This is the area under true-positive over false-positive rate at
    every threshold, both ends included. Random scores give 1/2.

    >>> measure_auroc(torch.tensor([3.0, 1.0, 1.0]), torch.tensor([True, False, True]))
    0.75
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth.numpy(), rank(scores, truth)))


def measure_auprc(scores: Scores, truth: Edges) -> float:
    """Measure the average precision: over thresholds, precision times the recall gained.

    Random scores give the circuit's share of edges.

    >>> measure_auprc(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]))
    0.8333333333333333
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth.numpy(), rank(scores, truth)))


def keep_highest(scores: Scores, size: int) -> Edges:
    """Keep the edges that score as high as the one at place `size`, and above the lowest.

    >>> keep_highest(torch.tensor([5.0, 0.0, 0.0, 7.0]), 3)
    tensor([ True, False, False,  True])
    """
    return (scores >= scores.sort(descending=True).values[size - 1]) & (scores > scores.min())


def compare_sets(kept: Edges, truth: Edges) -> dict[str, float]:
    """Measure precision, recall, F1, and the structural Hamming distance of two sets.

    The distance is how many edges to add or remove. An edge in neither set is right but counts for
    nothing. Keeping nothing has precision 0.

    >>> compare_sets(torch.tensor([True, True, False]), torch.tensor([True, False, True]))
    {'precision': 0.5, 'recall': 0.5, 'f1': 0.5, 'distance': 2.0}
    """
    both = (kept & truth).sum().item()
    kept_size = kept.sum().item()
    size = truth.sum().item()
    return {
        "precision": both / max(kept_size, 1),
        "recall": both / max(size, 1),
        "f1": 2 * both / max(kept_size + size, 1),
        "distance": float((kept ^ truth).sum().item()),
    }


def rank(scores: Scores, truth: Edges) -> Any:
    """Return the scores as whole numbers in the same order, so that infinite ones are fine.

    Raise ValueError if no curve exists.
    """
    if scores.shape != truth.shape:
        raise ValueError(
            f"there are {len(scores)} scores, but {len(truth)} edges: give one score per edge"
        )
    if unknown := int(torch.isnan(scores).sum()):
        raise ValueError(
            f"{unknown} of {len(scores)} scores are not numbers: give every edge a score"
        )
    if not 0 < truth.sum() < len(truth):
        raise ValueError(
            f"the circuit has {int(truth.sum())} of {len(truth)} edges, "
            "but a curve needs some in and some out"
        )
    return scores.detach().unique(return_inverse=True)[1].numpy()
