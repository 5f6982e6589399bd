"""Baselines: put something else in the place of a token's embedding; its position stays."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.methods.arguments import Metric, Tokens, check_prompts, score_prompts
from mini_transformer.methods.numerics import follow
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = [
    "Baseline",
    "Embedding",
    "embed_baseline",
    "embed_prompts",
    "run_embedded",
    "score_coalitions",
]

Embedding = Float[Tensor, "batch pos d_model"]
Baseline = Integer[Tensor, "*token_axes"] | Float[Tensor, "*embedding_axes"]


@torch.no_grad()
def score_coalitions(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    present: Bool[Tensor, "coalition pos"],
    batch_size: int | None = None,
) -> Float[Tensor, "coalition batch"]:
    """Measure the metric of every prompt with the tokens of each coalition present.

    The baseline stands in place of the others.
    """
    full = embed_prompts(model, tokens)
    empty = embed_baseline(model, tokens, baseline)
    rows = choose_rows(model.config, tokens.shape[1], batch_size)
    values = []
    for chunk in present.split(max(1, rows // len(tokens))):
        mixed = torch.where(chunk[:, None, :, None], full, empty)  # coalition b t d
        repeated = tokens.repeat(len(chunk), 1)
        parts = zip(repeated.split(rows), mixed.flatten(0, 1).split(rows), strict=True)
        logits = torch.cat([run_embedded(model, *part) for part in parts])
        values += [score_prompts(metric, own) for own in logits.unflatten(0, (-1, len(tokens)))]
    return torch.stack(values)


def embed_prompts(model: Transformer, tokens: Tokens) -> Embedding:
    """Embed the tokens, without positions; ValueError for a batch or a prompt without tokens."""
    check_prompts(tokens)
    with torch.no_grad():
        return model.run_with_cache(tokens, names_filter="embed", stop_at_layer=0)[1]["embed"]


def embed_baseline(model: Transformer, tokens: Tokens, baseline: Baseline) -> Embedding:
    """Embed the baseline for every prompt and position; ValueError for one that does not fit."""
    check_prompts(tokens)
    shape: tuple[Any, ...] = (*tokens.shape, model.config.d_model)
    given = f"the baseline is {baseline.dtype} {tuple(baseline.shape)}"
    vocabulary = len(model.W_E)
    if not baseline.is_floating_point():
        if not baseline.numel() or baseline.min() < 0 or baseline.max() >= vocabulary:
            raise ValueError(f"{given}, but its tokens must be from 0 to {vocabulary - 1}")
        baseline = model.W_E.detach()[baseline.long().to(model.W_E.device)]
    axes = tuple(baseline.shape)
    fits = all(mine in (1, full) for mine, full in zip(axes[::-1], shape[::-1], strict=False))
    if not 1 <= len(axes) <= 3 or axes[-1] != shape[-1] or not fits:
        raise ValueError(f"{given}, but must be tokens or embeddings that fit {shape}")
    return follow(make_ordinary(baseline.detach()), model.W_E).expand(shape)


def run_embedded(
    model: Transformer, tokens: Tokens, embedding: Embedding
) -> Float[Tensor, "batch pos out"]:
    """Run with these token embeddings; of `tokens` only the shape matters."""
    return model.run_with_hooks(tokens, fwd_hooks=[("embed", lambda value, hook: embedding)])
