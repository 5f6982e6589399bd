"""Faithfulness: how much of what the model does a circuit keeps when all else is ablated.

f is 0 for the empty circuit and 1 for the whole model. A method that scores edges names a circuit
of every size, so it gets a curve. The area under f is large if the best circuits come early (CPR).
The area between f and 1 is small if they also behave like the model (CMD). f can be far above 1
where the circuit lacks what holds the model back; then CPR praises what CMD blames. So both areas
are bounded here, unless asked otherwise.

A faithful circuit may still miss a backup or carry idle edges: see `circuit_knockouts`. And all of
it depends on the ablation.
Sources: Wang et al. 2022 (2211.00593), section 4; Mueller et al. 2025 (2504.13151) on CPR and CMD.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import Ablation, mask_of
from mini_transformer.methods.arguments import Metric, Tokens
from mini_transformer.methods.circuits.parts import (
    Circuit,
    Scores,
    mask_parts,
    measure_shares,
    read_scores,
)
from mini_transformer.model import Transformer

__all__ = ["FaithfulnessCurve", "measure_faithfulness", "measure_faithfulness_curve"]


@dataclass(frozen=True, eq=False)
class FaithfulnessCurve:
    """Faithfulness (1 is the whole model) over the share of edges or nodes kept, from 0 to 1.

    Between two sizes f is that of the smaller one: with so many edges to spend, no larger circuit
    was named. Of several circuits of one size the last counts. ValueError for shares that are not
    in order, and for numbers that are not finite.

    >>> import torch
    >>> curve = FaithfulnessCurve(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 3.0, 1.0]))
    >>> curve.cpr(), curve.cpr(bounded=False)
    (0.5, 1.5)
    >>> curve.cmd(), curve.cmd(bounded=False)
    (1.0, 1.5)
    """

    share: Float[Tensor, "size"]
    faithfulness: Float[Tensor, "size"]

    def __post_init__(self) -> None:
        for name in ("share", "faithfulness"):
            object.__setattr__(self, name, getattr(self, name).clone())
        given = tuple(self.share.shape), tuple(self.faithfulness.shape)
        if self.share.ndim != 1 or given[0] != given[1] or not len(self.share):
            told = f"share and faithfulness are {given[0]} and {given[1]}"
            raise ValueError(f"{told}, but must be lists of one length")
        finite = self.share.isfinite().all() and self.faithfulness.isfinite().all()
        if not finite or (self.share.diff() < 0).any():
            raise ValueError(
                "share must rise from size to size, "
                "and share and faithfulness must be finite numbers"
            )

    def cpr(self, bounded: bool = True) -> float:
        """Measure the area under f; higher is better.

        Bounded: f counts as at least 0 and at most 1, so the area does, too.
        """
        height = self.faithfulness.clamp(0, 1) if bounded else self.faithfulness
        return (height[:-1] * self.share.diff()).sum().item()

    def cmd(self, bounded: bool = True) -> float:
        """Measure the area under |1 - f|; lower is better.

        Bounded: a distance counts as at most 1, on either side.
        """
        distance = (1 - self.faithfulness).abs().clamp(max=1 if bounded else math.inf)
        return (distance[:-1] * self.share.diff()).sum().item()


def measure_faithfulness(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    circuits: Sequence[Circuit],
    ablation: Ablation = "resample",
) -> Float[Tensor, "circuit"]:
    """Measure f of each circuit: (m(circuit) - m(empty)) / (m(model) - m(empty)).

    m is the mean metric over prompts. A circuit is a set of edges, or of nodes, which keep all
    edges between them. What is outside carries what its writer writes on the same row of `corrupt`
    (ablation "resample"), its mean over them ("mean"), or nothing ("zero"). KeyError for an edge or
    node that does not exist; ValueError for both in one circuit, and for a metric that does not
    tell model from empty circuit.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> (circuit,) = case.truth.circuits["resample"].edges
    >>> circuits = [circuit, circuit - {"a0.h0->a1.h0<k>"}, {"input", "a0.h0", "a1.h0"}]
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> [round(share, 1) for share in measure_faithfulness(*runs, circuits).tolist()]
    [1.0, 0.5, 1.0]

    Without the edge, the head attends as it does in the corrupt prompt.
    """
    if lone := [circuit for circuit in circuits if isinstance(circuit, str)]:
        given = f"circuits is a list of circuits, but holds the name {lone[0]!r}"
        raise ValueError(f"{given}: put the circuit in a list")
    masks = [mask_parts(model, circuit) for circuit in circuits]
    return measure_shares(model, clean, corrupt, metric, masks, ablation)


def measure_faithfulness_curve(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    scores: Scores,
    ablation: Ablation = "resample",
) -> FaithfulnessCurve:
    """Measure the faithfulness of every circuit that keeps the parts that score highest.

    `scores` are `EdgeScores`, a dict from edges or from writers to numbers, or a tensor in the
    order of `list_edges` or `list_writers`. They count as they are, not by their size: -1 is below
    0. Parts with one score come in together, so scores that tell nothing apart earn nothing. The
    published curve has ten sizes, between 0.1% and all of the edges, joined by lines, and no
    bounds. ValueError for another number of scores, and for NaN.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> oracle = mask_of(case.model, case.truth.circuits["resample"].edges[0])
    >>> for scores in (oracle, -oracle):
    ...     curve = measure_faithfulness_curve(*runs, scores)
    ...     print(f"CPR {curve.cpr():.2f}, CMD {curve.cmd():.2f}")
    CPR 0.83, CMD 0.17
    CPR 0.00, CMD 1.00
    """
    names, values = read_scores(model, scores)
    kept = [values >= level for level in values.unique().flip(0)]
    masks = [mask_of(model, ())]
    for row in kept:
        circuit = [name for name, on in zip(names, row, strict=True) if on]
        masks.append(mask_parts(model, circuit))
    faithfulness = measure_shares(model, clean, corrupt, metric, masks, ablation)
    share = [row.sum().item() / len(row) for row in kept]
    return FaithfulnessCurve(faithfulness.new_tensor([0.0, *share]), faithfulness)
