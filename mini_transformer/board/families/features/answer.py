"""Read a dictionary of features."""

from typing import Any

from torch import Tensor

from mini_transformer.board.answers import get, read_tensor

__all__ = ["read_answer"]


def read_answer(answer: Any, activations: Tensor, n_features: int) -> Any:
    """Return the dictionary: `W_dec` with a row per latent, and `encode(activations)`."""
    n, d = activations.shape
    W_dec = read_tensor(get(answer, "W_dec", "encode"), "W_dec with one row per latent", None, d)
    codes = answer.encode(activations)
    read_tensor(codes, "encode(activations) with one code per latent", n, len(W_dec))
    return answer
