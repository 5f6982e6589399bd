"""What an eraser leaves of a label, and what else it takes.

Erasing everything leaves nothing of the label either, so what is kept of other labels counts as
much as what is erased. What is left is measured by fresh probes, trained on erased activations and
tested on others: a linear one, which erasure is meant to stop, and one that is not, since a label
can be hidden in the length of a vector. Activations are whitened first, so that nothing hides in
being small.

Sources: Ravfogel et al. 2020 (2004.07667); Belrose et al. 2023 (2306.03819); Rahimi & Recht 2007 on
random features.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.board.metrics.probe import share_expected
from mini_transformer.methods.arguments import check_labels
from mini_transformer.methods.representations.probes import fit_probe

__all__ = [
    "balance",
    "check_erased",
    "check_rows",
    "measure_change",
    "measure_leakage",
    "measure_share",
]

Activations = Float[Tensor, "n d"]
N_FEATURES = 200  # of the probe that is not linear
FLOOR = 1e-5  # variance below this share of the largest is rounding


def measure_leakage(
    train: Activations,
    train_labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    posterior: Float[Tensor, "m class"],
    nonlinear: bool = False,
) -> float:
    """Measure what a fresh probe reads of a label beyond a constant, as a share of what can be.

    `posterior` is the probability of each label given the activation before anything was erased.
    The probe that is not linear is one on random ReLU features. Raise ValueError for labels of one
    class.

    >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> known = torch.nn.functional.one_hot(y[200:]).double()
    >>> measure_leakage(x[:200], y[:200], x[200:], known) > 0.9
    True
    >>> x[:, 0] = 0
    >>> measure_leakage(x[:200], y[:200], x[200:], known) < 0.2
    True
    """
    check_labels(train, train_labels)
    mean = train.double().mean(dim=0)
    centred = train.double() - mean
    values, axes = torch.linalg.eigh(centred.T @ centred / len(train))
    kept = values > FLOOR * values.amax()
    if not values.amax() > 0:
        return 0.0
    axes = axes[:, kept] / values[kept].sqrt()
    rows = [(x.double() - mean) @ axes for x in (train, test)]
    if nonlinear:
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(axes.shape[1] + 1, N_FEATURES, generator=generator, dtype=torch.float64)
        rows = [torch.relu(x @ mix[1:] / max(1, len(mix) - 1) ** 0.5 + mix[0]) for x in rows]
    found = share_expected(fit_probe(rows[0], train_labels).predict(rows[1]), posterior)
    constant = posterior.mean(dim=0).max().item()
    return max(0.0, found - constant) / (posterior.amax(dim=1).mean().item() - constant)


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
    """Return the share of the label that is gone less the share of the rest that is gone.

    Whoever erases without looking takes as much of both, and has 0; so has who takes more of the
    rest.

    >>> balance(1.0, 0.75), balance(0.5, 0.5), balance(0.0, 1.0)
    (0.75, 0.0, 0.0)
    """
    return max(0.0, erased + kept - 1)


def check_rows(erase: Callable[[Tensor], Tensor], activations: Activations) -> Activations:
    """Return what is left of activations. Raise ValueError unless each row is treated for itself.

    A row alone, and rows in another order and company, must give what they give together.
    """
    n = len(activations)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    alone = erase(activations[:1])
    whole = erase(activations)
    check_erased(activations, whole)
    parts = torch.cat([erase(activations[some]) for some in order.split(n // 3)])
    size = whole.abs().amax().clamp(min=1e-9)
    for now, then in ((alone, whole[:1]), (parts, whole[order])):
        if now.shape != then.shape or (now - then).abs().amax() > 1e-3 * size:
            raise ValueError(
                "the eraser must treat each row for itself, "
                "but a row came out otherwise when other rows were with it"
            )
    return whole


def check_erased(activations: Activations, erased: Activations) -> None:
    """Raise ValueError unless the eraser gives numbers, as many as it took."""
    if erased.shape != activations.shape:
        raise ValueError(
            f"the eraser made {tuple(erased.shape)} of {tuple(activations.shape)}, "
            "but must keep the shape"
        )
    if not torch.isfinite(erased).all():
        raise ValueError("the eraser made values that are not finite: give numbers for all")
