"""A trained edge mask: keep what the model does with as few edges as gradient descent can.

There is a switch per edge. It is drawn from a hard-concrete distribution, a stretched and clipped
sigmoid that is often exactly 0 or exactly 1 and yet has a gradient in its location. The expected
number of open switches is known in closed form, and is penalised. All edges are judged together, in
random company. So a saturated path is found, which has no gradient in the clean run.

Limits: draws without a part reward its backup, so that both may be kept; another seed may find
another circuit of equal worth; and the penalty, like ACDC's threshold, decides what is too small to
keep.
Sources: Bhaskar et al. 2024 (2406.16778), section 3; Cao et al. 2021 (2104.03514); Louizos et al.
2018 (1712.01312), section 2.
"""

import math
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    EdgeScores,
    list_edges,
    run_edges,
    run_masks,
    write_outputs,
)
from mini_transformer.methods.arguments import (
    Metric,
    Tokens,
    check_batch,
    score_prompts,
    tell_apart,
)
from mini_transformer.methods.descent import descend
from mini_transformer.methods.numerics import check_gradients, draw_uniform, widen
from mini_transformer.model import Transformer

__all__ = ["train_edge_mask"]

# Of the hard-concrete distribution (Louizos et al. 2018, section 4).
LOW, HIGH = -0.1, 1.1
TEMPERATURE = 2 / 3
START = 2.0  # a switch is then open with probability .97


def train_edge_mask(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
    penalty: float | int = 0.03,
    steps: int = 100,
    lr: float | int = 0.1,
    draws: int = 4,
    seed: int = 0,
) -> EdgeScores:
    """Train the probability that each edge is kept; the edges above 0.5 are the circuit.

    Minimised is the mean distance of the metric from the clean run's, as a share of the distance
    between the clean run and the run with all edges off, plus `penalty` times the expected number
    of edges. So an edge is kept if it is worth more than that share. Each step draws `draws` masks
    from a generator of its own. ValueError as in `patch_edges`, for a metric without a gradient or
    that does not tell the two runs apart, for options that are not positive, and under
    torch.inference_mode.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> batch = case.task.everything()
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> kept = {edge for edge, share in train_edge_mask(*runs).items() if share > 0.5}
    >>> kept == case.truth.circuits["resample"].edges[0]
    True
    """
    clean, corrupt = check_batch(clean, corrupt)
    if draws < 1 or not penalty > 0:
        raise ValueError(f"draws is {draws} and penalty {penalty}, but both must be positive")
    check_gradients(model)
    count = len(list_edges(model))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        off = write_outputs(model, corrupt, ablation)
        ends = off.new_tensor([[1.0], [0.0]]).expand(2, count)
        whole, nothing = chain.from_iterable(run_masks(model, clean, ends, off))
    goal, least, differs = tell_apart(metric, whole, nothing)
    high, low = goal.mean(), least.mean()
    if not differs:
        told = f"the metric is {high:.4g} with all edges on and {low:.4g} with all off"
        raise ValueError(f"{told}, but it must differ, by more than rounding does, and be finite")
    place = widen(off).new_full((count,), START).requires_grad_()

    def loss(step: int) -> Tensor:
        logits = run_edges(model, clean, draw_masks(place, draws, generator), off)
        distances = [(score_prompts(metric, each) - goal).abs().mean() for each in logits]
        distance = torch.stack(distances).mean()
        if not distance.requires_grad:
            fix = "use a logit difference or a probability, not an accuracy"
            raise ValueError(f"the metric has no gradient: {fix}")
        return distance / (high - low).abs() + penalty * measure_open(place).sum()

    descend(loss, [place], steps, lr)
    return EdgeScores(model, measure_open(place.detach()))


def draw_masks(
    place: Float[Tensor, "edge"], draws: int, generator: torch.Generator
) -> Float[Tensor, "draw edge"]:
    """Draw masks from the hard-concrete distribution, differentiable in its location."""
    uniform = draw_uniform(draws, len(place), generator=generator, like=place).clamp(1e-6, 1 - 1e-6)
    soft = ((uniform.logit() + place) / TEMPERATURE).sigmoid()
    return (soft * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def measure_open(place: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Return the probability that a switch drawn at this place is not 0."""
    return (place - TEMPERATURE * math.log(-LOW / HIGH)).sigmoid()
