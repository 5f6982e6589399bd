"""From Tracr, which compiles programs in RASP into transformers (Lindner et al. 2023, 2301.05062).

Neither Tracr nor JAX is imported: its parameters are arrays by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mini_transformer.model import Transformer
from mini_transformer.toys.tracr.compiled import fill

__all__ = ["from_tracr"]


def from_tracr(
    params: Mapping[str, Mapping[str, Any]],
    n_heads: int,
    output: Sequence[int] | None = None,
    causal: bool = False,
) -> Transformer:
    """Make a Transformer of a compiled model's parameters; the stream is the same to 1e-6.

    `params` and `n_heads` are what Tracr calls `model.params` and `model.model_config.num_heads`.
    Logits are the directions of the stream that `output` lists by number, in the order of
    `model.residual_labels`; all of them by default. Raise ValueError for other parameters.

        model = compiling.compile_rasp_to_model(program, vocab={1, 2}, max_seq_len=5, ...)
        rows = [i for i, label in enumerate(model.residual_labels) if label.startswith("sort_1:")]
        ours = from_tracr(model.params, model.model_config.num_heads, rows)
    """
    tensors = {
        f"{module}/{name}": torch.tensor(np.asarray(value), dtype=torch.float32)
        for module, own in params.items()
        for name, value in own.items()
    }
    try:
        if found := [name for name in tensors if "layer_norm" in name]:
            raise KeyError(f"{found[0]} is that of a norm, which no compiled program has")
        directions = torch.eye(tensors["token_embed/embeddings"].shape[1])
        read = directions if output is None else directions[list(output)]
        return fill(tensors, n_heads, read, causal)
    except (KeyError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"these are not the parameters of a compiled model with {n_heads} heads ({error}): "
            "give model.params and model.model_config.num_heads of Tracr"
        ) from None
