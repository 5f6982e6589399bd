"""The tuned lens: translate each stream into what it is likely to become, then read it.

The affine maps start as doing nothing and are trained so that what is read comes close to what the
model says in the end: they minimise KL(model's distribution, read distribution). So what early
layers write along directions of their own is translated, and what later layers always add is added.
A map is a probe, trained on the model's answers: it can learn what usually comes of a stream, so an
answer that it reads early need not be known there yet. And it cannot find what is not there: where
attention has yet to fetch the answer from another position, no map of this position's stream gives
it.
Sources: Belrose et al. 2023 (2303.08112), section 3.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import Tokens
from mini_transformer.methods.descent import descend
from mini_transformer.methods.looking.lenses import compute_divergence, decode, read_streams
from mini_transformer.methods.numerics import check_gradients, meet, widen, without_autocast
from mini_transformer.model import Transformer
from mini_transformer.tensors import copy_fields, make_ordinary

__all__ = ["TunedLens", "apply_tuned_lens", "fit_tuned_lens"]


@dataclass(frozen=True)
class TunedLens:
    """A translator x -> x + x A + b for each stream of `list_streams(model)`.

    For the last, A and b are zero.
    """

    A: Float[Tensor, "stream d_model d_model"]
    b: Float[Tensor, "stream d_model"]

    def __post_init__(self) -> None:
        copy_fields(self)

    def translate(
        self, streams: Float[Tensor, "stream *row d_model"]
    ) -> Float[Tensor, "stream *row d_model"]:
        """Translate each stream into what it is likely to be at the end."""
        if (len(streams), streams.shape[-1]) != self.b.shape:
            n, width = self.b.shape
            given = f"the streams are {tuple(streams.shape)}"
            raise ValueError(f"{given}, but this lens is for {n} of width {width}")
        return run_translators(self.A, self.b, streams).to(streams.dtype)


@without_autocast()
def run_translators(A: Tensor, b: Tensor, streams: Tensor) -> Float[Tensor, "stream *row d_model"]:
    """Run each stream through its translator, in the wider of both dtypes."""
    streams, A, b = meet(streams, A, b)
    return streams + torch.baddbmm(b.unsqueeze(1), streams.flatten(1, -2), A).view_as(streams)


def fit_tuned_lens(
    model: Transformer,
    tokens: Tokens,
    steps: int = 1000,
    lr: float | int = 1e-2,
    rows: int = 256,
    seed: int = 0,
) -> TunedLens:
    """Fit one translator per stream on all positions of `tokens`.

    Each step draws `rows` of them from `seed`. All translators are trained at once, in 1 to 4
    seconds for the trained toys on one core. Measure on other prompts than these. ValueError for no
    prompts, and steps, lr or rows that are not positive.

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods import apply_logit_lens, measure_divergence
    >>> case = toys.load("style_grammar")
    >>> lens = fit_tuned_lens(case.model, case.task.draw(256, seed=1).clean, steps=300)
    >>> fresh = case.task.draw(256, seed=2).clean  # KL in nats after layer 0
    >>> round(measure_divergence(apply_logit_lens(case.model, fresh))[2].item(), 1)
    0.9
    >>> round(measure_divergence(apply_tuned_lens(case.model, fresh, lens))[2].item(), 1)
    0.1
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}, but each step needs at least one")
    check_gradients(model)
    streams, logits = map(make_ordinary, read_streams(model, tokens))
    streams = widen(streams[:-1].flatten(1, 2))
    targets = widen(logits.flatten(0, 1)).log_softmax(dim=-1)
    n, count, d = streams.shape
    A = streams.new_zeros(n, d, d).requires_grad_()
    b = streams.new_zeros(n, d).requires_grad_()
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> Tensor:
        """Compute the mean over rows, summed over streams."""
        drawn = torch.randint(count, (rows,), generator=generator, device="cpu").to(streams.device)
        translated = run_translators(A, b, streams[:, drawn]).to(model.W_E.dtype)
        logs = widen(decode(model, translated)).log_softmax(dim=-1)
        return compute_divergence(targets[drawn], logs).sum() / rows

    descend(loss, [A, b], steps, lr)
    return TunedLens(*(torch.cat([x.detach(), torch.zeros_like(x[:1])]) for x in (A, b)))


def apply_tuned_lens(
    model: Transformer, tokens: Tokens, lens: TunedLens
) -> Float[Tensor, "stream batch pos out"]:
    """Read logits off every stream of `list_streams(model)` after translation.

    The last are the model's own. ValueError for a lens of other streams than this model's.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=2))
    >>> tokens, nothing = torch.tensor([[1, 2, 3]]), torch.zeros(3, 8, 8)
    >>> logits = apply_tuned_lens(model, tokens, TunedLens(nothing, nothing[:, 0]))
    >>> torch.allclose(logits[-1], model(tokens), atol=1e-5)
    True
    """
    with torch.no_grad():
        return decode(model, lens.translate(read_streams(model, tokens)[0]))
