"""Methods that find features: the package's dictionaries; and trivial ones to beat."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer import methods
from mini_transformer.board.problem import Method
from mini_transformer.methods import PursuitDictionary

__all__ = ["BUDGET", "ENTRANTS", "REFERENCES", "SETTINGS"]

# Chosen from six values each by the mean of the headline over three problems of tuning model 0
# (`tests/bench/bench_features.py tune`), with the same steps and batches for all.
SETTINGS: dict[str, dict[str, Any]] = {
    "matryoshka": {"k": 3},
    "batchtopk": {"k": 3},
    "topk": {"k": 3},
    "jumprelu": {"penalty": 0.16},
    "gated": {"penalty": 0.8},
    "l1": {"penalty": 0.4},
}
BUDGET: dict[str, Any] = {"steps": 1000, "batch": 256}
K = 3  # codes per row of trivial dictionaries
NEAR = 0.5  # cosine from which on two directions count as one

ENTRANTS: dict[str, Method] = {
    **{
        f"sae_{name}": functools.partial(
            methods.train_dictionary, architecture=name, **setting, **BUDGET
        )
        for name, setting in SETTINGS.items()
    },
    "matching_pursuit": functools.partial(methods.train_pursuit, k=3, **BUDGET),
}


def point_along(find: Callable[[Tensor, int], Tensor]) -> Method:
    """Make a dictionary of the directions that are found in centred activations.

    Codes are found by matching pursuit.
    """

    def answer(activations: Tensor, n_features: int) -> PursuitDictionary:
        mean = activations.mean(dim=0)
        rows = find(activations - mean, n_features)[:n_features]
        return PursuitDictionary(normalize(rows, dim=1), mean, K)

    return answer


def find_smallest_points(x: Tensor, n: int) -> Tensor:
    """Return the shortest activations, without near copies; the very shortest are noise.

    A row with one active feature is that feature, but for noise.
    """
    return drop_copies(x[x.norm(dim=1).argsort()[len(x) // 4 :]], n)


def find_dense_rays(x: Tensor, n: int) -> Tensor:
    """Return the directions in which most activations lie, without near copies."""
    rows = normalize(x[:2000], dim=1)
    crowd = (rows @ rows.T).clamp(min=0).pow(16).sum(dim=1)
    return drop_copies(rows[crowd.argsort(descending=True)], n)


def find_cluster_centres(x: Tensor, n: int) -> Tensor:
    """Return the centres of clusters of directions (spherical k-means, 20 rounds)."""
    rows = normalize(x, dim=1)
    centres = rows[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]]
    for _ in range(20):
        own = (rows @ centres.T).argmax(dim=1)
        centres = normalize(torch.zeros_like(centres).index_add(0, own, x), dim=1)
    return centres


def find_principal_axes(x: Tensor, n: int) -> Tensor:
    """Return principal axes in both signs. This knows no sparsity."""
    axes = torch.linalg.svd(x, full_matrices=False).Vh
    return torch.cat([axes, -axes])


def find_independent_axes(x: Tensor, n: int) -> Tensor:
    """Return independent components in both signs (FastICA, Hyvarinen & Oja 2000)."""
    from sklearn.decomposition import FastICA

    ica = FastICA(min(n, x.shape[1]), random_state=0, tol=1e-2, max_iter=50, whiten="unit-variance")
    axes = torch.from_numpy(ica.fit(x.numpy()).mixing_.T).to(x)
    return torch.cat([axes, -axes])


def find_coordinate_axes(x: Tensor, n: int) -> Tensor:
    """Return the coordinate axes in both signs."""
    axes = torch.eye(x.shape[1])
    return torch.cat([axes, -axes])


def draw_directions(x: Tensor, n: int) -> Tensor:
    """Return random directions, a decoder that is never trained."""
    return torch.randn(n, x.shape[1], generator=torch.Generator().manual_seed(0))


def drop_copies(rows: Tensor, n: int) -> Tensor:
    """Return the first `n` directions of which none is near one before it."""
    rows = normalize(rows, dim=1)
    kept = rows[:1]
    for row in rows[1:]:
        if len(kept) == n:
            break
        if (kept @ row).max() < NEAR:
            kept = torch.cat([kept, row[None]])
    return kept


REFERENCES: dict[str, Method] = {
    "smallest_points": point_along(find_smallest_points),
    "dense_rays": point_along(find_dense_rays),
    "cluster_centres": point_along(find_cluster_centres),
    "random_points": point_along(lambda x, n: x),
    "principal_axes": point_along(find_principal_axes),
    "independent_axes": point_along(find_independent_axes),
    "coordinate_axes": point_along(find_coordinate_axes),
    "frozen_decoder": point_along(draw_directions),
}
