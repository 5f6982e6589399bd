"""Direct logit attribution: what each component writes straight into a logit, in the model's own units.

Logits are linear in the last residual stream once the final norm's scale is held at what it was, and the stream is a sum, so a logit
is a sum too: over components, a head's share over the positions that it attends to, an MLP's over its neurons. What a component does
*through* later ones is not in it: an early head that everything depends on can score zero. And what a head moves from a position is
all that the stream holds there, which may have come from other positions before.
Sources: Elhage et al. 2021 ("logit attribution"); Wang et al. 2022, section 3; nostalgebraist 2020.

Checked against: the model's own logits, on every use, slow loops in which one neuron or one position is taken out behind a frozen norm, and
TransformerLens 3.9 on the same weights.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mini_transformer.hooks import ActivationCache
from mini_transformer.methods.arguments import find_epsilon, make_ordinary, meet, without_autocast
from mini_transformer.model import Transformer

TokenIds = Integer[Tensor, "batch"] | Bool[Tensor, "batch"]


def attribute_logits(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None = None,
    position: TokenIds | int = -1,
) -> dict[str, Float[Tensor, "batch"]]:
    """Per component, what it adds to logit(answer) - logit(wrong) at `position`; with no `wrong`, to logit(answer).

    Labels are those of `model.decompose`, and `bias` for what no component wrote (b_U, the final norm's bias): infinite where b_U
    rules a token out, nan where it rules out both. The contributions add up to the logit difference; ValueError if they do not, up to
    the rounding of the run's dtype, since then the cache is not of a plain run. They are float32 at least.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> parts = attribute_logits(case.model, case.model.run_with_cache(batch.clean)[1], batch.answer, batch.wrong)
    >>> {name: round(part.mean().item(), 2) for name, part in parts.items()}["a1.h0"]
    20.0
    """
    readout = find_readout(model, cache, answer, wrong, position)
    written = model.decompose(cache)
    terms = {name: read(part, readout) for name, part in written.items()}
    size = (
        torch.stack([part.abs().sum(dim=-1) for part in terms.values()]).sum(dim=0)
        + readout.norm_bias.abs()
    )
    parts = {name: part.sum(dim=-1) for name, part in terms.items()}
    found = torch.stack([*parts.values(), readout.norm_bias]).sum(dim=0)
    epsilon = find_run_epsilon(model, cache)
    check_sum(found, readout.total, size, epsilon, "a hook changed what the final norm put out")
    return parts | {"bias": readout.norm_bias + readout.bias}


def attribute_logits_to_neurons(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None = None,
    position: TokenIds | int = -1,
) -> Float[Tensor, "batch layer neuron"]:
    """What each neuron adds to logit(answer) - logit(wrong) at `position`; with no `wrong`, to logit(answer).

    A neuron's activation times what its row of W_out says to the logits. Over the neurons of a layer they add up to what
    `attribute_logits` gives the MLP, less its b_out; ValueError if they do not, or if there are no MLPs.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> tokens, answer = torch.tensor([[1, 1, 2, 2, 2, 3], [1, 0, 2, 2, 2, 3]]), torch.tensor([1, 1])
    >>> by_neuron = attribute_logits_to_neurons(case.model, case.model.run_with_cache(tokens)[1], answer)
    >>> by_neuron[:, 0].round().tolist()
    [[20.0, 0.0], [0.0, 0.0]]
    """
    if not model.config.d_mlp or not model.config.n_layers:
        raise ValueError(
            "this model has no MLPs, so there are no neurons to attribute logits to: give d_mlp and n_layers"
        )
    readout, parts, found = (
        find_readout(model, cache, answer, wrong, position),
        model.decompose(cache),
        [],
    )
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
        epsilon = find_run_epsilon(model, cache)
        check_sum(
            neurons.sum(dim=-1),
            terms.sum(dim=-1),
            size,
            epsilon,
            "a hook changed what an MLP put out",
        )
        found.append(neurons)
    return torch.stack(found, dim=1)


def attribute_logits_to_sources(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None = None,
    position: TokenIds | int = -1,
) -> Float[Tensor, "batch layer head source"]:
    """What each head, by attending from `position` to each source position, adds to logit(answer) - logit(wrong).

    Attention times what the value there says to the logits. Over sources they add up to what `attribute_logits` gives the head;
    ValueError if they do not, or if there are no heads.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> tokens = torch.tensor([[0, 3, 1, 4, 3]])  # ... 3 1 ... 3: the answer 1 is fetched from position 2
    >>> by_source = attribute_logits_to_sources(case.model, case.model.run_with_cache(tokens)[1], torch.tensor([1]))
    >>> by_source[0, 1, 0].round().tolist()
    [0.0, 0.0, 20.0, 0.0, 0.0]
    """
    if not model.config.n_layers:
        raise ValueError(
            "this model has no layers, so there are no heads that could move anything between positions"
        )
    readout, parts = find_readout(model, cache, answer, wrong, position), model.decompose(cache)
    found = []
    for layer, block in enumerate(model.blocks):
        v, W_O, reads, pattern = meet(
            cache["v", layer], block.attn.W_O, readout.reads, cache["pattern", layer]
        )
        pattern = pattern.transpose(1, 2)[readout.at]
        with without_autocast():
            sources = pattern * torch.einsum("bknh,nhd,bd->bnk", v, W_O, reads)  # b n k
            sizes = pattern * torch.einsum("bknh,nhd,bd->bnk", v.abs(), W_O.abs(), reads.abs())
        epsilon = find_run_epsilon(model, cache)
        for head in range(model.config.n_heads):
            terms = read(parts[f"a{layer}.h{head}"], readout)
            size = sizes[:, head].sum(dim=-1) + terms.abs().sum(dim=-1)
            total = terms.sum(dim=-1)
            check_sum(
                sources[:, head].sum(dim=-1),
                total,
                size,
                epsilon,
                "a hook changed what a head put out",
            )
        found.append(sources)
    return torch.stack(found, dim=1)


class Readout(NamedTuple):
    """The logit difference as a linear function of the last stream x at one position: x @ reads + norm_bias + bias."""

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
    position: TokenIds | int,
) -> Readout:
    """How the logit difference reads the last stream, with the final norm's centring and gain, its scale held."""
    (batch, length, _), v = cache["embed"].shape, model.config.d_vocab_out
    columns = [check_ids("answer", answer, batch, 0, v)]
    columns += [] if wrong is None else [check_ids("wrong", wrong, batch, 0, v)]
    row = torch.arange(batch, device=cache["embed"].device)
    position = torch.full_like(row, position) if isinstance(position, int) else position
    at = row, check_ids("position", position, batch, -length, length).to(row.device)
    columns = [make_ordinary(ids.to(row.device)) for ids in columns]
    final, reads = meet(read_final(model, cache)[at], contrast(model.W_U.T, columns))  # b d
    bias = norm_bias = reads.new_zeros(batch)
    if model.b_U is not None:
        bias = contrast(model.b_U, columns).to(reads)
    total = (final * reads).sum(dim=-1)
    if (norm := model.ln_final) is not None:
        norm_bias = norm_bias if norm.b is None else reads @ norm.b.to(reads)
        reads = reads * norm.w
        reads = (
            reads - reads.mean(dim=-1, keepdim=True) if norm.centred else reads
        )  # instead of centring the stream
        reads = reads / cache["ln_final.hook_scale"][at].to(
            reads
        )  # the scale is held at what it was in this run
    return Readout(at, reads, norm_bias, bias, total)


def read(
    part: Float[Tensor, "batch pos d_model"], readout: Readout
) -> Float[Tensor, "batch d_model"]:
    """What each axis of a writer adds to the logit difference."""
    return part[readout.at].to(readout.reads) * readout.reads


def read_final(model: Transformer, cache: ActivationCache) -> Float[Tensor, "batch pos d_model"]:
    """What the unembedding read in this run: the final norm's output, or the last stream."""
    if model.ln_final is not None:
        return cache["ln_final.hook_normalized"]
    if model.config.n_layers:
        return cache["resid_post", -1]
    return torch.stack(list(model.decompose(cache).values())).sum(dim=0)


def find_run_epsilon(model: Transformer, cache: ActivationCache) -> float:
    """The epsilon of the coarsest dtype in this run: within torch.autocast heads compute in one, whatever the stream has."""
    return find_epsilon(
        cache["embed"], *(cache["z", layer] for layer in range(model.config.n_layers))
    )


def contrast(values: Tensor, columns: list[Tensor]) -> Tensor:
    """The row of the answer, minus that of the wrong token if there is one."""
    return values[columns[0]] - values[columns[1]] if len(columns) == 2 else values[columns[0]]


def check_sum(
    found: Float[Tensor, "batch"],
    total: Float[Tensor, "batch"],
    size: Float[Tensor, "batch"],
    epsilon: float,
    why: str,
) -> None:
    """ValueError, with why, unless the sum of contributions is the total, but for the rounding of terms of this size."""
    if not ((found - total).abs() <= 8 * epsilon * size).all():
        raise ValueError(f"the contributions do not add up to the logits: {why}")


def check_ids(what: str, ids: Tensor, batch: int, low: int, high: int) -> TokenIds:
    """The ids as int64; ValueError unless there is one integer per prompt, from low to high - 1."""
    if not batch:
        raise ValueError("the cache is of a run without prompts, but at least one is needed")
    if ids.is_floating_point() or ids.shape != (batch,):
        raise ValueError(
            f"{what} is {ids.dtype} {tuple(ids.shape)}, but must be one integer per prompt: ({batch},)"
        )
    ids = ids.to(torch.int64)
    if int(ids.min()) < low or int(ids.max()) >= high:
        raise ValueError(
            f"{what} runs from {int(ids.min())} to {int(ids.max())}, but must be {low} to {high - 1}"
        )
    return ids  # an index of bool or uint8 would be a mask
