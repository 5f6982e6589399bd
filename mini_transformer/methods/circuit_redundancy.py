"""A hypothesis test for minimality: does every edge of a circuit matter more than an edge that was added at random?

Taking an edge out nearly always changes something. How much is nothing? The reference is the same circuit inflated by a
random path, of which one edge is taken out again. An edge that does not beat most of these is idle. What two edges do
for each other is not seen: of two that carry the same, each alone looks idle (`circuit_knockouts` takes out sets).
Sources: Shi et al. 2024 (2410.13032), the idealized tests.

Checked against: one run per edge and path and binomial sums in loops, and the enumerated circuits of hand-set models
with idle edges added.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.edges import Ablation, list_edges, mask_of
from mini_transformer.methods.circuit_evaluation import Circuit, mask_parts
from mini_transformer.methods.circuit_tests import (
    TIE,
    HypothesisTest,
    bound_probability,
    compare_runs,
)
from mini_transformer.methods.patching import Metric
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]


def assess_minimality(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    circuit: Circuit,
    ablation: Ablation = "resample",
    draws: int = 100,
    quantile: float | int = 0.9,
    seed: int = 0,
) -> dict[str, HypothesisTest]:
    """Per edge, null: its loss changes the score by more than that of a random added edge, with probability `quantile` or more.

    Where this is rejected, the edge is idle and the circuit not minimal. The reference: a random edge outside the circuit
    comes in with a random path through it from `input` to `logits`, and is taken out again. The change is the mean of
    its size over prompts; the statistic, the share of `draws` that it exceeds. One-sided binomial test, p-values
    times the number of edges (Bonferroni). A circuit of nodes is tested edge by edge. ValueError for fewer than two
    prompts, and for a circuit without edges or with all of them.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch, (circuit,) = case.task.draw(32, corrupt="fresh"), case.truth.circuits["resample"].edges
    >>> padded = circuit | {"a0.h1->logits"}
    >>> tests = assess_minimality(case.model, batch.clean, batch.corrupt, batch.logit_difference, padded)
    >>> [edge for edge, found in tests.items() if found.p_value < 0.01]
    ['a0.h1->logits']
    """
    from scipy.stats import binomtest

    if draws < 1 or not 0 < quantile < 1:
        raise ValueError(
            f"draws and quantile are {draws} and {quantile}, but must be at least 1 and between 0 and 1"
        )
    ours = mask_parts(model, circuit)
    edges = [edge for edge, on in zip(list_edges(model), ours, strict=True) if on]
    added = draw_paths(model, edges, draws, np.random.default_rng(seed))
    full = [(ours + mask_of(model, path)).clamp(max=1) for path in added]
    without = [mask - mask_of(model, [path[0]]) for mask, path in zip(full, added, strict=True)]
    cut = [ours - mask_of(model, [edge]) for edge in edges]
    start, *scores = compare_runs(
        model, clean, corrupt, metric, [ours, *full, *without, *cut], ablation
    )[:-1]
    reference = mean_size(np.array(scores[draws : 2 * draws]) - np.array(scores[:draws]))
    rounding, found = TIE * np.abs(start).max(), {}
    for edge, change in zip(edges, mean_size(np.array(scores[2 * draws :]) - start), strict=True):
        exceeds = int((change > reference + rounding).sum())
        p_value = binomtest(exceeds, draws, quantile, alternative="less").pvalue
        null = f"the loss of {edge} changes the score by more than that of a random added edge, {quantile} of the time"
        found[edge] = HypothesisTest(null, exceeds / draws, bound_probability(p_value * len(edges)))
    return found


def mean_size(changes: Float[np.ndarray, "change prompt"]) -> Float[np.ndarray, "change"]:
    return np.abs(changes).mean(axis=1)


def draw_paths(
    model: Transformer, circuit: list[str], draws: int, generator: np.random.Generator
) -> list[tuple[str, ...]]:
    """Random edges outside the circuit, each followed by the rest of a random path through it from input to logits."""
    edges = list_edges(model)
    ends = {edge: (edge.split("->")[0], edge.split("->")[1].split("<")[0]) for edge in edges}
    outside = [edge for edge in edges if edge not in circuit]
    if not circuit or not outside:
        raise ValueError(
            f"the circuit has {len(circuit)} of {len(edges)} edges, but some must be in and some out"
        )

    def choose(among: Iterable[str]) -> str:
        return str(generator.choice(list(among)))

    def walk(first: str) -> tuple[str, ...]:
        path, (writer, reader) = [first], ends[first]
        while writer != "input":
            path.append(choose(edge for edge in edges if ends[edge][1] == writer))
            writer = ends[path[-1]][0]
        while reader != "logits":
            path.append(choose(edge for edge in edges if ends[edge][0] == reader))
            reader = ends[path[-1]][1]
        return tuple(path)

    return [walk(choose(outside)) for _ in range(draws)]
