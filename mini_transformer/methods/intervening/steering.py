"""Steering: add a vector to the stream, and see how the behaviour shifts.

The vector is the mean activation on prompts that show a property minus that on prompts that do not,
so everything else in which the two sets differ is in it too. A shift proves only that the model can
be pushed along the vector, not that it uses it: almost any vector does something when it is long
enough. Compare a random vector of the same norm. Look at what else changes, and at whether the
effect grows evenly with the strength or only when the stream is no longer like any that was trained
on.
Sources: Turner et al. 2023 (2308.10248), section 3; Rimsky et al. 2024 (2312.06681), section 3;
Belrose 2023 on why the difference in means.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.hooks import HookName, HookPoint
from mini_transformer.methods.arguments import (
    Metric,
    Position,
    Tokens,
    check_metric,
    check_prompts,
    find_positions,
)
from mini_transformer.methods.numerics import widen
from mini_transformer.model import Transformer

__all__ = ["fit_steering_vector", "measure_doses", "steer"]


@torch.no_grad()
def fit_steering_vector(
    model: Transformer,
    positive: Integer[Tensor, "positive pos"],
    negative: Integer[Tensor, "negative pos"],
    hook: HookName,
    position: Position = -1,
) -> Float[Tensor, "width"]:
    """Subtract the mean activation on `negative` prompts from that on `positive` ones.

    `position` None averages over all positions too. The hook's last axis is the vector's.
    ValueError for an empty class.

    >>> from mini_transformer import toys
    >>> case = toys.load("refusal_with_trigger")
    >>> flagged, harmless = torch.tensor([[0, 3, 3, 9, 4]]), torch.tensor([[0, 3, 3, 7, 4]])
    >>> vector = fit_steering_vector(case.model, flagged, harmless, ("mlp_out", 1))
    >>> steer(case.model, harmless, vector, ("mlp_out", 1))[0, -1].argmax().item()  # REFUSE
    5
    """
    means = []
    for label, tokens in (("positive", positive), ("negative", negative)):
        if not len(tokens):
            needs = "a difference in means needs some of both classes"
            raise ValueError(f"there are no {label} prompts, but {needs}")
        values = model.run_with_cache(tokens, names_filter=hook)[1][hook]
        check_hook(values, hook)
        chosen = values[find_positions(position, values.shape)]
        means.append(widen(chosen.flatten(0, -2)).mean(dim=0))
    return means[0] - means[1]


def steer(
    model: Transformer,
    tokens: Tokens,
    vector: Float[Tensor, "width"],
    hook: HookName,
    strength: float | int = 1.0,
    position: Position = -1,
) -> Float[Tensor, "batch pos out"]:
    """Run with `strength` times `vector` added at `hook`, and return the logits.

    `position` None adds it at all positions. ValueError for a vector of another width, and a
    position that the prompts do not have.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
    >>> tokens, vector = torch.tensor([[1, 2, 3]]), torch.ones(8)
    >>> logits = steer(model, tokens, vector, ("resid_post", 0), strength=2.0, position=None)
    >>> torch.allclose(logits - model(tokens), 2 * vector @ model.W_U, atol=1e-5)
    True
    """

    def add(value: Tensor, point: HookPoint) -> None:
        check_hook(value, hook)
        if vector.shape != value.shape[-1:]:
            given = f"the vector is {tuple(vector.shape)}"
            raise ValueError(f"{given}, but {point.name} has width {value.shape[-1]}")
        value[find_positions(position, value.shape)] += strength * vector.to(value)

    check_prompts(tokens)
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(hook, add)])


def measure_doses(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    vector: Float[Tensor, "width"],
    hook: HookName,
    strengths: Sequence[float | int],
    position: Position = -1,
) -> Float[Tensor, "strength"]:
    """Measure the dose-response curve of a vector: the mean metric at each strength.

    `metric(logits)` gives one number per prompt. Negative strengths steer away; 0 is the plain run.

    >>> from mini_transformer import toys
    >>> from mini_transformer.toys.hand_set.refusal_with_trigger import REFUSAL, REFUSE
    >>> case = toys.load("refusal_with_trigger")
    >>> def refuses(logits):
    ...     return (logits[:, -1].argmax(dim=-1) == REFUSE).float()
    >>> prompts, strengths = torch.tensor([[0, 3, 3, 7, 4]]), [0, 0.4, 0.6, 1]
    >>> measure_doses(case.model, prompts, refuses, REFUSAL, ("resid_post", 1), strengths)
    tensor([0., 0., 1., 1.])
    """
    if not len(strengths):
        raise ValueError("no strengths were given, but a curve needs at least one")
    if not all(map(math.isfinite, strengths)):
        raise ValueError(f"strengths are {list(strengths)}, but must be finite")
    runs = (steer(model, tokens, vector, hook, strength, position) for strength in strengths)
    return torch.stack([check_metric(metric, logits) for logits in runs])


def check_hook(value: Tensor, hook: HookName) -> None:
    """Raise ValueError for a hook without one vector per position, such as a pattern."""
    if value.ndim != 3:
        needs = "steering needs a hook with axes (batch, pos, width)"
        raise ValueError(f"{hook!r} is {tuple(value.shape)}, but {needs}")
