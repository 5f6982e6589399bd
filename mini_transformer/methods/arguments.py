"""What techniques are given: the types of their arguments, and the checks of them.

A technique imports its argument types and checks from here, never from another technique. A check
raises ValueError in one sentence: what was given, what is expected. What techniques do about
dtypes, devices and rounding is in `numerics`.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mini_transformer.methods.numerics import widen
from mini_transformer.model import MLP, Transformer
from mini_transformer.tensors import make_ordinary

__all__ = [
    "Activations",
    "Answers",
    "Labels",
    "Metric",
    "Negative",
    "Position",
    "Positive",
    "Reference",
    "TokenIds",
    "Tokens",
    "check_ablation",
    "check_activations",
    "check_answers",
    "check_batch",
    "check_ids",
    "check_labels",
    "check_metric",
    "check_pair",
    "check_positions",
    "check_prompts",
    "find_mlp",
    "find_place",
    "find_positions",
    "measure_metric_rounding",
    "score_prompts",
    "tell_apart",
]

Tokens = Integer[Tensor, "batch pos"]
Reference = Integer[Tensor, "reference pos"]  # prompts whose activations an ablation takes
TokenIds = Integer[Tensor, "batch"] | Bool[Tensor, "batch"]
Answers = Integer[Tensor, "batch"]

# One position of all prompts, one per prompt, or (None) all. Negative ones count from the end.
Position = int | Integer[Tensor, "batch"] | Sequence[int] | None

# Logits (b, t, v) to one number per prompt (b). Where that is nan or infinite, so is its mean.
Metric = Callable[[Tensor], Tensor]

Activations = Float[Tensor, "n d"]
Positive = Float[Tensor, "positive d"]
Negative = Float[Tensor, "negative d"]
Labels = Integer[Tensor, "n"] | Bool[Tensor, "n"]


def check_prompts(tokens: Tensor, what: str = "tokens") -> None:
    """Raise ValueError unless these are integers (b, t), with one prompt and token at least."""
    if tokens.ndim != 2 or tokens.is_floating_point():
        given = f"{what} are {tokens.dtype} {tuple(tokens.shape)}"
        raise ValueError(f"{given}, expected a tensor of integers with shape (batch, pos)")
    if not len(tokens):
        raise ValueError("the batch holds no prompts, but at least one is needed")
    if not tokens.shape[1]:
        given = f"{what} are {tuple(tokens.shape)}"
        raise ValueError(f"{given}: prompts without tokens, but each needs at least one")


def check_batch(clean: Tokens, corrupt: Tokens) -> tuple[Tokens, Tokens]:
    """Return the two batches, ready for gradients.

    ValueError unless they go together row by row, and hold a prompt.
    """
    if not len(clean):
        raise ValueError("the batch holds no prompts, but a mean needs at least one")
    if clean.shape != corrupt.shape:
        given = f"clean prompts are {tuple(clean.shape)} and corrupt ones {tuple(corrupt.shape)}"
        fits = "they must have one shape: row i of one is patched into row i of the other"
        raise ValueError(f"{given}, but {fits}")
    check_prompts(clean)
    check_prompts(corrupt, "corrupt prompts")
    return make_ordinary(clean), make_ordinary(corrupt)


def check_pair(clean: Tokens, corrupt: Tokens, direction: str) -> tuple[Tokens, Tokens]:
    """Return the prompts that are run, and those that are patched into them.

    ValueError for another direction than "denoise" and "noise", else as in `check_batch`.
    """
    clean, corrupt = check_batch(clean, corrupt)
    if direction not in ("denoise", "noise"):
        fits = "'denoise' (clean into corrupt) or 'noise'"
        raise ValueError(f"direction is {direction!r}, but must be {fits}")
    return (corrupt, clean) if direction == "denoise" else (clean, corrupt)


def find_positions(
    position: Position, shape: Sequence[int], what: str = "position"
) -> tuple[slice | Tensor, slice | Tensor]:
    """Find the index of these positions in prompts or activations of shape (b, t, ...).

    Both axes stay: the second is as long as there are positions, 1 or all. ValueError for others.

    >>> values = torch.arange(6).view(2, 3)
    >>> [values[find_positions(position, (2, 3))].tolist() for position in (-1, [0, 2], None)]
    [[[2], [5]], [[0], [5]], [[0, 1, 2], [3, 4, 5]]]
    """
    if position is None:
        return slice(None), slice(None)
    row, place = find_place(position, shape, what)
    if isinstance(position, int):  # a slice copies nothing
        start = position % shape[1]
        return slice(None), slice(start, start + 1)
    return row[:, None], place[:, None]


def find_place(
    position: Position, shape: Sequence[int], what: str = "position"
) -> tuple[Integer[Tensor, "batch"], Integer[Tensor, "batch"]]:
    """Find the index of one position per prompt in activations of shape (b, t, ...).

    It takes away the second axis. ValueError for None, and for a position that does not exist.

    >>> torch.arange(6).view(2, 3)[find_place([0, -1], (2, 3))]
    tensor([0, 5])
    """
    batch, length = shape[:2]
    if position is None:
        raise ValueError(f"{what} is None, all positions, but there must be one per prompt")
    if isinstance(position, int):
        place = torch.full((batch,), position, dtype=torch.int64, device="cpu")
    else:
        place = torch.as_tensor(position, device="cpu")
        if place.is_floating_point() or place.shape != (batch,):
            given = f"{what} is {place.dtype} {tuple(place.shape)}"
            raise ValueError(f"{given}, but must be one integer, or one per prompt: ({batch},)")
        place = place.to(torch.int64)
    check_positions(place.tolist(), length, what)
    return torch.arange(batch, device="cpu"), place % length


def check_positions(positions: Iterable[int], length: int, what: str = "position") -> None:
    """Raise ValueError for a position that prompts of this length do not have."""
    wrong = [position for position in positions if not -length <= position < length]
    if wrong:
        has = f"the prompts have positions {-length} to {length - 1}"
        raise ValueError(f"{what} {wrong[0]} was asked for, but {has}")


def check_ids(what: str, ids: Tensor, batch: int, size: int) -> Integer[Tensor, "batch"]:
    """Return the ids as int64, since an index of bool or uint8 would be a mask.

    ValueError unless there is one integer per prompt, from 0 to size - 1.
    """
    if not batch:
        raise ValueError("the cache is of a run without prompts, but at least one is needed")
    if ids.is_floating_point() or ids.shape != (batch,):
        given = f"{what} is {ids.dtype} {tuple(ids.shape)}"
        raise ValueError(f"{given}, but must be one integer per prompt: ({batch},)")
    ids = ids.to(torch.int64)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= size:
        raise ValueError(f"{what} runs from {low} to {high}, but must be 0 to {size - 1}")
    return ids


def check_answers(model: Transformer, prompts: Tokens, answers: Answers) -> None:
    """Raise ValueError unless there is one answer in the vocabulary for each prompt."""
    if answers.is_floating_point() or answers.shape != prompts.shape[:1] or not len(answers):
        given = f"answers are {answers.dtype} {tuple(answers.shape)}"
        raise ValueError(f"{given}, but must be one token per prompt: ({len(prompts)},)")
    highest, most = int(answers.max()), model.config.d_vocab_out - 1
    if int(answers.min()) < 0 or highest > most:
        raise ValueError(f"answers run to {highest}, but must be from 0 to {most}")


def check_ablation(ablation: str) -> None:
    """Raise ValueError for an ablation that does not exist."""
    if ablation not in ("zero", "mean", "resample"):
        raise ValueError(f"ablation is {ablation!r}, but must be 'zero', 'mean' or 'resample'")


def check_activations(activations: Tensor, what: str = "activations") -> None:
    """Raise ValueError unless these are finite floats with one row and column at least."""
    shape = tuple(activations.shape)
    if not activations.is_floating_point() or activations.ndim != 2 or not len(activations):
        fits = "floats of shape (n, d), with at least one row"
        raise ValueError(f"{what} are {activations.dtype} {shape}, but must be {fits}")
    if not activations.shape[1]:
        raise ValueError(f"{what} are {shape}, rows without numbers: give at least one column")
    if not activations.isfinite().all():
        raise ValueError(f"{what} {shape} hold numbers that are not finite")


def check_labels(activations: Tensor, labels: Tensor) -> tuple[Integer[Tensor, "n"], int]:
    """Return labels as int64 beside the activations, and the number of classes.

    False and True are 0 and 1. ValueError unless every row has a label and each of 0, 1, ... is
    one, and for activations as in `check_activations`.

    >>> check_labels(torch.zeros(3, 2), torch.tensor([True, False, True]))
    (tensor([1, 0, 1]), 2)
    """
    check_activations(activations)
    if labels.is_floating_point() or labels.is_complex() or labels.shape != activations.shape[:1]:
        given = f"labels are {labels.dtype} {tuple(labels.shape)}"
        fits = f"one integer per row of the activations: ({len(activations)},)"
        raise ValueError(f"{given}, but must be {fits}")
    labels = make_ordinary(labels.detach().to(device=activations.device, dtype=torch.int64))
    classes = labels.unique()
    if len(classes) < 2:
        raise ValueError(f"all labels are {int(classes[0])}, but at least two classes are needed")
    if int(classes[0]) != 0 or int(classes[-1]) != len(classes) - 1:
        given = f"the labels are {classes.tolist()[:6]}"
        fix = "use labels.unique(return_inverse=True)"
        raise ValueError(f"{given}, but must count from 0: {fix}")
    return labels, len(classes)


def check_metric(metric: Metric, logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, ""]:
    """Return the metric's mean over prompts; ValueError unless there is a number for each."""
    return score_prompts(metric, logits).mean()


