"""Input attribution: how much each token of a prompt counts for a metric, by gradients or by taking tokens away.

A token is taken away by putting a baseline in place of its embedding; its position stays. Every score answers the question
"compared with what?", so the baseline is always given: a token, or an embedding such as the mean. Saliency is how fast the metric
changes, gradient times input how much it would if it were linear; both see nothing where an attention or a ReLU is
saturated. Integrated gradients average the gradient on the way from the baseline, and so add up to the whole change;
but the points on that way are no tokens. Occlusion runs the model without one token at a time: of two tokens that
each suffice, it finds neither (`measure_shapley` does). None of these says how the model computed anything.
Sources: Simonyan et al. 2013 (1312.6034), section 3; Shrikumar et al. 2016 (1605.01713); Sundararajan et al. 2017 (1703.01365),
sections 3 and 5; Zeiler & Fergus 2013 (1311.2901), section 4.2.

Checked against: captum's numbers on the same weights, finite differences, prompts edited one by one, and hand-set gates.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mini_transformer.methods.arguments import check_gradients, follow, make_ordinary, widen
from mini_transformer.methods.attribution_patching import find_slopes
from mini_transformer.methods.patching import Metric, measure_metric_rounding, score_prompts
from mini_transformer.methods.sites import check_prompts, choose_rows, run_in_parts
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Scores = Float[Tensor, "batch pos"]
Embedding = Float[Tensor, "batch pos d_model"]
Baseline = Integer[Tensor, "*token_axes"] | Float[Tensor, "*embedding_axes"]


def measure_saliency(
    model: Transformer, tokens: Tokens, metric: Metric, batch_size: int | None = None
) -> Scores:
    """The length of the metric's gradient with respect to each token's embedding, (b, t), metric per unit of embedding.

    `metric(logits)` gives one number per prompt, which depends on that prompt only; ValueError for one that has no gradient, and
    under torch.inference_mode. At most `batch_size` prompts go through one forward; by default as many as keep memory small.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=0))
    >>> scores = measure_saliency(model, torch.tensor([[1, 2]]), lambda logits: logits[:, -1, 7])
    >>> scores[0, 0].item(), bool(torch.allclose(scores[0, 1], model.W_U[:, 7].norm()))
    (0.0, True)
    """
    return widen(
        find_gradient(model, tokens, metric, embed_prompts(model, tokens), batch_size)
    ).norm(dim=-1)


def multiply_gradient(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    batch_size: int | None = None,
) -> Scores:
    """The gradient times (embedding - baseline), summed over the embedding, (b, t): what a linear metric would change by.

    A baseline is one token or one per position (integers), or an embedding (d), (t, d) or (b, t, d); a zero embedding
    gives plain gradient times input. ValueError for a baseline that does not fit.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=0))
    >>> def metric(logits):
    ...     return logits[:, -1, 7]
    >>> before, after = torch.tensor([[1, 2]]), torch.tensor([[1, 5]])
    >>> effect = multiply_gradient(model, before, metric, torch.tensor(5)).sum(dim=1)
    >>> bool(torch.allclose(effect, metric(model(before)) - metric(model(after)), atol=1e-5))
    True
    """
    embedding = embed_prompts(model, tokens)
    change = embedding - embed_baseline(model, tokens, baseline)
    return widen(find_gradient(model, tokens, metric, embedding, batch_size) * change).sum(dim=-1)


def integrate_gradients(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    steps: int = 50,
    tolerance: float | int = 0.05,
    batch_size: int | None = None,
) -> Scores:
    """Integrated gradients from the baseline to the prompt, (b, t); they add up to the change of the metric.

    Gauss-Legendre quadrature: 50 points suffice for smooth models, kinks of ReLUs leave about 2% on the boolean toys. ValueError if a prompt's
    scores add up to something else, off by more than `tolerance` of the sum of their absolute values (and than rounding).

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=2))
    >>> scores = integrate_gradients(model, torch.tensor([[1, 2, 3]]), lambda logits: logits[:, -1, 7], torch.tensor(0))
    >>> change = model(torch.tensor([[1, 2, 3]]))[0, -1, 7] - model(torch.tensor([[0, 0, 0]]))[0, -1, 7]
    >>> bool(torch.allclose(scores.sum(), change, atol=1e-4))
    True
    """
    if steps < 1 or not tolerance > 0:
        raise ValueError(f"steps is {steps} and tolerance {tolerance}, but both must be positive")
    start = embed_baseline(model, tokens, baseline)
    change = embed_prompts(model, tokens) - start
    mean = torch.zeros_like(widen(change))
    for point, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):  # on [-1, 1]
        between = start + (1 + point) / 2 * change
        mean += weight / 2 * find_gradient(model, tokens, metric, between, batch_size)
    terms = mean * change
    scores = terms.sum(dim=-1)
    ends = torch.tensor([[True], [False]], device=change.device).expand(2, tokens.shape[1])
    high, low = score_coalitions(model, tokens, metric, baseline, ends, batch_size)
    rounding = measure_metric_rounding(metric, run_in_parts(model, tokens, batch_size))
    rounding += 16 * torch.finfo(change.dtype).eps * terms.abs().sum(dim=(1, 2))
    check_sum(scores, high - low, rounding, tolerance, steps)
    return scores


def occlude_each(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    batch_size: int | None = None,
) -> Scores:
    """By how much the metric falls when one token at a time gives way to the baseline, (b, t).

    Baselines are those of `multiply_gradient`, `batch_size` is that of `measure_saliency`.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> tokens, zero = torch.tensor([[1, 0, 2, 2, 2, 3]]), torch.tensor(0)
    >>> scores = occlude_each(case.model, tokens, lambda logits: logits[:, -1, 1] - logits[:, -1, 0], zero)
    >>> bool(scores[0, :5].abs().max() < 1e-3)  # 1 AND 0 is 0, with the 1 or without
    True
    """
    check_prompts(tokens)
    out = torch.arange(
        tokens.shape[1] + 1, device=tokens.device
    )  # 0: no token, else the one before this number
    present = out.unsqueeze(1) != out[1:]
    values = score_coalitions(model, tokens, metric, baseline, present, batch_size)
    return (values[0] - values[1:]).T


@torch.no_grad()
def score_coalitions(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    present: Bool[Tensor, "coalition pos"],
    batch_size: int | None = None,
) -> Float[Tensor, "coalition batch"]:
    """The metric of every prompt with the tokens that are present, and the baseline in place of the others."""
    full, empty = embed_prompts(model, tokens), embed_baseline(model, tokens, baseline)
    rows, values = choose_rows(model.config, tokens.shape[1], batch_size), []
    for chunk in present.split(max(1, rows // len(tokens))):
        mixed = torch.where(chunk[:, None, :, None], full, empty).flatten(
            0, 1
        )  # coalitions of all prompts
        parts = zip(tokens.repeat(len(chunk), 1).split(rows), mixed.split(rows), strict=True)
        logits = torch.cat([run_embedded(model, *part) for part in parts])
        values += [score_prompts(metric, own) for own in logits.unflatten(0, (-1, len(tokens)))]
    return torch.stack(values)


def embed_prompts(model: Transformer, tokens: Tokens) -> Embedding:
    """The token embeddings, without positions; ValueError for a batch or a prompt without tokens."""
    check_prompts(tokens)
    with torch.no_grad():
        return model.run_with_cache(tokens, names_filter="embed", stop_at_layer=0)[1]["embed"]


def embed_baseline(model: Transformer, tokens: Tokens, baseline: Baseline) -> Embedding:
    """The baseline's embedding for every prompt and position; ValueError for one that does not fit."""
    shape: tuple[Any, ...] = (*tokens.shape, model.config.d_model)
    given, vocabulary = f"{baseline.dtype} {tuple(baseline.shape)}", len(model.W_E)
    if not baseline.is_floating_point():
        if not baseline.numel() or baseline.min() < 0 or baseline.max() >= vocabulary:
            raise ValueError(
                f"the baseline is {given}, but its tokens must be from 0 to {vocabulary - 1}"
            )
        baseline = model.W_E.detach()[baseline.long().to(model.W_E.device)]
    axes = tuple(baseline.shape)
    fits = all(mine in (1, full) for mine, full in zip(axes[::-1], shape[::-1], strict=False))
    if not 1 <= len(axes) <= 3 or axes[-1] != shape[-1] or not fits:
        raise ValueError(
            f"the baseline is {given}, but must be tokens or embeddings that fit {shape}"
        )
    return follow(make_ordinary(baseline.detach()), model.W_E).expand(shape)


