"""Train dictionaries of six architectures: autoencoders, transcoders, crosscoders.

A transcoder maps a layer's input to its output; a crosscoder has one set of codes for two models.
All minimise the squared error of the reconstruction and differ in what makes codes few;
`sparse_losses` holds one loss each. Latents that did not fire in the last tenth of the run are
restarted on examples that are rebuilt badly (Bricken et al. 2023). A low error does not say that
the directions are the right ones: several dictionaries explain the same activations.
Sources: Bricken et al. 2023; Gao et al. 2024 (2406.04093); Dunefsky et al. 2024 (2406.11944) on
transcoders; Lindsey et al. 2024 on crosscoders and model diffing.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import Activations, check_activations
from mini_transformer.methods.numerics import find_scale, widen, without_autocast
from mini_transformer.methods.representations.dictionaries import Dictionary
from mini_transformer.methods.representations.draft_training import (
    check_training,
    standardize,
    train_draft,
)
from mini_transformer.methods.representations.sparse_losses import LOSSES, PENALTIES, Draft

__all__ = ["measure_share_of_second", "train_crosscoder", "train_dictionary", "train_transcoder"]


@without_autocast()
def train_dictionary(
    activations: Activations,
    n_latents: int,
    architecture: str = "topk",
    k: int = 4,
    penalty: float | int | None = None,
    steps: int = 2000,
    batch: int = 512,
    lr: float | int = 3e-3,
    seed: int = 0,
    outputs: Float[Tensor, "n out"] | None = None,
    widths: Sequence[int] = (),
) -> Dictionary:
    """Train a sparse autoencoder with `n_latents` latents.

    `architecture` is "l1", "topk", "batchtopk", "matryoshka", "gated" or "jumprelu". There are `k`
    codes per row in "topk", on average in "batchtopk" and "matryoshka". The others are as sparse as
    `penalty` makes them, in units of the activations' variance; its defaults were found on planted
    features. With `outputs` the dictionary learns to write those instead (a transcoder). `widths`
    are those of the parts that they consist of (a crosscoder: "l1" then counts the norm of each
    part). ValueError for impossible sizes.

    >>> codes = (torch.rand(1000, 6, generator=torch.Generator().manual_seed(0)) - 0.8).relu()
    >>> found = train_dictionary(codes, n_latents=6, k=3, steps=500)
    >>> found.explained_variance(codes) > 0.9
    True
    """
    outputs = activations if outputs is None else outputs
    penalty = PENALTIES.get(architecture, 0.0) if penalty is None else penalty
    check_training(activations, outputs, n_latents, architecture, k, penalty, batch, widths)
    x, *x_units = standardize(activations)
    y, *y_units = standardize(outputs.to(activations.device))
    d, out = x.shape[1], y.shape[1]
    generator = torch.Generator().manual_seed(seed)
    draft = Draft.start(d, out, n_latents, widths or (out,), k, penalty, generator, x.device)
    train_draft(
        draft,
        x,
        y,
        LOSSES[architecture],
        draft.parameters(architecture),
        steps,
        batch,
        lr,
        generator,
    )
    found = draft.finish(architecture, *x_units, *y_units)
    dtype = widen(activations[:0]).dtype
    return Dictionary(
        **{name: value.to(dtype) for name, value in found.items()},
        k=k if architecture == "topk" else 0,
    )


def train_transcoder(
    inputs: Activations,
    outputs: Float[Tensor, "n out"],
    n_latents: int,
    architecture: str = "topk",
    k: int = 4,
    **settings,
) -> Dictionary:
    """Train sparse codes of what a component reads to rebuild what it writes.

    A readable stand-in for an MLP. Settings are those of `train_dictionary`.

    >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    >>> transcoder = train_transcoder(x, x.relu(), n_latents=6, k=3, steps=500)
    >>> transcoder.explained_variance(x, x.relu()) > 0.95
    True
    """
    return train_dictionary(inputs, n_latents, architecture, k, outputs=outputs, **settings)


@without_autocast()
def train_crosscoder(
    first: Activations,
    second: Float[Tensor, "n other"],
    n_latents: int,
    architecture: str = "topk",
    k: int = 4,
    **settings,
) -> Dictionary:
    """Train one set of codes for the activations of two models (or layers) on the same inputs.

    The two stand side by side along the last axis. Both should be of similar size: scale them if
    not. `measure_share_of_second` says to which of the two a latent belongs.

    >>> codes = (torch.rand(1000, 4, generator=torch.Generator().manual_seed(0)) - 0.8).relu()
    >>> found = train_crosscoder(codes, 2 * codes.flip(1), n_latents=8, k=3, steps=500)
    >>> found.explained_variance(torch.cat([codes, 2 * codes.flip(1)], dim=1)) > 0.9
    True
    """
    check_activations(first, "the first activations")
    check_activations(second, "the second activations")
    if len(first) != len(second):
        given = f"there are {len(first)} rows of the first and {len(second)} of the second"
        raise ValueError(f"{given}: give the same inputs")
    both = torch.cat([first, second], dim=1)
    widths = first.shape[1], second.shape[1]
    return train_dictionary(both, n_latents, architecture, k, widths=widths, **settings)


def measure_share_of_second(crosscoder: Dictionary, d_first: int) -> Float[Tensor, "latent"]:
    """Measure |second| / (|first| + |second|) of each latent's decoder.

    0 is in the first model only, 1 in the second only; nan for a latent that writes to neither.

    >>> both, zeros = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.zeros(3)
    >>> crosscoder = Dictionary(both.T, zeros, both, zeros[:2], zeros[:2], zeros)
    >>> measure_share_of_second(crosscoder, d_first=1)
    tensor([0.0000, 0.5714, 1.0000])
    """
    if not 0 < d_first < len(crosscoder.b_dec):
        most = len(crosscoder.b_dec) - 1
        raise ValueError(
            f"d_first is {d_first}, but must be from 1 to {most}: the first model's width"
        )
    W_dec = widen(crosscoder.W_dec)
    W_dec = W_dec / find_scale(W_dec, dim=(1,))
    first, second = (part.norm(dim=1) for part in W_dec.tensor_split([d_first], dim=1))
    return second / (first + second)
