"""Direct logit attribution: what each component writes straight into a logit.

It is in the model's own units. Logits are linear in the last residual stream once the final norm's
scale is held at what it was, and the stream is a sum, so a logit is a sum too: over components, a
head's share over the positions that it attends to, an MLP's over its neurons. What a component does
*through* later ones is not in it: an early head that everything depends on can score zero. And what
a head moves from a position is all that the stream holds there, which may have come from other
positions before.
Sources: Elhage et al. 2021 ("logit attribution"); Wang et al. 2022, section 3; nostalgebraist 2020.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.hooks import ActivationCache
from mini_transformer.methods.arguments import Position, TokenIds, check_ids, find_place
from mini_transformer.methods.numerics import find_epsilon, meet, without_autocast
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = ["attribute_logits", "attribute_logits_to_neurons", "attribute_logits_to_sources"]


def attribute_logits(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None = None,
    position: Position = -1,
) -> dict[str, Float[Tensor, "batch"]]:
    """Attribute logit(answer) - logit(wrong) at `position` to the components that wrote it.

    With no `wrong`, it is logit(answer). Labels are those of `model.decompose`, and `bias` for what
    no component wrote (b_U, the final norm's bias): infinite where b_U rules a token out, nan where
    it rules out both. The contributions, float32 at least, add up to the logit difference.
    ValueError if they do not, up to the rounding of the run's dtype, since then the cache is not of
    a plain run; and for no position in particular.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> cache = case.model.run_with_cache(batch.clean)[1]
    >>> parts = attribute_logits(case.model, cache, batch.answer, batch.wrong)
    >>> round(parts["a1.h0"].mean().item(), 2)
    20.0
    """
    readout = find_readout(model, cache, answer, wrong, position)
    terms = {name: read(part, readout) for name, part in model.decompose(cache).items()}
    sizes = torch.stack([part.abs().sum(dim=-1) for part in terms.values()])
    parts = {name: part.sum(dim=-1) for name, part in terms.items()}
    found = torch.stack([*parts.values(), readout.norm_bias]).sum(dim=0)
    size = sizes.sum(dim=0) + readout.norm_bias.abs()
    epsilon = find_run_epsilon(model, cache)
    check_sum(found, readout.total, size, epsilon, "a hook changed what the final norm put out")
    return parts | {"bias": readout.norm_bias + readout.bias}


def attribute_logits_to_neurons(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None = None,
    position: Position = -1,
) -> Float[Tensor, "batch layer neuron"]:
    """Attribute logit(answer) - logit(wrong) at `position` to each neuron.

    With no `wrong`, it is logit(answer). A neuron's share is its activation times what its row of
    W_out says to the logits. Over the neurons of a layer the shares add up to what
    `attribute_logits` gives the MLP, less its b_out; ValueError if they do not, or if there are no
    MLPs.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> tokens = torch.tensor([[1, 1, 2, 2, 2, 3], [1, 0, 2, 2, 2, 3]])
    >>> cache = case.model.run_with_cache(tokens)[1]
    >>> attribute_logits_to_neurons(case.model, cache, torch.tensor([1, 1]))[:, 0].round().tolist()
    [[20.0, 0.0], [0.0, 0.0]]
    """
    if not model.config.d_mlp or not model.config.n_layers:
        raise ValueError(
            "this model has no MLPs, so there are no neurons to attribute logits to: "
            "give d_mlp and n_layers"
        )
    readout = find_readout(model, cache, answer, wrong, position)
    parts = model.decompose(cache)
    epsilon = find_run_epsilon(model, cache)
    found = []
    for layer, block in enumerate(model.blocks):
        assert block.mlp is not None
        post, reads, W_out = meet(cache["post", layer][readout.at], readout.reads, block.mlp.W_out)
        with without_autocast():
            neurons = post * (reads @ W_out.T)  # b f
            size = (post.abs() * (reads.abs() @ W_out.abs().T)).sum(dim=-1)
        terms = read(parts[f"m{layer}"], readout)
        if block.mlp.b_out is not None:
            terms = torch.cat([terms, -reads * block.mlp.b_out], dim=1)
        size = size + terms.abs().sum(dim=-1)
        why = "a hook changed what an MLP put out"
        check_sum(neurons.sum(dim=-1), terms.sum(dim=-1), size, epsilon, why)
        found.append(neurons)
    return torch.stack(found, dim=1)


def attribute_logits_to_sources(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None = None,
    position: Position = -1,
) -> Float[Tensor, "batch layer head source"]:
    """Attribute logit(answer) - logit(wrong) at `position` to the positions attended to.

    With no `wrong`, it is logit(answer). The share of a head and a source position is the head's
    attention from `position` to it, times what the value there says to the logits. Over sources the
    shares add up to what `attribute_logits` gives the head; ValueError if they do not, or if there
    are no heads.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> tokens = torch.tensor([[0, 3, 1, 4, 3]])  # ... 3 1 ... 3: fetches the 1 from position 2
    >>> cache = case.model.run_with_cache(tokens)[1]
    >>> by_source = attribute_logits_to_sources(case.model, cache, torch.tensor([1]))
    >>> by_source[0, 1, 0].round().tolist()
    [0.0, 0.0, 20.0, 0.0, 0.0]
    """
    if not model.config.n_layers:
        raise ValueError(
            "this model has no layers, so there are no heads that could move anything "
            "between positions"
        )
    readout = find_readout(model, cache, answer, wrong, position)
    parts = model.decompose(cache)
    epsilon = find_run_epsilon(model, cache)
    found = []
    for layer, block in enumerate(model.blocks):
        v, W_O, reads, pattern = meet(
            cache["v", layer], block.attn.W_O, readout.reads, cache["pattern", layer]
        )
        pattern = pattern.transpose(1, 2)[readout.at]
        with without_autocast():
            sources = pattern * torch.einsum("bknh,nhd,bd->bnk", v, W_O, reads)  # b n k
            sizes = pattern * torch.einsum("bknh,nhd,bd->bnk", v.abs(), W_O.abs(), reads.abs())
        for head in range(model.config.n_heads):
            terms = read(parts[f"a{layer}.h{head}"], readout)
            size = sizes[:, head].sum(dim=-1) + terms.abs().sum(dim=-1)
            share = sources[:, head].sum(dim=-1)
            why = "a hook changed what a head put out"
            check_sum(share, terms.sum(dim=-1), size, epsilon, why)
        found.append(sources)
    return torch.stack(found, dim=1)


class Readout(NamedTuple):
    """The logit difference as a linear function of the last stream x at one position.

    It is x @ reads + norm_bias + bias.
    """

    at: tuple[Integer[Tensor, "batch"], Integer[Tensor, "batch"]]  # prompt and position
    reads: Float[Tensor, "batch d_model"]
    norm_bias: Float[Tensor, "batch"]
    bias: Float[Tensor, "batch"]  # b_U
    total: Float[Tensor, "batch"]  # what it was in this run, less b_U, which may be infinite


@without_autocast()
def find_readout(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None,
    position: Position,
) -> Readout:
    """Find how the logit difference reads the last stream.

    The final norm takes part with its centring and gain; its scale is held.
    """
    batch, v = len(cache["embed"]), model.config.d_vocab_out
    columns = [check_ids("answer", answer, batch, v)]
    if wrong is not None:
        columns.append(check_ids("wrong", wrong, batch, v))
    columns = [make_ordinary(ids.to(cache["embed"].device)) for ids in columns]
    at = find_place(position, cache["embed"].shape)
    final, reads = meet(read_final(model, cache)[at], contrast(model.W_U.T, columns))  # b d
    bias = norm_bias = reads.new_zeros(batch)
    if model.b_U is not None:
        bias = contrast(model.b_U, columns).to(reads)
    total = (final * reads).sum(dim=-1)
    if (norm := model.ln_final) is not None:
        if norm.b is not None:
            norm_bias = reads @ norm.b.to(reads)
        reads = reads * norm.w
        if norm.centred:  # instead of centring the stream
            reads = reads - reads.mean(dim=-1, keepdim=True)
        reads = reads / cache["ln_final.hook_scale"][at].to(reads)
    return Readout(at, reads, norm_bias, bias, total)


def read(
    part: Float[Tensor, "batch pos d_model"], readout: Readout
) -> Float[Tensor, "batch d_model"]:
    """Read what each axis of a writer adds to the logit difference."""
    return part[readout.at].to(readout.reads) * readout.reads


def read_final(model: Transformer, cache: ActivationCache) -> Float[Tensor, "batch pos d_model"]:
    """Read what the unembedding read in this run: the final norm's output, or the last stream."""
    if model.ln_final is not None:
        return model.ln_final.amplify(cache["ln_final.hook_normalized"])
    if model.config.n_layers:
        return cache["resid_post", -1]
    return torch.stack(list(model.decompose(cache).values())).sum(dim=0)


def find_run_epsilon(model: Transformer, cache: ActivationCache) -> float:
    """Find the epsilon of the coarsest dtype in this run.

    Within torch.autocast heads compute in one dtype, whatever the stream has.
    """
    heads = (cache["z", layer] for layer in range(model.config.n_layers))
    return find_epsilon(cache["embed"], *heads)


def contrast(values: Tensor, columns: list[Tensor]) -> Tensor:
    """Subtract the row of the wrong token, if there is one, from that of the answer."""
    return values[columns[0]] - values[columns[1]] if len(columns) == 2 else values[columns[0]]


def check_sum(
    found: Float[Tensor, "batch"],
    total: Float[Tensor, "batch"],
    size: Float[Tensor, "batch"],
    epsilon: float,
    why: str,
) -> None:
    """Raise ValueError, with why, unless the contributions add up to the total.

    They may be off by the rounding of terms of this size.
    """
    if not ((found - total).abs() <= 8 * epsilon * size).all():
        raise ValueError(f"the contributions do not add up to the logits: {why}")
