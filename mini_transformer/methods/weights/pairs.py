"""Arrays over all pairs of numbers modulo p: row p a + b holds a and b."""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

__all__ = [
    "Logits",
    "add_pairs",
    "average_by_sum",
    "check_finite",
    "check_logits",
    "check_pairs",
    "round_off",
    "vary",
]

Logits = Float[Tensor, "pair p"]


def add_pairs(p: int, device: torch.device | None = None) -> Integer[Tensor, "pair"]:
    """Compute (a + b) mod p for all pairs, b running fastest."""
    numbers = torch.arange(p, device=device)
    return ((numbers[:, None] + numbers) % p).flatten()


def average_by_sum(x: Float[Tensor, "pair column"], p: int) -> Float[Tensor, "p column"]:
    """Average the rows of the p pairs (a, b) that have the same a + b."""
    return x.new_zeros(p, x.shape[1]).index_add_(0, add_pairs(p, x.device), x) / p


def vary(x: Float[Tensor, "row column"]) -> Bool[Tensor, "column"]:
    """Say of each column whether it varies along the rows by more than rounding."""
    wide = x.double()
    return wide.amax(dim=0) - wide.amin(dim=0) > round_off(x) * wide.abs().amax(dim=0)


def round_off(x: Tensor) -> float:
    """Give the error, as a share, that a few steps of computing in this dtype leave."""
    return 4 * torch.finfo(x.dtype).eps


def check_pairs(x: Tensor, p: int, what: str = "activations") -> None:
    """Raise ValueError unless there is one row of finite floats for each of the p p pairs."""
    if x.ndim != 2 or not x.is_floating_point() or len(x) != p * p or not x.numel():
        given = f"{x.dtype} {tuple(x.shape)}"
        pairs = f"each of {p} x {p} pairs: ({p * p}, ...)"
        raise ValueError(f"{what} are {given}, but must be floats with a row for {pairs}")
    check_finite(x, what)


def check_logits(logits: Tensor) -> int:
    """Return p; raise ValueError unless the logits are (p p, p): cut off other outputs."""
    p = logits.shape[-1] if logits.ndim else 0
    check_pairs(logits, p, "logits")
    return p


def check_finite(x: Tensor, what: str) -> None:
    """Raise ValueError where a number is nan or infinite."""
    if not x.isfinite().all():
        raise ValueError(
            f"{what} {tuple(x.shape)} hold numbers that are not finite: "
            "cut them off, as no wave has them"
        )
