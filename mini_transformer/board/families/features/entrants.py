"""Methods that find features: the package's dictionaries, and baselines to beat."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer import methods
from mini_transformer.board.problem import Method

__all__ = [
    "ENTRANTS",
    "Directions",
    "Pursuit",
    "find_independent_axes",
    "find_principal_axes",
    "freeze_decoder",
]

ARCHITECTURES = ("topk", "l1", "gated", "jumprelu", "batchtopk", "matryoshka")


@dataclass(frozen=True)
class Directions:
    """Directions as a dictionary whose codes are projections, in both signs."""

    W_dec: Tensor
    mean: Tensor

    def encode(self, activations: Tensor) -> Tensor:
        """Project onto the directions, and keep what is positive."""
        return ((activations - self.mean) @ torch.linalg.pinv(self.W_dec)).relu()


def find_principal_axes(activations: Tensor, n_features: int) -> Directions:
    """Return principal axes in both signs, up to n_features. This knows no sparsity."""
    mean = activations.mean(dim=0)
    axes = torch.linalg.svd(activations - mean, full_matrices=False)[2]
    return Directions(torch.cat([axes, -axes])[:n_features], mean)


def find_independent_axes(activations: Tensor, n_features: int) -> Directions:
    """Return independent components in both signs, at most as many as dimensions.

    Source: Hyvarinen & Oja 2000 (FastICA).
    """
    from sklearn.decomposition import FastICA

    ica = FastICA(
        min(n_features, activations.shape[1]),
        random_state=0,
        tol=1e-3,
        max_iter=400,
        whiten="unit-variance",
    )
    ica.fit(activations.numpy())
    axes = normalize(torch.from_numpy(ica.mixing_.T).to(activations), dim=1)
    return Directions(torch.cat([axes, -axes])[:n_features], activations.mean(dim=0))


@dataclass(frozen=True)
class Pursuit:
    """A dictionary whose codes are found by orthogonal matching pursuit (Pati et al. 1993).

    The best few of the directions are taken one after the other.
    """

    W_dec: Tensor
    mean: Tensor
    n_active: int = 8

    def encode(self, activations: Tensor) -> Tensor:
        """Find the codes of `n_active` directions per activation."""
        from sklearn.linear_model import orthogonal_mp_gram

        W = self.W_dec.double()
        gram = (W @ W.T).numpy()
        products = (W @ (activations - self.mean).double().T).numpy()
        codes = orthogonal_mp_gram(gram, products, n_nonzero_coefs=self.n_active)
        return torch.from_numpy(codes.T).to(activations)

    def decode(self, codes: Tensor) -> Tensor:
        """Rebuild activations from codes."""
        return codes @ self.W_dec + self.mean


def freeze_decoder(activations: Tensor, n_features: int) -> Pursuit:
    """Return random directions, never trained, with the best sparse codes that they allow."""
    rows = torch.randn(n_features, activations.shape[1], generator=torch.Generator().manual_seed(0))
    return Pursuit(normalize(rows, dim=1).to(activations), activations.mean(dim=0))


ENTRANTS: dict[str, Method] = {
    **{
        f"sae_{architecture}": functools.partial(
            methods.train_dictionary, architecture=architecture, steps=1500, batch=256
        )
        for architecture in ARCHITECTURES
    },
    "principal_axes": find_principal_axes,
    "independent_axes": find_independent_axes,
    "frozen_decoder": freeze_decoder,
}
