"""How close a subspace is to the true one, and whether a swap moves its variable only.

Behaviour alone can mislead: a subspace that joins a direction nobody writes with one that nobody
reads can move an answer (Makelov et al. 2023, 2311.17030). So the angles belong beside the
behaviour.

Sources: Bjorck & Golub 1973 (Mathematics of Computation 27, 579) on principal angles; Huang et al.
2024 (2402.17700, RAVEL) on cause and isolation.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["find_basis", "measure_largest_angle", "measure_overlap", "share_right"]

Rows = Float[Tensor, "_dim d"]


def measure_overlap(found: Rows, truth: Rows) -> float:
    """Sum the squared cosines of the principal angles, over the larger of both dimensions.

    1 means the same subspace. Rows may depend on each other. A random subspace of the same
    dimension k gives k / d on average; directions too many cost, too.

    >>> measure_overlap(torch.eye(4)[:1], torch.eye(4)[:2])
    0.5
    >>> measure_overlap(torch.eye(4)[:2], torch.tensor([[1.0, 1, 0, 0], [1, -1, 0, 0]]))
    1.0
    """
    own = find_basis(found)
    other = find_basis(truth)
    if own.shape[1] != other.shape[1]:
        raise ValueError(
            f"the subspace has width {own.shape[1]}, but the true one has {other.shape[1]}"
        )
    shared = (own @ other.T).square().sum().item() / max(len(own), len(other), 1)
    return round(shared, 9)  # float noise does not make the right answer better than perfect


def measure_largest_angle(found: Rows, truth: Rows) -> float:
    """Measure the largest principal angle in degrees.

    0 if one subspace holds the other, 90 if some direction is missed altogether.

    >>> round(measure_largest_angle(torch.tensor([[1.0, 1.0, 0.0]]), torch.eye(3)[:1]), 3)
    45.0
    """
    from scipy.linalg import subspace_angles

    own = find_basis(found)
    other = find_basis(truth)
    if not len(own) or not len(other):
        return 90.0
    return math.degrees(subspace_angles(own.T.numpy(), other.T.numpy()).max())


def find_basis(rows: Rows) -> Float[Tensor, "rank d"]:
    """Find orthonormal rows with the same span, in double precision.

    Directions below a thousandth of the largest do not count.
    """
    if not rows.isfinite().all():
        raise ValueError("some directions are not finite: give numbers for all")
    if not rows.numel():
        return rows.detach().double()
    _, sizes, basis = torch.linalg.svd(rows.detach().double(), full_matrices=False)
    return basis[sizes > 1e-3 * sizes.amax()]


def share_right(
    predicted: Int[Tensor, "pair"], answers: Int[Tensor, "pair"], same: Bool[Tensor, "pair"]
) -> dict[str, float]:
    """Measure cause, isolation, their mean, and the share of all pairs (interchange accuracy).

    If the source differs in the variable (`same` is False), its value must arrive: cause. If it
    differs in other things only, nothing may: isolation. `answers` are the counterfactual ones.
    Raise ValueError unless there are pairs of both sorts.

    >>> predicted, answers = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 0])
    >>> share_right(predicted, answers, torch.tensor([False, False, True, True]))
    {'interchange': 0.75, 'cause': 1.0, 'isolation': 0.5, 'cause_and_isolation': 0.75}
    """
    right = (predicted == answers).double()
    if not same.any() or same.all():
        raise ValueError(
            f"{int(same.sum())} of {len(same)} pairs share the variable, "
            "but pairs of both sorts are needed"
        )
    cause = right[~same].mean().item()
    isolation = right[same].mean().item()
    return {
        "interchange": right.mean().item(),
        "cause": cause,
        "isolation": isolation,
        "cause_and_isolation": (cause + isolation) / 2,
    }
