"""The logit lens: read the stream half-way as if it were the last.

Every component adds to one stream, and the logits are read off its end, so the final norm and the
unembedding can be put on the stream anywhere. What appears is what is already written in the
output's own directions. An answer that is carried along others, for a later component to translate,
stays invisible. And what does appear may be written over later, or be there by the chance of two
directions not being orthogonal.
Sources: nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021 on the stream
as a sum.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.methods.arguments import Position, TokenIds, Tokens, check_ids, find_place
from mini_transformer.methods.looking.lenses import compute_divergence, decode, read_streams
from mini_transformer.methods.numerics import find_epsilon, meet, widen, without_autocast
from mini_transformer.model import Transformer

__all__ = [
    "apply_logit_lens",
    "measure_answer_probability",
    "measure_answer_rank",
    "measure_divergence",
]

Logits = Float[Tensor, "*stream batch pos out"]


def apply_logit_lens(model: Transformer, tokens: Tokens) -> Float[Tensor, "stream batch pos out"]:
    """Read logits off every stream of `list_streams(model)`.

    Each goes through the final norm on its own scale, then W_U and b_U. The last are the model's
    own logits; ValueError if they are not, since then a hook changed what comes after the stream.

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods.looking.lenses import list_streams
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> ranks = measure_answer_rank(apply_logit_lens(case.model, batch.clean), batch.answer)
    >>> dict(zip(list_streams(case.model), ranks.float().mean(dim=1).tolist()))
    {('resid_pre', 0): 16.0, ('resid_post', 0): 16.0, ('resid_post', 1): 1.0}
    """
    streams, own = read_streams(model, tokens)
    with torch.no_grad():
        logits = decode(model, streams)
        size = measure_terms(model, streams[-1])
    epsilon = find_epsilon(logits, own, streams)
    gap = (logits[-1].to(size) - own.to(size)).abs()
    if not ((gap <= 8 * epsilon * size) | (logits[-1] == own)).all():  # equal where infinite
        raise ValueError(
            "the last stream does not give the model's own logits: "
            "a hook changed what the final norm put out"
        )
    return logits


def measure_answer_probability(
    logits: Logits, answer: TokenIds, position: Position = -1
) -> Float[Tensor, "*stream batch"]:
    """Measure the probability of each prompt's answer at `position`, read off each stream.

    ValueError for an answer or a position that does not exist, and for no position in particular.

    >>> logits = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).log()
    >>> logits = logits.view(2, 1, 1, 2)  # two streams, one prompt of one token
    >>> measure_answer_probability(logits, torch.tensor([1]))
    tensor([[0.7500],
            [0.5000]])
    """
    check_logits(logits)
    return select(widen(logits).softmax(dim=-1), answer, position)[1].to(logits.dtype)


def measure_answer_rank(
    logits: Logits, answer: TokenIds, position: Position = -1
) -> Integer[Tensor, "*stream batch"]:
    """Measure the rank of each prompt's answer at `position` among all tokens, from 1.

    Rank 1 has the highest logit. A tie counts as lost, and so does a comparison with nan. The
    logits may be of streams, or of one run (b, t, v). Where all tokens are about equally likely a
    rank is noise: look at the probability as well.

    >>> measure_answer_rank(torch.tensor([1.0, 3.0, 2.0, 2.0]).view(1, 1, 1, 4), torch.tensor([2]))
    tensor([[3]])
    """
    check_logits(logits)
    everything, own = select(logits, answer, position)
    return (~(everything < own.unsqueeze(-1))).sum(dim=-1)


def measure_divergence(logits: Float[Tensor, "stream batch pos out"]) -> Float[Tensor, "stream"]:
    """Measure KL from the last stream's distribution to that read off each stream, in nats.

    It is the mean over prompts and positions: how far a lens is from what the model says in the
    end, 0 for the last stream. A token that can never come counts 0, unless a stream rules out one
    that can: that is infinite. ValueError for no prompts.

    >>> measure_divergence(torch.tensor([[0.0, 0.0], [9.0, -9.0]]).view(2, 1, 1, 2))
    tensor([0.6931, 0.0000])
    """
    if not logits.numel():
        given = f"logits are {tuple(logits.shape)}"
        raise ValueError(f"{given}, but a mean needs at least one prompt and position")
    check_logits(logits, 4)
    logs = widen(logits).log_softmax(dim=-1)
    return compute_divergence(logs[-1], logs).mean(dim=(1, 2))


def check_logits(logits: Logits, axes: int = 3) -> None:
    """Raise ValueError unless these are floats (..., b, t, v), with so many axes at least."""
    if logits.ndim < axes or not logits.is_floating_point():
        given = f"logits are {logits.dtype} {tuple(logits.shape)}"
        raise ValueError(f"{given}, but must be floats of shape (..., batch, pos, out)")


def select(values: Logits, answer: TokenIds, position: Position) -> tuple[Tensor, Tensor]:
    """Select the values of all tokens at each prompt's position, and those of the answers.

    Shapes are (..., b, v) and (..., b).
    """
    batch, _, v = values.shape[-3:]
    if not batch:
        raise ValueError("the logits hold no prompts, but at least one is needed")
    row, place = find_place(position, values.shape[-3:])
    here = values[..., row, place, :]
    return here, here[..., row, check_ids("answer", answer, batch, v).to(values.device)]


@without_autocast()
def measure_terms(
    model: Transformer, stream: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch out"]:
    """Measure the size of the terms that add up to each logit: their rounding goes with it."""
    normalized = stream if model.ln_final is None else model.ln_final.normalize(stream)
    normalized, W_U = meet(normalized.abs(), model.W_U.abs())
    size = normalized @ W_U
    return size if model.b_U is None else size + model.b_U.abs().to(size)
