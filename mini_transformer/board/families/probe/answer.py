"""Read a probe."""

from typing import Any

from torch import Tensor

from mini_transformer.board.answers import get, read_tensor

__all__ = ["read_answer"]


def read_answer(answer: Any, activations: Tensor, labels: Tensor) -> Any:
    """Return the probe: `directions`, one per row, and `predict(activations)`."""
    directions = get(answer, "directions", "predict")
    read_tensor(directions, "directions, one per row", None, activations.shape[1])
    predicted = answer.predict(activations)
    read_tensor(predicted, "predict(activations) with one label per row", len(labels))
    return answer
