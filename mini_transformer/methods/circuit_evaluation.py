"""Faithfulness: how much of the model's behaviour a circuit keeps when everything outside it is ablated.

f is 0 for the empty circuit and 1 for the whole model. A method that scores edges names a circuit of every size, so it
gets a curve: the area under f is large if the best circuits come early (CPR), the area between f and 1 is small if they also
behave like the model (CMD). f can be far above 1 where the circuit lacks what holds the model back, and then CPR praises what
CMD blames; so both areas are bounded here, unless asked otherwise. A faithful circuit may still miss a backup or carry idle
edges: see `circuit_knockouts`. And all of it depends on the ablation.
Sources: Wang et al. 2022 (2211.00593), section 4; Mueller et al. 2025 (2504.13151) on CPR and CMD.

Checked against: one hooked forward per circuit, areas summed by hand, and the enumerated circuits of hand-set models.
"""

import difflib
import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mini_transformer.edges import Ablation, list_edges, list_writers, mask_of, write_outputs
from mini_transformer.methods.patching import Metric, score_prompts, tell_apart
from mini_transformer.methods.path_patching import check_batch, run_masks
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Circuit = Iterable[str]  # names of edges, or of nodes: then all edges between them are kept


@dataclass(frozen=True, eq=False)
class FaithfulnessCurve:
    """Faithfulness (1 is the whole model) over the share of edges or nodes kept, from none to all.

    Between two sizes f is that of the smaller one: with so many edges to spend, no larger circuit was named. Of several
    circuits of one size the last counts. ValueError for shares that are not in order, and for numbers that are not finite.

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
            raise ValueError(
                f"share and faithfulness are {given[0]} and {given[1]}, but must be lists of one length"
            )
        if (
            not self.share.isfinite().all()
            or not self.faithfulness.isfinite().all()
            or (self.share.diff() < 0).any()
        ):
            raise ValueError(
                "share must rise from size to size, and share and faithfulness must be finite numbers"
            )

    def cpr(self, bounded: bool = True) -> float:
        """The area under f, higher is better; bounded: f counts as at least 0 and at most 1, so the area does, too."""
        height = self.faithfulness.clamp(0, 1) if bounded else self.faithfulness
        return (height[:-1] * self.share.diff()).sum().item()

    def cmd(self, bounded: bool = True) -> float:
        """The area under |1 - f|, lower is better; bounded: a distance counts as at most 1, on either side."""
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
    """f of each circuit: (m(circuit) - m(empty)) / (m(model) - m(empty)), for the mean metric m over prompts.

    A circuit is a set of edges, or of nodes, which keep all edges between them. What is outside
    carries what its writer writes on the same row of `corrupt` (ablation "resample"), its mean over
    them ("mean"), or nothing ("zero"). KeyError for an edge or node that does not exist; ValueError
    for both in one circuit, and for a metric that does not tell model from empty circuit.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch, (circuit,) = case.task.draw(64, corrupt="fresh"), case.truth.circuits["resample"].edges
    >>> circuits = [circuit, circuit - {"a0.h0->a1.h0<k>"}, {"input", "a0.h0", "a1.h0"}]
    >>> shares = measure_faithfulness(case.model, batch.clean, batch.corrupt, batch.logit_difference, circuits)
    >>> [round(share, 1) for share in shares.tolist()]  # without the edge, the head attends as in the corrupt prompt
    [1.0, 0.5, 1.0]
    """
    if lone := [circuit for circuit in circuits if isinstance(circuit, str)]:
        raise ValueError(
            f"circuits is a list of circuits, but holds the name {lone[0]!r}: put the circuit in a list"
        )
    masks = [mask_parts(model, circuit) for circuit in circuits]
    return measure_shares(model, clean, corrupt, metric, masks, ablation)


def trace_faithfulness(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    scores: Float[Tensor, "part"] | Integer[Tensor, "part"] | Bool[Tensor, "part"],
    ablation: Ablation = "resample",
) -> FaithfulnessCurve:
    """The faithfulness of every circuit that keeps what scores highest; one score per edge, or one per writer.

    Scores are in the order of `list_edges` or `list_writers`, and count as they are, not by their size: -1 is below 0. Parts with
    one score come in together, so scores that tell nothing apart earn nothing. The published curve has ten sizes, between 0.1% and
    all of the edges, joined by lines, and no bounds. ValueError for another number of scores, and for NaN.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch, (circuit,) = case.task.draw(64, corrupt="fresh"), case.truth.circuits["resample"].edges
    >>> oracle = mask_of(case.model, circuit)
    >>> for scores in (oracle, -oracle):
    ...     curve = trace_faithfulness(case.model, batch.clean, batch.corrupt, batch.logit_difference, scores)
    ...     print(f"CPR {curve.cpr():.2f}, CMD {curve.cmd():.2f}")
    CPR 0.83, CMD 0.17
    CPR 0.00, CMD 1.00
    """
    edges, writers = list_edges(model), list_writers(model)
    if scores.ndim != 1 or len(scores) not in (len(edges), len(writers)) or scores.isnan().any():
        given = f"{tuple(scores.shape)}" + (" with NaN" if scores.isnan().any() else "")
        raise ValueError(
            f"scores are {given}, expected a number for each of {len(edges)} edges or {len(writers)} nodes"
        )
    names = edges if len(scores) == len(edges) else writers
    kept = [scores >= level for level in scores.unique().flip(0)]
    masks = [
        mask_parts(model, [name for name, on in zip(names, row, strict=True) if on]) for row in kept
    ]
    nothing = torch.zeros(len(edges), device=model.W_E.device)
    values = measure_shares(model, clean, corrupt, metric, [nothing, *masks], ablation)
    share = values.new_tensor([0.0, *(row.sum().item() / len(row) for row in kept)])
    return FaithfulnessCurve(share, values)


@torch.no_grad()
def measure_shares(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    masks: Sequence[Float[Tensor, "edge"]],
    ablation: Ablation,
) -> Float[Tensor, "mask"]:
    """The mean metric under each mask, on the scale on which no edges give 0 and all edges give 1."""
    clean, corrupt = check_batch(clean, corrupt)
    ends = (
        torch.tensor([0.0, 1.0], device=model.W_E.device)
        .unsqueeze(1)
        .expand(2, len(list_edges(model)))
    )
    runs = run_masks(
        model, clean, torch.stack([*ends, *masks]), write_outputs(model, corrupt, ablation)
    )
    *scores, differs = tell_apart(metric, next(runs), next(runs))
    scores += [score_prompts(metric, logits) for logits in runs]
    empty, whole, *_ = values = torch.stack(scores).mean(dim=1)
    if not differs:
        told = f"the metric is {whole:.4g} for the model and {empty:.4g} without edges"
        raise ValueError(f"{told}, but it must differ, by more than rounding does, and be finite")
    return (values[2:] - empty) / (whole - empty)


def mask_parts(model: Transformer, circuit: Circuit) -> Float[Tensor, "edge"]:
    """1.0 for the edges of a circuit; a circuit of nodes has all edges between them."""
    parts, level = name_parts(model, circuit)
    if level == list_edges(model):
        return mask_of(model, parts)
    kept = {*parts, "logits"}
    ends = {edge: {end.split("<")[0] for end in edge.split("->")} for edge in list_edges(model)}
    return mask_of(model, [edge for edge in ends if ends[edge] <= kept])


def name_parts(model: Transformer, circuit: Circuit) -> tuple[list[str], list[str]]:
    """The names in a circuit, each once, and all names that the model has of their kind: edges, or nodes.

    The node `logits` is always there and is left out. A circuit without names has no edges. The names of a set, which has
    no order of its own, come in the model's.
    """
    parts = list(dict.fromkeys([circuit] if isinstance(circuit, str) else circuit))
    if len({"->" in part for part in parts}) > 1:
        raise ValueError(
            f"the circuit mixes edges and nodes ({parts[0]!r}, ...), but must name one of the two"
        )
    level = list_edges(model) if not parts or "->" in parts[0] else list_writers(model)
    parts = [part for part in parts if part != "logits"]
    if unknown := [part for part in parts if part not in level]:
        nearest = difflib.get_close_matches(unknown[0], level, n=1, cutoff=0.0)[0]
        raise KeyError(
            f"no edge or node is called {unknown[0]!r} in this model; nearest: {nearest!r}"
        )
    return sorted(parts, key=level.index) if isinstance(circuit, Set) else parts, level
