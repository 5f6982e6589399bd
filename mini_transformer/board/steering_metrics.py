"""What a steering vector does: to its target, to everything else, and over a range of strengths.

Vectors of different length are compared where their effect is the same. Damage is the KL divergence, summed over all outcomes: its
mean over a vocabulary shrinks with every token that never occurs. Sources: Turner et al. 2023 (2308.10248); Arditi et al. 2024
(2406.11717) on KL as side effect; Tan et al. 2024 (2407.12404) on steerability over strengths.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Logs = Float[Tensor, "n outcome"]
Curve = Float[Tensor, "strength"]


def measure_kl(before: Logs, after: Logs) -> float:
    """Mean over rows of sum over outcomes of p log(p / q), in nats; both as log probabilities, p is `before`.

    >>> before, after = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> round(measure_kl(before, after), 4)
    0.1438
    """
    if before.shape != after.shape or not len(before):
        raise ValueError(
            f"log probabilities are {tuple(before.shape)} and {tuple(after.shape)}, but must be alike, with rows"
        )
    p, q = before.double().log_softmax(dim=1), after.double().log_softmax(dim=1)
    terms = torch.where(p > -math.inf, p.exp() * (p - q), 0.0)
    return max(0.0, terms.sum(dim=1).mean().item())


def measure_kl_at(
    strengths: Curve, effects: Curve, damages: Curve, level: float = 0.5
) -> float | None:
    """The damage where the effect first reaches `level`, by linear interpolation between strengths; None where it never does.

    >>> strengths, effects, damages = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 0.25, 0.75]), torch.tensor([0.0, 0.1, 0.3])
    >>> round(measure_kl_at(strengths, effects, damages), 6)
    0.2
    """
    check_curves(strengths, effects, damages)
    reached = (effects >= level).nonzero()
    if not len(reached):
        return None
    after = int(reached[0])
    if after == 0:
        return damages[0].item()
    low, high = effects[after - 1].item(), effects[after].item()
    share = (level - low) / (high - low)
    return damages[after - 1].item() + share * (damages[after] - damages[after - 1]).item()


def measure_monotone_range(strengths: Curve, effects: Curve, slack: float = 1e-3) -> float:
    """Up to which strength the effect never falls by more than `slack`, as a share of the largest strength.

    >>> measure_monotone_range(torch.tensor([0.0, 1.0, 2.0, 4.0]), torch.tensor([0.0, 0.5, 0.9, 0.2]))
    0.5
    """
    check_curves(strengths, effects, effects)
    falls = (effects.diff() < -slack).nonzero()
    last = int(falls[0]) if len(falls) else len(strengths) - 1
    return (strengths[last] / strengths[-1]).item()


def measure_specificity(damage: float | None, least: float = 0.0) -> float:
    """exp(-(damage - least)), at most 1, where damage is the KL at matched effect and `least` that of the right vector; 0 without effect.

    >>> measure_specificity(0.0), measure_specificity(None)
    (1.0, 0.0)
    """
    return 0.0 if damage is None else math.exp(-max(0.0, damage - least))


def check_curves(strengths: Curve, effects: Curve, damages: Curve) -> None:
    """ValueError unless there is one value per strength, and strengths rise from 0 or more."""
    if not strengths.shape == effects.shape == damages.shape or len(strengths) < 2:
        given = [len(curve) for curve in (strengths, effects, damages)]
        raise ValueError(
            f"the curves have {given} points, but must have one per strength, at least two"
        )
    if not (strengths.diff() > 0).all() or strengths[0] < 0:
        raise ValueError(f"strengths are {strengths.tolist()}, but must rise from 0 or more")
