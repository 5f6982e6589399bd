"""A neuron from its weights: one direction that it reads, and one that it writes.

What excites a neuron is the cosine of its input direction (a column of W_in) with each token's
embedding. Which logits it raises is the cosine of its output direction (a row of W_out) with each
column of the unembedding. Directions are taken through the norms, gain and centring, so these are
the angles that the model works with; a cosine has no scale that a norm could change. The cosine of
the two directions says whether a neuron adds to what it reads (towards 1) or takes it away (towards
-1).

Weights alone know what comes straight from the embedding: a neuron that reads what heads wrote
looks idle, so measure it on data, too. Random directions have cosines of about 1 / sqrt(d_model),
not 0.
Sources: Geva et al. 2021 (2012.14913) on MLPs as keys and values; Geva et al. 2022 (2203.14680) on
values in the vocabulary; Gurnee et al. 2024 (2401.12181) on the cosine of input and output.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.methods.arguments import Tokens, find_mlp
from mini_transformer.methods.numerics import find_scale, widen, without_autocast
from mini_transformer.methods.weights.norms import centre, read_through
from mini_transformer.model import Transformer

__all__ = ["Neurons", "measure_excitation", "read_neurons"]


class Neurons(NamedTuple):
    """Directions in the stream, (neuron, d_model), and cosines."""

    reads: Float[Tensor, "neuron d_model"]
    writes: Float[Tensor, "neuron d_model"]
    excited_by: Float[Tensor, "neuron token"]
    raises: Float[Tensor, "neuron out"]
    feeds_itself: Float[Tensor, "neuron"]


@torch.no_grad()
@without_autocast()
def read_neurons(model: Transformer, layer: int) -> Neurons:
    """Read from a layer's weights what each neuron reads and writes, in stream and tokens.

    Cosines are from -1 to 1, and 0 with a direction of zero. Times the lengths of both directions
    they are what enters a neuron when the (normalised) stream is one token's embedding, biases
    aside. A rise that all logits share changes no probability: for logits as they compare, read
    `weights.center_unembed(model)`. Half precision is computed and returned in float32. ValueError
    for a layer without MLP.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=16, n_layers=1, d_mlp=4))
    >>> model.blocks[0].mlp.W_in.data[:, 2] = model.W_E[7]
    >>> model.blocks[0].mlp.W_out.data[2] = model.W_U[:, 3]
    >>> neurons = read_neurons(model, 0)
    >>> neurons.excited_by[2].argmax().item(), neurons.raises[2].argmax().item()
    (7, 3)
    """
    mlp = find_mlp(model, layer)
    norm = model.blocks[layer].ln2
    final = model.ln_final
    reads = read_through(norm, mlp.W_in).T
    writes = widen(mlp.W_out)
    fed = centre(norm, writes)
    return Neurons(
        reads.clone(),  # not the model's weights
        writes.clone(),
        excited_by=compare_rows(reads, centre(norm, widen(model.W_E))),
        raises=compare_rows(centre(final, writes), read_through(final, model.W_U).T),
        feeds_itself=F.cosine_similarity(scale_rows(reads), scale_rows(fed), dim=1, eps=1e-12),
    )


@torch.no_grad()
def measure_excitation(
    model: Transformer, layer: int, tokens: Tokens
) -> Float[Tensor, "neuron token"]:
    """Measure the mean activation (`hook_post`) of each neuron where each token stands.

    It is nan where the token never stands in these prompts. The counterpart, on data, of
    `read_neurons(...).excited_by`. ValueError for a layer without MLP, or no prompts.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> prompts = case.task.everything().distinct().clean
    >>> round(measure_excitation(case.model, 0, prompts)[0, 3].item(), 2)  # 1 AND 1
    0.25
    """
    find_mlp(model, layer)
    if not tokens.numel():
        raise ValueError(
            f"tokens are {tuple(tokens.shape)}, but a mean needs at least one prompt of one token"
        )
    _, cache = model.run_with_cache(tokens, names_filter=("post", layer))
    here = F.one_hot(tokens.flatten().long(), model.config.d_vocab).to(widen(model.W_E))  # b*t v
    with without_autocast():
        return cache["post", layer].flatten(0, 1).to(here).T @ here / here.sum(dim=0)


def compare_rows(
    a: Float[Tensor, "row d_model"], b: Float[Tensor, "other d_model"]
) -> Float[Tensor, "row other"]:
    """Compute the cosine of each row of `a` with each row of `b`."""
    return F.normalize(scale_rows(a), dim=1) @ F.normalize(scale_rows(b), dim=1).T


def scale_rows(rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    """Scale rows until their largest entry is about 1: only a row of zeros then has no length."""
    return rows / find_scale(rows, dim=(1,))
