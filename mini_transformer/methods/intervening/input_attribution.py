"""Input attribution: how much each token of a prompt counts for a metric.

A token is taken away by putting a baseline in place of its embedding; its position stays. Every
score answers the question "compared with what?", so the baseline is always given: a token, or an
embedding such as the mean. Saliency is how fast the metric changes, gradient times input how much
it would if it were linear; both see nothing where an attention or a ReLU is saturated. Integrated
gradients average the gradient on the way from the baseline, and so add up to the whole change; but
the points on that way are no tokens. Occlusion runs the model without one token at a time: of two
tokens that each suffice, it finds neither (`measure_shapley` does). None of these says how the
model computed anything.
Sources: Simonyan et al. 2013 (1312.6034), section 3; Shrikumar et al. 2016 (1605.01713);
Sundararajan et al. 2017 (1703.01365), sections 3 and 5; Zeiler & Fergus 2013 (1311.2901), section
4.2.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.batches import choose_rows
from mini_transformer.methods.arguments import (
    Metric,
    Tokens,
    check_prompts,
    measure_metric_rounding,
)
from mini_transformer.methods.gradients import find_slopes
from mini_transformer.methods.intervening.baselines import (
    Baseline,
    Embedding,
    embed_baseline,
    embed_prompts,
    run_embedded,
    score_coalitions,
)
from mini_transformer.methods.numerics import check_gradients, widen
from mini_transformer.methods.sites import run_in_parts
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = ["integrate_gradients", "measure_saliency", "multiply_gradient", "occlude_each"]

Scores = Float[Tensor, "batch pos"]


def measure_saliency(
    model: Transformer, tokens: Tokens, metric: Metric, batch_size: int | None = None
) -> Scores:
    """Measure the length of the metric's gradient with respect to each token's embedding.

    It is (b, t), metric per unit of embedding. `metric(logits)` gives one number per prompt, which
    depends on that prompt only; ValueError for one that has no gradient, and under
    torch.inference_mode. At most `batch_size` prompts go through one forward; by default as many as
    keep memory small.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=0))
    >>> scores = measure_saliency(model, torch.tensor([[1, 2]]), lambda logits: logits[:, -1, 7])
    >>> scores[0, 0].item(), bool(torch.allclose(scores[0, 1], model.W_U[:, 7].norm()))
    (0.0, True)
    """
    embedding = embed_prompts(model, tokens)
    return widen(find_gradient(model, tokens, metric, embedding, batch_size)).norm(dim=-1)


def multiply_gradient(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    baseline: Baseline,
    batch_size: int | None = None,
) -> Scores:
    """Multiply the gradient by (embedding - baseline) and sum over the embedding, (b, t).

    That is what a linear metric would lose. A baseline is one token or one per position (integers),
    or an embedding (d), (t, d) or (b, t, d); a zero embedding gives plain gradient times input.
    ValueError for a baseline that does not fit.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=0))
    >>> def metric(logits):
    ...     return logits[:, -1, 7]
    >>> before, after = torch.tensor([[1, 2]]), torch.tensor([[1, 5]])
    >>> effect = multiply_gradient(model, before, metric, torch.tensor(5)).sum(dim=1)
    >>> torch.allclose(effect, metric(model(before)) - metric(model(after)), atol=1e-5)
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
    """Integrate the gradient from the baseline to the prompt, (b, t).

    The scores add up to the change of the metric. Gauss-Legendre quadrature: 50 points suffice for
    smooth models, kinks of ReLUs leave about 2% on the boolean toys. ValueError if a prompt's
    scores add up to something else, off by more than `tolerance` of the sum of their absolute
    values (and than rounding).

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=2))
    >>> tokens, zero = torch.tensor([[1, 2, 3]]), torch.tensor(0)
    >>> def metric(logits):
    ...     return logits[:, -1, 7]
    >>> scores = integrate_gradients(model, tokens, metric, zero)
    >>> change = metric(model(tokens)) - metric(model(torch.tensor([[0, 0, 0]])))
    >>> torch.allclose(scores.sum(dim=1), change, atol=1e-4)
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
    """Measure what the metric loses when the baseline replaces one token, (b, t).

    Baselines are those of `multiply_gradient`, `batch_size` is that of `measure_saliency`.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> tokens, zero = torch.tensor([[1, 0, 2, 2, 2, 3]]), torch.tensor(0)
    >>> def metric(logits):
    ...     return logits[:, -1, 1] - logits[:, -1, 0]
    >>> scores = occlude_each(case.model, tokens, metric, zero)
    >>> bool(scores[0, :5].abs().max() < 1e-3)  # 1 AND 0 is 0, with the 1 or without
    True
    """
    check_prompts(tokens)
    # Coalition 0 lacks no token, each other one the token before its number.
    out = torch.arange(tokens.shape[1] + 1, device=tokens.device)
    present = out.unsqueeze(1) != out[1:]
    values = score_coalitions(model, tokens, metric, baseline, present, batch_size)
    return (values[0] - values[1:]).T


def find_gradient(
    model: Transformer,
    tokens: Tokens,
    metric: Metric,
    embedding: Embedding,
    batch_size: int | None = None,
) -> Embedding:
    """Find the gradient of each prompt's metric with respect to its embeddings."""
    check_gradients(model)
    tokens, embedding = make_ordinary(tokens), make_ordinary(embedding)

    def run(part: slice, values: Sequence[Tensor]) -> Tensor:
        return run_embedded(model, tokens[part], values[0])

    rows = choose_rows(model.config, tokens.shape[1], batch_size)
    of_mean = find_slopes(run, [embedding], metric, rows)[0]
    return len(tokens) * of_mean


def check_sum(
    scores: Scores,
    change: Float[Tensor, "batch"],
    rounding: Float[Tensor, "batch"],
    tolerance: float | int,
    steps: int,
) -> None:
    """Raise ValueError unless each prompt's scores are finite and add up to its change."""
    total = scores.sum(dim=1)
    finite = (total + change).isfinite()
    if not finite.all():
        i = int((~finite).nonzero()[0])
        told = f"prompt {i}'s metric changes by {change[i]:.4g} and its scores add up to"
        fix = "take a metric that is finite on the prompts, on the baseline and between"
        raise ValueError(f"{told} {total[i]:.4g}: {fix}")
    size = torch.maximum(scores.abs().sum(dim=1), change.abs())
    excess = (total - change).abs() - tolerance * size - rounding
    if (excess > 0).any():
        i = int((excess / size).argmax())
        told = f"prompt {i}'s scores add up to {total[i]:.4g}, but its metric changes by"
        fix = f"give more steps than {steps}, or a higher tolerance than {tolerance}"
        raise ValueError(f"{told} {change[i]:.4g}: {fix}")
