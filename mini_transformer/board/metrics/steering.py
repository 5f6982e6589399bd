"""What a steering vector does to its target and to everything else, by strength.

Vectors of different length are compared where their effect is the same. Damage is the KL
divergence, summed over all outcomes: its mean over a vocabulary shrinks with every token that never
occurs.

Sources: Turner et al. 2023 (2308.10248); Arditi et al. 2024 (2406.11717) on KL as side effect; Tan
et al. 2024 (2407.12404) on steerability over strengths.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["measure_kl", "measure_kl_at", "measure_specificity"]

Logs = Float[Tensor, "n outcome"]
Curve = Float[Tensor, "strength"]


def measure_kl(before: Logs, after: Logs) -> float:
    """Measure the mean over rows of the sum over outcomes of p log(p / q), in nats.

    Both are log probabilities; p is `before`.

    >>> before, after = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> round(measure_kl(before, after), 4)
    0.1438
    """
    if before.shape != after.shape or not len(before):
        raise ValueError(
            f"log probabilities are {tuple(before.shape)} and {tuple(after.shape)}, "
            "but must be alike, with rows"
        )
    p, q = (logs.double().log_softmax(dim=1) for logs in (before, after))
    terms = torch.where(p > -math.inf, p.exp() * (p - q), 0.0)
    return max(0.0, terms.sum(dim=1).mean().item())


def measure_kl_at(
    strengths: Curve, effects: Curve, damages: Curve, level: float = 0.5
) -> float | None:
    """Measure the damage where the effect first reaches `level`.

    The value is interpolated linearly between strengths; None if the level is never reached.

    >>> strengths, effects = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 0.25, 0.75])
    >>> round(measure_kl_at(strengths, effects, torch.tensor([0.0, 0.1, 0.3])), 6)
    0.2
    """
    check_curves(strengths, effects, damages)
    reached = (effects >= level).nonzero()
    if not len(reached):
        return None
    after = int(reached[0])
    if after == 0:
        return damages[0].item()
    low = effects[after - 1].item()
    high = effects[after].item()
    share = (level - low) / (high - low)
    return damages[after - 1].item() + share * (damages[after] - damages[after - 1]).item()


def measure_specificity(damage: float | None) -> float:
    """Return exp(-damage), the KL at matched effect; 0 if there is no effect.

    >>> measure_specificity(0.0), measure_specificity(None)
    (1.0, 0.0)
    """
    return 0.0 if damage is None else math.exp(-damage)


def check_curves(strengths: Curve, effects: Curve, damages: Curve) -> None:
    """Raise ValueError unless each strength has one value, and strengths rise from 0 or more."""
    if not strengths.shape == effects.shape == damages.shape or len(strengths) < 2:
        given = [len(curve) for curve in (strengths, effects, damages)]
        raise ValueError(
            f"the curves have {given} points, but must have one per strength, at least two"
        )
    if not (strengths.diff() > 0).all() or strengths[0] < 0:
        raise ValueError(f"strengths are {strengths.tolist()}, but must rise from 0 or more")