def run_embedded(
    model: Transformer, tokens: Tokens, embedding: Embedding
) -> Float[Tensor, "batch pos out"]:
    """Logits of a run with these token embeddings; of `tokens` only the shape matters."""
    return model.run_with_hooks(tokens, fwd_hooks=[("embed", lambda value, hook: embedding)])


def find_gradient(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    embedding: Embedding,
    batch_size: int | None = None,
) -> Embedding:
    """The gradient of each prompt's metric with respect to its embeddings."""
    check_gradients(model)
    tokens, embedding = make_ordinary(tokens), make_ordinary(embedding)

    def run(part: slice, values: Sequence[Tensor]) -> Tensor:
        return run_embedded(model, tokens[part], values[0])

    rows = choose_rows(model.config, tokens.shape[1], batch_size)
    return (
        len(tokens) * find_slopes(run, [embedding], metric, rows)[0]
    )  # which is that of the mean over prompts


def check_sum(
    scores: Scores,
    change: Float[Tensor, "batch"],
    rounding: Float[Tensor, "batch"],
    tolerance: float | int,
    steps: int,
) -> None:
    """ValueError unless the scores of every prompt add up to the change of its metric, and are finite."""
    total = scores.sum(dim=1)
    if not (total + change).isfinite().all():
        i = int((~(total + change).isfinite()).nonzero()[0])
        raise ValueError(
            f"prompt {i}'s metric changes by {change[i]:.4g} and its scores add up to {total[i]:.4g}: take "
            "a metric that is finite on the prompts, on the baseline and between"
        )
    size = torch.maximum(scores.abs().sum(dim=1), change.abs())
    excess = (total - change).abs() - tolerance * size - rounding
    if (excess > 0).any():
        i = int((excess / size).argmax())
        told = f"prompt {i}'s scores add up to {total[i]:.4g}, but its metric changes by {change[i]:.4g}"
        raise ValueError(
            f"{told}: give more steps than {steps}, or a higher tolerance than {tolerance}"
        )
