"""Hypothesis tests for circuits: is what was measured on these prompts more than chance?

Two ideals, each with a null hypothesis and a p-value. Equivalence: circuit and model are equally likely to score higher than
the other. Independence: what is left without the circuit scores independently of the model. (The third, minimality, is in
`circuit_redundancy`.) A small p-value speaks against the ideal. A large one does not prove it: with few prompts nothing
is rejected, and with very many the smallest steady difference is, unless a margin allows for it.
Sources: Shi et al. 2024 (2410.13032), the idealized tests; Gretton et al. 2007, "A kernel statistical test of independence".

Checked against: binomial sums and kernel matrices in loops, simulated scores for which the null holds, and the
enumerated circuits of hand-set models.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.edges import Ablation, list_edges, write_outputs
from mini_transformer.methods.circuit_evaluation import Circuit, mask_parts
from mini_transformer.methods.patching import Metric, measure_metric_rounding, score_prompts
from mini_transformer.methods.path_patching import check_batch, run_masks
from mini_transformer.methods.sites import run_in_parts
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Scores = Float[np.ndarray, "prompt"]
TIE = 1e-4  # of the largest score: a smaller difference is no difference


@dataclass(frozen=True)
class HypothesisTest:
    """A null hypothesis in words, the statistic that was observed, and how probable one as extreme is under the null.

    The probability is above 0, as it is in truth, also where it is too small for a float.
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
    """Null: where they differ, the circuit scores higher than the model with a probability within `margin` of 1/2.

    The statistic is the share of such prompts, the test a two-sided sign test with the least favourable probability.
    Prompts on which both score the same do not count, so that an exact circuit has p-value 1.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch, (circuit,) = case.task.draw(64, corrupt="fresh"), case.truth.circuits["resample"].edges
    >>> for tried in (circuit, circuit - {"a0.h0->a1.h0<k>"}):
    ...     found = assess_equivalence(case.model, batch.clean, batch.corrupt, batch.logit_difference, tried)
    ...     print(found.p_value < 0.01)
    False
    True
    """
    from scipy.stats import binom

    if not 0 <= margin < 0.5:
        raise ValueError(
            f"margin is {margin}, but must be from 0 to below 0.5: how far from 1/2 is still equivalent"
        )
    ours, whole = compare_runs(
        model, clean, corrupt, metric, [mask_parts(model, circuit)], ablation
    )
    difference = ours - whole
    different = np.abs(difference) > TIE * np.abs(whole).max()
    n, wins = int(different.sum()), int((difference[different] > 0).sum())
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
    """Null: over prompts, the score without the circuit is independent of the model's score.

    Without: the circuit's edges carry ablated values, all others are on. The statistic is the Hilbert-Schmidt independence
    criterion with Gaussian kernels one standard deviation wide; its p-value comes from permuting prompts. Scores
    that are the same for all prompts are independent of anything (p-value 1): use a metric that varies. Where corrupt
    prompts were drawn to differ from the clean ones, "resample" brings in a dependence of its own; "mean" and "zero" do not.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_redundant_or")
    >>> batch = case.task.draw(32)
    >>> for heads in (["a0.h0", "a0.h1"], ["a0.h0"]):
    ...     circuit = [f"input->{head}<v>" for head in heads]
    ...     found = assess_independence(
    ...         case.model, batch.clean, batch.corrupt, lambda logits: logits[:, -1, 1], circuit, "zero", 99
    ...     )
    ...     print(found.p_value < 0.05)  # what is left hears x and y no more; or still hears y
    False
    True
    """
    from scipy.stats import permutation_test

    if permutations < 1:
        raise ValueError(f"permutations is {permutations}, but must be at least 1")
    rest, whole = compare_runs(
        model, clean, corrupt, metric, [1 - mask_parts(model, circuit)], ablation
    )
    null = "without the circuit, the score is independent of the model's"
    if any(np.ptp(scores) <= TIE * np.abs(scores).max() for scores in (rest, whole)):
        return HypothesisTest(null, 0.0, 1.0)
    one, other = (centre_kernel(scores) for scores in (rest, whole))

    def pair(order: np.ndarray) -> float:
        return round(
            float((one[np.ix_(order, order)] * other).sum() / len(order) ** 2), 12
        )  # so that ties are ties

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
    """The score of every prompt under each mask and, last, with all edges on; rounding is taken out of them.

    ValueError for less than two prompts, and for scores that are not finite.
    """
    if len(clean) < 2:
        raise ValueError(
            f"there are {len(clean)} prompts, but a test over prompts needs at least 2"
        )
    clean, corrupt = check_batch(clean, corrupt)
    all_masks = torch.stack([*masks, torch.ones(len(list_edges(model)), device=model.W_E.device)])
    runs = run_masks(model, clean, all_masks, write_outputs(model, corrupt, ablation))
    scores = torch.stack([score_prompts(metric, logits) for logits in runs])
    if not scores.isfinite().all():
        raise ValueError(
            "the metric is not finite for some prompt, but scores that are to be compared must be numbers"
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
    """Gaussian similarities of scores, one standard deviation wide, with the mean of each row and column taken out."""
    kernel = np.exp(-((scores[:, None] - scores) ** 2) / (2 * scores.var()))
    return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()
