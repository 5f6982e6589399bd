"""What an eraser leaves of a label, and what else it takes.

Erasing everything leaves nothing of the label either, so what is kept of other labels counts as
much as what is erased. What is left is measured by fresh probes, trained on erased activations and
tested on others: a linear one, which erasure is meant to stop, and an MLP, which it usually does
not.

Sources: Ravfogel et al. 2020 (2004.07667); Belrose et al. 2023 (2306.03819).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.board.metrics.probe import share_equal
from mini_transformer.methods.arguments import check_labels
from mini_transformer.methods.representations.probes import fit_probe

__all__ = ["balance", "check_erased", "measure_change", "measure_leakage", "measure_share"]

Activations = Float[Tensor, "n d"]
Labels = Int[Tensor, "n"]


def measure_leakage(
    train: Activations,
    train_labels: Labels,
    test: Activations,
    test_labels: Labels,
    hidden: int | None = None,
    seed: int = 0,
) -> float:
    """Measure what a fresh probe reads beyond the majority class: 0 to 1.

    This is (accuracy - majority) / (1 - majority), on other rows than it was trained on, or on all
    rows there are; an accuracy below the majority counts 0. Raise ValueError for labels of one
    class.

    >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> measure_leakage(x[:200], y[:200], x[200:], y[200:]) > 0.9
    True
    >>> x[:, 0] = 0
    >>> measure_leakage(x[:200], y[:200], x[200:], y[200:]) < 0.2
    True
    """
    check_labels(test, test_labels)
    probe = fit_probe(train, train_labels, hidden, seed=seed)
    majority = test_labels.bincount().max().item() / len(test_labels)
    return max(0.0, share_equal(probe.predict(test), test_labels) - majority) / (1 - majority)


def measure_change(activations: Activations, erased: Activations) -> float:
    """Measure the mean squared change over the variance of the activations.

    Replacing all of them by their mean gives 1.

    >>> x = torch.tensor([[1.0, 2.0], [3.0, 2.0], [1.0, -2.0], [3.0, -2.0]])
    >>> measure_change(x, x * torch.tensor([1.0, 0.0]))
    0.8
    """
    check_erased(activations, erased)
    before = activations.double()
    after = erased.double()
    return ((before - after).square().sum() / (before - before.mean(dim=0)).square().sum()).item()


def measure_share(part: float, whole: float) -> float:
    """Return part / whole, limited to 0 to 1; 1 if there is no whole to be part of."""
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 1.0


def balance(erased: float, kept: float) -> float:
    """Return the harmonic mean of what is erased and what is kept.

    It is 1 only if the label is gone and all else is there, and 0 if either fails.

    >>> balance(1.0, 0.5), balance(0.0, 1.0)
    (0.6666666666666666, 0.0)
    """
    return 2 * erased * kept / (erased + kept) if erased + kept else 0.0


def check_erased(activations: Activations, erased: Activations) -> None:
    """Raise ValueError unless the eraser gives numbers, as many as it took."""
    if erased.shape != activations.shape:
        raise ValueError(
            f"the eraser made {tuple(erased.shape)} of {tuple(activations.shape)}, "
            "but must keep the shape"
        )
    if not torch.isfinite(erased).all():
        raise ValueError("the eraser made values that are not finite: give numbers for all")
