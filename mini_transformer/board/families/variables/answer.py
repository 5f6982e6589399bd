"""Read a subspace, or a map that aligns more than one."""

from typing import Any

import torch
from torch import Tensor

from mini_transformer.board.answers import read_tensor
from mini_transformer.methods import AlignmentMap

__all__ = ["read_answer"]


def read_answer(answer: Any, model: Any, hook: Any, pairs: Any) -> Tensor | AlignmentMap:
    """Return orthonormal rows that span the subspace, or the `AlignmentMap` that has them."""
    given = getattr(answer, "rows", answer)
    rows = read_tensor(given, "orthonormal rows", None, model.config.d_model)
    if not len(rows) or not torch.allclose(rows @ rows.T, torch.eye(len(rows)).to(rows), atol=1e-3):
        raise ValueError(
            "the rows of the subspace are not orthonormal: return torch.linalg.qr(rows.T)[0].T"
        )
    return answer if isinstance(answer, AlignmentMap) else rows
