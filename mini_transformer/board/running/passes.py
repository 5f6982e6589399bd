"""Count how often the model ran, forward and backward, while a method worked.

One pass is one run of the problem's batch through all layers. Counted are the prompts that go
through each layer's attention, so that half a batch is half a pass, a run that resumes at the last
of two layers is half of one, and fifty edge masks at once are fifty. A backward pass is counted
where a gradient comes back to an attention's values, or, if they need none, to its output. What is
not a transformer of this package is not counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from mini_transformer.model import Attention

__all__ = ["Cost", "counting"]


@dataclass
class Cost:
    """Prompts that went through an attention layer, forward and backward."""

    forward_rows: int = 0
    backward_rows: int = 0

    def count_passes(self, n_layers: int, n_prompts: int) -> tuple[float, float]:
        """Return forward and backward passes of `n_prompts` through `n_layers`.

        >>> Cost(forward_rows=96, backward_rows=16).count_passes(n_layers=2, n_prompts=8)
        (6.0, 1.0)
        """
        per_pass = max(1, n_layers * n_prompts)
        return self.forward_rows / per_pass, self.backward_rows / per_pass


@contextmanager
def counting() -> Iterator[Cost]:
    """Count all that models do inside the block, and nothing after it.

    >>> import torch
    >>> from mini_transformer import Config, Transformer
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=2))
    >>> with counting() as cost:
    ...     model(torch.tensor([[1, 2, 3], [4, 5, 6]])).sum().backward()
    >>> cost.count_passes(n_layers=2, n_prompts=2)
    (1.0, 1.0)
    """
    cost = Cost()

    attend = Attention.attend

    def count(attention: Attention, *inputs: Tensor) -> Tensor:
        output = attend(attention, *inputs)
        rows = output.shape[0]
        cost.forward_rows += rows

        def count_backward(gradient: Tensor) -> None:
            cost.backward_rows += rows

        at = inputs[-1] if inputs[-1].requires_grad else output
        if at.requires_grad:
            at.register_hook(count_backward)
        return output

    Attention.attend = count  # type: ignore[assignment, method-assign]
    try:
        yield cost
    finally:
        Attention.attend = attend  # type: ignore[assignment, method-assign]
