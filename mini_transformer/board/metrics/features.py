"""How well a dictionary finds the features that were planted.

It is judged from the true features, from the learned ones, and by its codes. A dictionary with a
high explained variance can hold the wrong directions, and one whose every direction is a true one
can miss most of them, so each side is counted. True features and latents are matched one to one
(the Hungarian method, Kuhn 1955) by the cosine of their directions. A cosine has a sign: a latent
that points the other way writes the opposite.

Sources: Sharkey et al. 2022 (mean max cosine similarity); Hyvarinen & Morioka 2016 (1605.06336,
mean correlation coefficient); Gao et al. 2024 (2406.04093) on dead latents; Wright & Sharkey 2024
on shrinkage; Chanin et al. 2024 (2409.14507) on absorption.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["CARRIES", "FOUND", "explain_variance", "match_latents", "score_features"]

Directions = Float[Tensor, "feature d"]
Latents = Float[Tensor, "latent d"]
TrueCodes = Float[Tensor, "n feature"]
Codes = Float[Tensor, "n latent"]
Cosines = Float[Tensor, "feature latent"]
Match = Int[Tensor, "feature"]

FOUND = 0.9  # a direction counts as found from this cosine on
# A latent carries a feature from this cosine on. Two planted features meet at .18, and a latent
# that is half of each has .71 with both.
CARRIES = 0.4


def score_features(
    directions: Directions,
    true_codes: TrueCodes,
    latents: Latents,
    codes: Codes,
    entails: tuple[tuple[int, int], ...] = (),
    correlated: tuple[tuple[int, int], ...] = (),
) -> dict[str, float]:
    """Measure all figures of this file but the explained variance.

    `codes` are those of rows whose true codes are known. `entails` holds (child, parent) features;
    without any there is no `absorption`. `correlated` holds pairs; without any there is no
    `hedging`. Raise ValueError for shapes that do not fit.

    >>> axes = torch.eye(3)
    >>> true_codes = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [2.0, 1.0, 0.0]])
    >>> perfect = score_features(axes, true_codes, axes.flip(0), true_codes.flip(1))
    >>> [perfect[name] for name in ("f1", "mmcs", "mcc", "shrinkage")]
    [1.0, 1.0, 1.0, 0.0]
    """
    check_codes(directions, true_codes, latents, codes)
    cosines = normalize(directions) @ normalize(latents).T
    alive = (codes > 0).any(dim=0)
    match = match_latents(cosines)
    scaled = codes * latents.norm(dim=1)
    metrics = {
        **measure_recovery(cosines, alive, match),
        **measure_classification(true_codes, codes, cosines, match),
        "mmcs": measure_mmcs(cosines),
        "mcc": measure_correlation(true_codes, codes),
        "uniqueness": measure_uniqueness(cosines, alive),
        "l0": (codes > 0).sum(dim=1).float().mean().item(),
        "dead": 1 - alive.float().mean().item(),
        "shrinkage": measure_shrinkage(true_codes, scaled, match),
    }
    if entails:
        metrics["absorption"] = measure_absorption(true_codes, codes, cosines, match, entails)
    if correlated:
        first, second = (cosines[list(one)] >= CARRIES for one in zip(*correlated, strict=True))
        metrics["hedging"] = ((first & second).any(dim=0) & alive).float().mean().item()
    return metrics


def match_latents(likeness: Cosines) -> Match:
    """Give each feature a latent of its own, so that the sum of likenesses is largest.

    Features that go without have -1.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(likeness.numpy(), maximize=True)
    match = torch.full((len(likeness),), -1)
    match[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return match


def measure_recovery(cosines: Cosines, alive: Tensor, match: Match) -> dict[str, float]:
    """Measure recall, precision and F1 of features found.

    A feature is found if its own latent is alive and has cosine .9. Recall is their share of the
    true features, precision that of the live latents.

    >>> cosines = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])  # one three times, one missing
    >>> measure_recovery(cosines, torch.tensor([True] * 3), torch.tensor([0, 1]))["recall"]
    0.5
    """
    own = torch.where(match >= 0, cosines[torch.arange(len(match)), match], -1.0)
    found = int(((own > FOUND) & alive[match]).sum())
    n_alive = max(int(alive.sum()), 1)
    return {
        "recall": found / len(match),
        "precision": found / n_alive,
        "f1": 2 * found / (len(match) + n_alive),
    }


def measure_classification(
    true_codes: TrueCodes, codes: Codes, cosines: Cosines, match: Match
) -> dict[str, float]:
    """Measure latents as classifiers: active where a feature is.

    `classification` is the F1 of each matched latent, summed and divided by how many there can be:
    as many as features, or as latents if these are fewer. `nearest_f1` is the mean over latents
    with the feature nearest to each, as published (Chanin et al. 2026, 2602.14687): there copies of
    one good latent cost nothing. `probing` is the mean over features of the best F1 of any latent,
    whatever its direction: what a probe of one latent would find.
    """
    active, on = (true_codes > 0).double(), (codes > 0).double()
    sizes = active.sum(dim=0)[:, None] + on.sum(dim=0)
    f1 = 2 * (active.T @ on) / sizes.clamp(min=1)
    own = f1[torch.arange(len(match)), match][match >= 0]
    nearest = f1[cosines.argmax(dim=0), torch.arange(len(cosines.T))]
    return {
        "classification": own.sum().item() / min(f1.shape),
        "nearest_f1": nearest.mean().item(),
        "probing": f1.amax(dim=1).mean().item(),
    }


def measure_mmcs(cosines: Cosines) -> float:
    """Average over the true features the highest cosine with any latent.

    What is missing costs, what is superfluous does not.
    """
    return cosines.amax(dim=1).mean().item()


def measure_correlation(true_codes: TrueCodes, codes: Codes) -> float:
    """Measure MCC: the mean Pearson correlation of each true code with that of its latent.

    Latents are matched one to one by correlation. A feature without a latent, and a code that never
    varies, count 0.
    """
    x, y = (normalize(z.double() - z.double().mean(dim=0), dim=0) for z in (true_codes, codes))
    correlations = x.T @ y
    match = match_latents(correlations)
    own = torch.where(match >= 0, correlations[torch.arange(len(match)), match], 0.0)
    return own.mean().item()


def measure_uniqueness(cosines: Cosines, alive: Tensor) -> float:
    """Count the different true features nearest to live latents, per live latent.

    1 means that no two latents share one.
    """
    nearest = cosines.argmax(dim=0)[alive]
    return len(nearest.unique()) / max(len(nearest), 1)


def measure_shrinkage(true_codes: TrueCodes, scaled: Codes, match: Match) -> float:
    """Average 1 - slope over features: how much too small the latents' contributions are.

    The slope is that of the least-squares line of the latent's contribution on the true code, where
    that is active. 0 is right, .2 means a fifth too small, 1 that nothing is found; negative is too
    large.
    """
    own = torch.where(match >= 0, scaled[:, match], 0.0)
    active = true_codes > 0
    slope = (own * true_codes * active).sum(dim=0) / true_codes.square().sum(dim=0).clamp(min=1e-9)
    return 1 - slope[active.any(dim=0)].mean().item()


def measure_absorption(
    true_codes: TrueCodes,
    codes: Codes,
    cosines: Cosines,
    match: Match,
    entails: tuple[tuple[int, int], ...],
) -> float:
    """Measure how often a child's latent carries the parent, whose own latent is silent.

    This is a share of the rows in which the child is active, averaged over (child, parent). The
    child's latent carries the parent if it is active, and its direction has cosine .4 or more with
    the parent.
    """
    shares = []
    for child, parent in entails:
        rows = codes[true_codes[:, child] > 0]
        own = int(match[child])
        other = int(match[parent])
        if not len(rows) or own < 0 or other < 0:
            shares.append(0.0)
            continue
        absorbed = (rows[:, other] <= 0) & (rows[:, own] > 0) & (cosines[parent, own] >= CARRIES)
        shares.append(absorbed.float().mean().item())
    return sum(shares) / len(shares)


def explain_variance(activations: Float[Tensor, "n d"], rebuilt: Float[Tensor, "n d"]) -> float:
    """Measure 1 - squared error / variance, over all axes together."""
    error = activations - rebuilt
    variance = activations - activations.mean(dim=0)
    return 1 - (error.square().sum() / variance.square().sum()).item()


def check_codes(directions: Tensor, true_codes: Tensor, latents: Tensor, codes: Tensor) -> None:
    """Raise ValueError unless directions and codes belong together."""
    if directions.shape[1] != latents.shape[1]:
        raise ValueError(
            f"latents have width {latents.shape[1]}, "
            f"but the true directions have {directions.shape[1]}"
        )
    expected = (len(true_codes), len(latents))
    if codes.shape != expected or true_codes.shape[1] != len(directions) or not len(codes):
        raise ValueError(
            f"codes are {tuple(codes.shape)}, but must be {expected}: "
            "one row per activation, one column per latent"
        )
    if not codes.isfinite().all() or not latents.isfinite().all():
        raise ValueError("some codes or directions are not finite: give numbers for all")
