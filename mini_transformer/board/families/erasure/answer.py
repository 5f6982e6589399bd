"""Read an eraser."""

from typing import Any

from torch import Tensor

from mini_transformer.board.answers import read_tensor
from mini_transformer.isolation.explaining import describe_kind

__all__ = ["read_answer"]


def read_answer(answer: Any, activations: Tensor, labels: Tensor) -> Any:
    """Return the eraser: a function from activations to as many of the same width."""
    if not callable(answer):
        raise ValueError(
            f"the answer is {describe_kind(answer)}, expected a function of activations"
        )
    read_tensor(answer(activations), "erased activations of the same shape", *activations.shape)
    return answer
