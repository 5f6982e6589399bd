"""Read a steering vector and its hook."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mini_transformer.board.answers import read_tensor
from mini_transformer.isolation.explaining import describe_kind

__all__ = ["read_answer"]


def read_answer(
    answer: Any, positive: Mapping[Any, Tensor], negative: Mapping[Any, Tensor]
) -> tuple[Tensor, Any]:
    """Return the vector and the hook where it is added, one of those given."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise ValueError(f"the answer is {describe_kind(answer)}, expected a pair (vector, hook)")
    vector, hook = answer
    if not isinstance(hook, (str, tuple)) or hook not in positive:
        raise ValueError(f"the hook is {hook!r}, expected one of {', '.join(map(repr, positive))}")
    return read_tensor(vector, "a vector as wide as the hook", positive[hook].shape[1]), hook
