"""The logit lens: read the stream half-way as if it were the last, and see when the answer appears in it.

Every component adds to one stream, and the logits are read off its end, so the final norm and the unembedding can be put on the
stream anywhere. What appears is what is already written in the output's own directions. An answer that is carried along others,
for a later component to translate, stays invisible, and what does appear may be written over later, or be there by the chance of
two directions not being orthogonal. Sources: nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021
on the stream as a sum.

Checked against: the model's own logits, on every use; the formulas of the norms in loops over prompts and positions;
the published logit lens (tuned-lens 0.2.0) on the same weights.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.methods.arguments import find_epsilon, meet, widen, without_autocast
from mini_transformer.methods.logit_attribution import TokenIds, check_ids
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Logits = Float[Tensor, "*stream batch pos out"]


def list_streams(model: Transformer) -> list[tuple[str, int]]:
    """The sites of the stream that differ, in the order of computation; resid_post of a layer is resid_pre of the next.

    ValueError for a model without layers, which has no stream to look into.

    >>> from mini_transformer import Config
    >>> list_streams(Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, d_mlp=8)))
    [('resid_pre', 0), ('resid_mid', 0), ('resid_post', 0)]
    """
    if not model.config.n_layers:
        raise ValueError(
            "the model has no layers, but a lens needs at least one: its logits are read off the embedding"
        )
    sites = ["resid_mid", "resid_post"] if model.config.d_mlp else ["resid_post"]
    return [("resid_pre", 0)] + [
        (site, layer) for layer in range(model.config.n_layers) for site in sites
    ]


def apply_logit_lens(model: Transformer, tokens: Tokens) -> Float[Tensor, "stream batch pos out"]:
    """Logits read off every stream of `list_streams(model)`, each with the final norm on its own scale, then W_U and b_U.

    The last are the model's own logits; ValueError if they are not, since then a hook changed what comes after the stream.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> ranks = rank_answer(apply_logit_lens(case.model, batch.clean), batch.answer)
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
            "the last stream does not give the model's own logits: a hook changed what the final norm put out"
        )
    return logits


def read_probability(
    logits: Logits, answer: TokenIds, position: TokenIds | int = -1
) -> Float[Tensor, "*stream batch"]:
    """The probability of each prompt's answer at `position`, read off each stream.

    ValueError for an answer or a position that does not exist.

    >>> logits = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).log().view(2, 1, 1, 2)  # two streams, one prompt of one token
    >>> read_probability(logits, torch.tensor([1]))
    tensor([[0.7500],
            [0.5000]])
    """
    return select(widen(logits).softmax(dim=-1), answer, position)[1].to(logits.dtype)


def rank_answer(
    logits: Logits, answer: TokenIds, position: TokenIds | int = -1
) -> Integer[Tensor, "*stream batch"]:
    """The rank of each prompt's answer at `position` among all tokens, 1 for the highest logit; a tie counts as lost.

    So does a comparison with nan.

    The logits may be of streams, or of one run (b, t, v). Where all tokens are about equally likely a rank is noise: look at
    the probability as well.

    >>> rank_answer(torch.tensor([1.0, 3.0, 2.0, 2.0]).view(1, 1, 1, 4), torch.tensor([2]))
    tensor([[3]])
    """
    everything, own = select(logits, answer, position)
    return (~(everything < own.unsqueeze(-1))).sum(dim=-1)


def measure_divergence(logits: Float[Tensor, "stream batch pos out"]) -> Float[Tensor, "stream"]:
    """KL from the last stream's distribution to that read off each stream, in nats, mean over prompts and positions.

    How far a lens is from what the model says in the end; it is 0 for the last stream. A token that can never come counts 0, unless a
    stream rules out one that can: that is infinite. ValueError for no prompts.

    >>> measure_divergence(torch.tensor([[0.0, 0.0], [9.0, -9.0]]).view(2, 1, 1, 2))
    tensor([0.6931, 0.0000])
    """
    if not logits.numel():
        raise ValueError(
            f"logits are {tuple(logits.shape)}, but a mean needs at least one prompt and position"
        )
    logs = widen(logits).log_softmax(dim=-1)
    return compute_divergence(logs[-1], logs).mean(dim=(1, 2))


def compute_divergence(target: Tensor, logs: Tensor) -> Tensor:
    """KL from the target's distribution to the other, from log-probabilities; 0 log 0 is 0, also for the gradient."""
    p = target.exp()
    return (p * (target - logs).masked_fill(p == 0, 0.0)).sum(dim=-1)


def select(values: Logits, answer: TokenIds, position: TokenIds | int) -> tuple[Tensor, Tensor]:
    """The values of all tokens at each prompt's position, (..., b, v), and those of the answers, (..., b)."""
    batch, length, v = values.shape[-3:]
    if not batch:
        raise ValueError("the logits hold no prompts, but at least one is needed")
    row = torch.arange(batch, device=values.device)
    position = torch.full_like(row, position) if isinstance(position, int) else position
    here = values[
        ..., row, check_ids("position", position, batch, -length, length).to(row.device), :
    ]
    return here, here[..., row, check_ids("answer", answer, batch, 0, v).to(row.device)]


def read_streams(
    model: Transformer, tokens: Tokens
) -> tuple[Float[Tensor, "stream batch pos d_model"], Float[Tensor, "batch pos out"]]:
    """The streams of `list_streams`, stacked, and the logits of the same run."""
    sites = list_streams(model)
    if not tokens.numel():
        raise ValueError(
            f"tokens are {tuple(tokens.shape)}, but a lens needs at least one prompt and position"
        )
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=[*sites])
    return torch.stack([cache[site] for site in sites]), logits


def decode(
    model: Transformer, stream: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch out"]:
    """Logits of any stream by the final norm, W_U and b_U, past all hooks; differentiable in the stream."""
    normalized = stream if model.ln_final is None else model.ln_final.normalize(stream)
    logits = normalized @ model.W_U
    return logits if model.b_U is None else logits + model.b_U


@without_autocast()
def measure_terms(
    model: Transformer, stream: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch out"]:
    """The size of the terms that add up to each logit, which their rounding goes with."""
    normalized = stream if model.ln_final is None else model.ln_final.normalize(stream)
    normalized, W_U = meet(normalized.abs(), model.W_U.abs())
    size = normalized @ W_U
    return size if model.b_U is None else size + model.b_U.abs().to(size)
