"""How much goes through one forward: the activations of any sweep fit one budget."""

import torch
from torch import Tensor

from mini_transformer.model import Config

BUDGET = 32e6  # bytes; half as much is as fast, four times more is slower (batch 128 x 50)


def choose_rows(
    config: Config,
    length: int,
    batch_size: int | None = None,
    *,
    streams: int = 8,
    runs: int = 1,
    blocks: int = 1,
) -> int:
    """Choose how many prompts of this length go through one forward.

    That is batch_size; by default as many as fit the budget, one at least. A prompt takes the
    largest tensors of a block: `streams` (d), what the heads and the MLP compute, and the logits;
    `blocks` times where a graph keeps them for all blocks, and all of it `runs` times where one
    prompt stands for so many runs. Raise ValueError for a batch_size below 1.

    >>> choose_rows(Config(d_vocab=50, n_ctx=50, d_model=64, n_layers=2, n_heads=4), length=50)
    108
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1, or None")
    if batch_size is not None:
        return batch_size
    per_head = 4 * config.d_head + 3 * length
    per_block = streams * config.d_model + config.n_heads * per_head + 3 * config.d_mlp
    per_position = runs * (blocks * per_block + 2 * config.d_vocab_out)
    return max(1, int(BUDGET / (4 * length * per_position)))


def join(parts: list[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along an axis, without a copy where there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