def score_prompts(metric: Metric, logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, "batch"]:
    """Score each prompt, in float32 at least.

    The metric gets a copy of the logits, which it may edit. ValueError if it does not return one
    number per prompt.
    """
    value = metric(logits.clone())
    given = type(value).__name__
    if isinstance(value, Tensor):
        if value.shape == logits.shape[:1] and value.is_floating_point():
            return widen(value)
        given = f"{value.dtype} {tuple(value.shape)}"
    fits = f"must return one float per prompt: shape ({len(logits)},)"
    raise ValueError(f"the metric returned {given} for logits {tuple(logits.shape)}, but {fits}")


@torch.no_grad()
def tell_apart(
    metric: Metric, one: Float[Tensor, "batch pos out"], other: Float[Tensor, "batch pos out"]
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"], bool]:
    """Score the prompts of two runs, and say whether their means are finite and differ.

    They must differ by a ten-thousandth of the metric's own size, whatever its unit, and by more
    than rounding. Scores near zero may hold nothing else.
    """
    scores = score_prompts(metric, one), score_prompts(metric, other)
    size = torch.stack(scores).abs().mean(dim=1).max()
    gap = (scores[0].mean() - scores[1].mean()).abs()
    differs = bool(gap.isfinite() and gap > 1e-4 * size)
    if differs and gap < 1e-4:  # else rounding is not in question
        rounding = [measure_metric_rounding(metric, logits) for logits in (one, other)]
        differs = bool(gap > torch.maximum(*rounding).mean())
    return *scores, differs


@torch.no_grad()
def measure_metric_rounding(
    metric: Metric, logits: Float[Tensor, "batch pos out"]
) -> Float[Tensor, "batch"]:
    """Measure how far rounding can move the metric of each prompt, by trying it on the logits.

    All logits are stretched alike, so that equal ones stay equal: an accuracy does not move.
    """
    start, eps = score_prompts(metric, logits), torch.finfo(logits.dtype).eps
    moved = [score_prompts(metric, logits * (1 + step * eps)) - start for step in (-4, -2, 2, 4)]
    return 4 * torch.stack(moved).abs().amax(dim=0)


def find_mlp(model: Transformer, layer: int) -> MLP:
    """Find the MLP of a layer; ValueError if there is none."""
    if 0 <= layer < model.config.n_layers:
        mlp = model.blocks[layer].mlp
        if mlp is not None:
            return mlp
    each = "each with an MLP" if model.config.d_mlp else "none with an MLP"
    has = f"{model.config.n_layers} layers, {each}"
    raise ValueError(f"an MLP in layer {layer} was asked for, but this model has {has}")
