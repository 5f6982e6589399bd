"""Hypothesis tests for circuits: is what was measured on these prompts more than chance?

Each test has an ideal, a null hypothesis and a p-value. Equivalence: circuit and model are equally
likely to score higher than the other. Independence: what is left without the circuit scores
independently of the model. Minimality: no edge of the circuit is idle.

A small p-value speaks against the null. A large one does not prove it: with few prompts nothing is
rejected, and with very many the smallest steady difference is, unless a margin allows for it.
Sources: Shi et al. 2024 (2410.13032), the idealized tests; Gretton et al. 2007, "A kernel
statistical test of independence".
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import Ablation, Edge, list_edges, mask_of, run_masks, write_outputs
from mini_transformer.methods.arguments import (
    Metric,
    Tokens,
    check_batch,
    measure_metric_rounding,
    score_prompts,
)
from mini_transformer.methods.circuits.parts import Circuit, mask_parts
from mini_transformer.methods.sites import run_in_parts
from mini_transformer.model import Transformer

__all__ = ["HypothesisTest", "assess_equivalence", "assess_independence", "assess_minimality"]

Scores = Float[np.ndarray, "prompt"]
TIE = 1e-4  # of the largest score: a smaller difference is no difference


@dataclass(frozen=True)
class HypothesisTest:
    """A null hypothesis in words, the statistic, and the probability of one as extreme.

    The probability is one under the null, and above 0, as it is in truth, also where it is too
    small for a float.
    """

    null: str
    statistic: float
    p_value: float


def assess_equivalence(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    circuit: Circuit,
    ablation: Ablation = "resample",
    margin: float | int = 0.1,
) -> HypothesisTest:
    """Assess whether circuit and model are equally likely to score higher than the other.

    Null: on prompts where they differ, the circuit scores higher with a probability within `margin`
    of 1/2. The statistic is the share of such prompts, the test a two-sided sign test with the
    least favourable probability. Prompts on which both score the same do not count, so that an
    exact circuit has p-value 1.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> (circuit,) = case.truth.circuits["resample"].edges
    >>> for tried in (circuit, circuit - {"a0.h0->a1.h0<k>"}):
    ...     assess_equivalence(*runs, tried).p_value < 0.01
    False
    True
    """
    from scipy.stats import binom

    if not 0 <= margin < 0.5:
        fits = "from 0 to below 0.5: how far from 1/2 is still equivalent"
        raise ValueError(f"margin is {margin}, but must be {fits}")
    mask = mask_parts(model, circuit)
    ours, whole = compare_runs(model, clean, corrupt, metric, [mask], ablation)
    difference = ours - whole
    different = np.abs(difference) > TIE * np.abs(whole).max()
    n = int(different.sum())
    wins = int((difference[different] > 0).sum())
    fewer = min(wins, n - wins)  # as far from n / 2 as what was seen, on either side
    p_value = binom.cdf(fewer, n, 0.5 + margin) + binom.sf(n - fewer - 1, n, 0.5 + margin)
    null = f"circuit and model are equally likely (within {margin}) to score higher than the other"
    return HypothesisTest(null, wins / n if n else 0.5, bound_probability(p_value))


def assess_independence(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    circuit: Circuit,
    ablation: Ablation = "resample",
    permutations: int = 999,
    seed: int = 0,
) -> HypothesisTest:
    """Assess whether the score without the circuit still says something of the model's score.

    Null: over prompts, the two are independent. Without the circuit its edges carry ablated values,
    and all others are on. The statistic is the Hilbert-Schmidt independence criterion with Gaussian
    kernels one standard deviation wide; its p-value comes from permuting prompts. Scores that are
    the same for all prompts are independent of anything (p-value 1): use a metric that varies.
    Where corrupt prompts were drawn to differ from the clean ones, "resample" brings in a
    dependence of its own; "mean" and "zero" do not.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_redundant_or")
    >>> batch = case.task.draw(32)
    >>> runs = case.model, batch.clean, batch.corrupt, lambda logits: logits[:, -1, 1]
    >>> for circuit in (["input->a0.h0<v>", "input->a0.h1<v>"], ["input->a0.h0<v>"]):
    ...     assess_independence(*runs, circuit, "zero", permutations=99).p_value < 0.05
    False
    True

    In the first case what is left hears x and y no more, in the second it still hears y.
    """
    from scipy.stats import permutation_test

    if permutations < 1:
        raise ValueError(f"permutations is {permutations}, but must be at least 1")
    mask = 1 - mask_parts(model, circuit)
    rest, whole = compare_runs(model, clean, corrupt, metric, [mask], ablation)
    null = "without the circuit, the score is independent of the model's"
    if any(np.ptp(scores) <= TIE * np.abs(scores).max() for scores in (rest, whole)):
        return HypothesisTest(null, 0.0, 1.0)
    one, other = (centre_kernel(scores) for scores in (rest, whole))

    def pair(order: np.ndarray) -> float:
        criterion = (one[np.ix_(order, order)] * other).sum() / len(order) ** 2
        return round(float(criterion), 12)  # so that ties are ties

    found = permutation_test(
        (np.arange(len(rest)),),
        pair,
        permutation_type="pairings",
        vectorized=False,
        n_resamples=permutations,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return HypothesisTest(null, float(found.statistic), bound_probability(found.pvalue))


@torch.no_grad()
def compare_runs(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    masks: Sequence[Tensor],
    ablation: Ablation,
) -> list[Scores]:
    """Score every prompt under each mask and, last, with all edges on.

    Rounding is taken out of the scores. ValueError for less than two prompts, and for scores that
    are not finite.
    """
    if len(clean) < 2:
        given = f"there are {len(clean)} prompts"
        raise ValueError(f"{given}, but a test over prompts needs at least 2")
    clean, corrupt = check_batch(clean, corrupt)
    all_masks = torch.stack([*masks, torch.ones(len(list_edges(model)), device=model.W_E.device)])
    off = write_outputs(model, corrupt, ablation)
    runs = chain.from_iterable(run_masks(model, clean, all_masks, off))
    scores = torch.stack([score_prompts(metric, logits) for logits in runs])
    if not scores.isfinite().all():
        raise ValueError(
            "the metric is not finite for some prompt, "
            "but scores that are to be compared must be numbers"
        )
    rounding = measure_metric_rounding(metric, run_in_parts(model, clean)).max()
    return list(drop_rounding(scores, rounding).double().cpu().numpy())


def drop_rounding(
    scores: Float[Tensor, "run prompt"], rounding: Float[Tensor, ""]
) -> Float[Tensor, "run prompt"]:
    """Make scores the same where they differ by no more than rounding.

    That is the scores of one run among each other, and those of any run and the last.
    """
    varies = scores.amax(dim=1, keepdim=True) - scores.amin(dim=1, keepdim=True) > rounding
    scores = torch.where(varies, scores, scores.mean(dim=1, keepdim=True))
    return torch.where((scores - scores[-1]).abs() > rounding, scores, scores[-1])


def bound_probability(p_value: float) -> float:
    """Keep a p-value above 0 and at most 1, which sums of rounded numbers may leave."""
    return min(1.0, max(sys.float_info.min, float(p_value)))


def centre_kernel(scores: Scores) -> Float[np.ndarray, "prompt prompt"]:
    """Compute Gaussian similarities of scores, centred in rows and columns.

    The Gaussian is one standard deviation wide.
    """
    kernel = np.exp(-((scores[:, None] - scores) ** 2) / (2 * scores.var()))
    return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()


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
    """Assess, for each edge of a circuit, whether it is idle: then the circuit is not minimal.

    Null: the loss of the edge changes the score by more than that of a random added edge, with
    probability `quantile` or more. Where this is rejected, the edge is idle. The reference: a
    random edge outside the circuit comes in with a random path through it from `input` to `logits`,
    and is taken out again. The change is the mean of its size over prompts; the statistic, the
    share of `draws` that it exceeds. One-sided binomial test, p-values times the number of edges
    (Bonferroni). A circuit of nodes is tested edge by edge. ValueError for fewer than two prompts,
    and for a circuit without edges or with all of them.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(32, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> (circuit,) = case.truth.circuits["resample"].edges
    >>> tests = assess_minimality(*runs, circuit | {"a0.h1->logits"})
    >>> [edge for edge, found in tests.items() if found.p_value < 0.01]
    ['a0.h1->logits']
    """
    from scipy.stats import binomtest

    if draws < 1 or not 0 < quantile < 1:
        given = f"draws and quantile are {draws} and {quantile}"
        raise ValueError(f"{given}, but must be at least 1 and between 0 and 1")
    ours = mask_parts(model, circuit)
    edges = [edge for edge, on in zip(list_edges(model), ours, strict=True) if on]
    added = draw_paths(model, edges, draws, np.random.default_rng(seed))
    full = [(ours + mask_of(model, path)).clamp(max=1) for path in added]
    without = [mask - mask_of(model, [path[0]]) for mask, path in zip(full, added, strict=True)]
    cut = [ours - mask_of(model, [edge]) for edge in edges]
    masks = [ours, *full, *without, *cut]
    start, *scores, _ = compare_runs(model, clean, corrupt, metric, masks, ablation)
    reference = mean_size(np.array(scores[draws : 2 * draws]) - np.array(scores[:draws]))
    changes = mean_size(np.array(scores[2 * draws :]) - start)
    rounding = TIE * np.abs(start).max()
    found = dict[str, HypothesisTest]()
    for edge, change in zip(edges, changes, strict=True):
        exceeds = int((change > reference + rounding).sum())
        p_value = binomtest(exceeds, draws, quantile, alternative="less").pvalue
        more = "by more than that of a random added edge"
        null = f"the loss of {edge} changes the score {more}, {quantile} of the time"
        found[edge] = HypothesisTest(null, exceeds / draws, bound_probability(p_value * len(edges)))
    return found


def mean_size(changes: Float[np.ndarray, "change prompt"]) -> Float[np.ndarray, "change"]:
    return np.abs(changes).mean(axis=1)


def draw_paths(
    model: Transformer, circuit: list[str], draws: int, generator: np.random.Generator
) -> list[tuple[str, ...]]:
    """Draw random edges outside the circuit, each followed by the rest of a path through it.

    The path is random, too, and goes from the input to the logits.
    """
    edges = list_edges(model)
    ends = {edge: tuple(map(str, Edge.parse(edge)[:2])) for edge in edges}
    outside = [edge for edge in edges if edge not in circuit]
    if not circuit or not outside:
        given = f"the circuit has {len(circuit)} of {len(edges)} edges"
        raise ValueError(f"{given}, but some must be in and some out")

    def choose(among: Iterable[str]) -> str:
        return str(generator.choice(list(among)))

    def walk(first: str) -> tuple[str, ...]:
        path = [first]
        writer, reader = ends[first]
        while writer != "input":
            path.append(choose(edge for edge in edges if ends[edge][1] == writer))
            writer = ends[path[-1]][0]
        while reader != "logits":
            path.append(choose(edge for edge in edges if ends[edge][0] == reader))
            reader = ends[path[-1]][1]
        return tuple(path)

    return [walk(choose(outside)) for _ in range(draws)]
