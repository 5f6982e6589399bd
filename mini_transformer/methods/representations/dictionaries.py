"""Dictionaries: activations as sparse sums of more directions than there are dimensions.

Whatever way a dictionary was trained, it is used the same way: pre = relu((x - centre) W_enc +
b_enc); a code is pre where it is among the k highest of its row, or above its latent's threshold,
and else zero; the reconstruction is codes W_dec + b_dec. Rows of W_dec are unit vectors, so a code
is in units of the activation. A latent is only a direction that was useful for rebuilding
activations: edit it in the model to see what it does there, beside a random direction of the same
size.
Sources: Elhage et al. 2022 (2209.10652); Bricken et al. 2023; Templeton et al. 2024 on clamping
features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.hooks import HookName, HookPoint
from mini_transformer.methods.arguments import (
    Activations,
    Position,
    Tokens,
    check_activations,
    check_prompts,
    find_positions,
)
from mini_transformer.methods.numerics import (
    find_axes,
    measure_rounding,
    meet,
    widen,
    without_autocast,
)
from mini_transformer.methods.representations.sparse_losses import keep_top
from mini_transformer.model import Transformer
from mini_transformer.tensors import copy_fields

__all__ = ["Dictionary", "fit_supervised_dictionary", "scale_features"]

Codes = Float[Tensor, "*batch latent"]


@dataclass(frozen=True)
class Dictionary:
    """Encoder and decoder. `k` is 0 where thresholds decide.

    Inputs and outputs may differ in width (transcoder, crosscoder).
    """

    W_enc: Float[Tensor, "d latent"]
    b_enc: Float[Tensor, "latent"]
    W_dec: Float[Tensor, "latent out"]
    b_dec: Float[Tensor, "out"]
    centre: Float[Tensor, "d"]
    threshold: Float[Tensor, "latent"]
    k: int = 0

    def __post_init__(self) -> None:
        copy_fields(self)

    @without_autocast()
    def encode(self, activations: Float[Tensor, "*batch d"]) -> Codes:
        """Compute the codes of activations; ValueError for another width."""
        if activations.shape[-1:] != self.centre.shape:
            given = f"activations are {tuple(activations.shape)}"
            raise ValueError(f"{given}, but the dictionary takes (..., {len(self.centre)})")
        parts = meet(activations, self.centre, self.W_enc, self.b_enc, self.threshold)
        x, centre, W_enc, b_enc, threshold = parts
        pre = ((x - centre) @ W_enc + b_enc).relu()
        codes = keep_top(pre, self.k) if self.k else torch.where(pre > threshold, pre, 0.0)
        return codes.to(activations.dtype)

    @without_autocast()
    def decode(self, codes: Codes) -> Float[Tensor, "*batch out"]:
        """Rebuild activations from codes; ValueError for codes of another number of latents."""
        if codes.shape[-1:] != self.b_enc.shape:
            given = f"codes are {tuple(codes.shape)}"
            raise ValueError(f"{given}, but the dictionary has (..., {len(self.b_enc)})")
        wide, W_dec, b_dec = meet(codes, self.W_dec, self.b_dec)
        return (wide @ W_dec + b_dec).to(codes.dtype)

    def explained_variance(
        self, activations: Activations, outputs: Float[Tensor, "n out"] | None = None
    ) -> float:
        """Compute 1 - squared error / variance, over all axes together.

        The outputs to rebuild are by default the activations themselves. ValueError unless there is
        one output per row, and they vary.
        """
        outputs = activations if outputs is None else outputs
        check_activations(activations)
        shape = (len(activations), len(self.b_dec))
        if outputs.shape != shape or outputs.eq(outputs[:1]).all():
            given = f"outputs {tuple(outputs.shape)} for activations {tuple(activations.shape)}"
            raise ValueError(f"{given}, but must be {shape}, and not all the same")
        outputs = widen(outputs.to(activations.device))
        error = outputs - self.decode(self.encode(widen(activations)))
        return 1 - (error.square().sum() / (outputs - outputs.mean(dim=0)).square().sum()).item()


def scale_features(
    model: Transformer,
    tokens: Tokens,
    hook: HookName,
    dictionary: Dictionary,
    latents: Sequence[int] | Integer[Tensor, "listed"],
    factor: float | int = 0.0,
    position: Position = -1,
    reads: HookName | None = None,
) -> Float[Tensor, "batch pos out"]:
    """Run with the codes of `latents` multiplied by `factor`.

    Returns the logits. A factor of 0 takes the latents out, 2 doubles them. What the dictionary
    does not explain stays as it is: (factor - 1) code W_dec[latent] is added at `hook` and
    `position`. A latent that is listed twice counts once. A transcoder reads another hook, before
    it: `reads`, such as ("mlp_in", 0) for ("mlp_out", 0). KeyError for a latent that does not
    exist, ValueError for a dictionary that does not fit the hook.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=9, n_ctx=6, d_model=2, n_layers=1))
    >>> tokens, zeros, eye = torch.tensor([[1, 2, 3]]), torch.zeros(2), torch.eye(2)
    >>> axes = Dictionary(eye, zeros, eye, zeros, zeros, zeros)  # codes: the axes' positive parts
    >>> same = scale_features(model, tokens, ("resid_post", 0), axes, [0, 1], 1, None)
    >>> bool(torch.allclose(same, model(tokens)))
    True
    """
    check_prompts(tokens)
    latents = list(dict.fromkeys(int(i) for i in latents))
    n = len(dictionary.b_enc)
    if unknown := [i for i in latents if not 0 <= i < n]:
        raise KeyError(
            f"latent {unknown[0]} does not exist in this dictionary: it has 0 to {n - 1}"
        )
    at = find_positions(position, tokens.shape)
    widths = len(dictionary.centre), len(dictionary.b_dec)
    codes: list[Tensor] = []

    def check(value: Tensor, point: HookPoint, width: int) -> None:
        if value.ndim != 3 or value.shape[-1] != width:
            given = f"{point.name} is {tuple(value.shape)}"
            fits = f"{widths[0]} to {widths[1]}"
            raise ValueError(f"{given}, but the dictionary maps vectors of width {fits}")

    def read(value: Tensor, point: HookPoint) -> None:
        check(value, point, widths[0])
        codes.append(dictionary.encode(value[at])[..., latents])

    def edit(value: Tensor, point: HookPoint) -> None:
        check(value, point, widths[1])
        if not codes:
            raise ValueError(
                f"{reads!r} comes after {hook!r}, but the dictionary must read before it writes"
            )
        with without_autocast():
            now, found, W_dec = meet(value[at], codes[0], dictionary.W_dec[latents])
            value[at] = (now + (factor - 1) * found @ W_dec).to(value.dtype)

    with torch.no_grad():
        return model.run_with_hooks(
            tokens, fwd_hooks=[(hook if reads is None else reads, read), (hook, edit)]
        )


@without_autocast()
def fit_supervised_dictionary(
    activations: Activations, codes: Float[Tensor, "n latent"]
) -> Dictionary:
    """Fit a dictionary to known codes: a ceiling that no unsupervised one should beat.

    Decoder: least squares of activations on codes. Encoder: least squares of codes on activations,
    then the threshold per latent that tells active from inactive with the fewest errors. A latent
    that changes no activation has a direction of zero. ValueError for codes that depend on each
    other, up to the rounding of their dtype: their directions are not determined then.

    >>> codes = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)).sub(0.5).relu()
    >>> dictionary = fit_supervised_dictionary(codes @ torch.eye(3, 5), codes)
    >>> bool(torch.allclose(dictionary.W_dec, torch.eye(3, 5), atol=1e-5))
    True
    """
    check_activations(activations)
    check_activations(codes, "codes")
    if len(codes) != len(activations):
        given = f"there are {len(codes)} rows of codes for {len(activations)} of activations"
        raise ValueError(f"{given}: give one for each")
    x = activations.detach().double()
    f = codes.detach().to(activations.device).double()
    mean, base = x.mean(dim=0), f.mean(dim=0)
    n = f.shape[1]
    if len(find_axes(f - base, measure_rounding(codes).to(f))[0]) < n:
        raise ValueError(
            f"the codes of the {n} latents depend on each other: give more rows, or leave some out"
        )
    size = f.abs().amax(dim=0)
    unit = (x - mean).abs().amax()
    W_dec = torch.linalg.lstsq((f - base) / size, x - mean).solution
    silent = W_dec.norm(dim=1) <= 1e-12 * unit  # rounding: the latent changes nothing
    norms = torch.where(silent, 1.0, W_dec.norm(dim=1))
    W_dec = torch.where(silent[:, None], 0.0, W_dec / norms[:, None])
    f, base = f / size * norms, base / size * norms
    W_enc = invert(x - mean, measure_rounding(activations)) @ (f - base)
    pre = (x - mean) @ W_enc + base
    threshold = torch.stack([separate(pre[:, i], f[:, i] > 0) for i in range(n)])
    dtype = widen(activations[:0]).dtype
    found = (W_enc, base, W_dec, mean - base @ W_dec, mean, threshold)
    W_enc, base, W_dec, b_dec, mean, threshold = (part.to(dtype) for part in found)
    return Dictionary(W_enc, base, W_dec, b_dec, mean, threshold)


def invert(rows: Float[Tensor, "n d"], rounding: Float[Tensor, "d"]) -> Float[Tensor, "d n"]:
    """Invert rows along as many directions as are above the rounding of each column."""
    U, S, Vh = torch.linalg.svd(rows, full_matrices=False)
    rank = len(find_axes(rows, rounding)[0])
    return (Vh[:rank].T / S[:rank]) @ U[:, :rank].T


def separate(values: Float[Tensor, "n"], active: Tensor) -> Float[Tensor, ""]:
    """Find the threshold, from 0, above which `values` say best which rows are active."""
    order = values.argsort()
    active = active[order]
    none = active.new_zeros(1).long()
    missed = torch.cat([none, active.cumsum(0)])  # active rows at or below the cut
    false = (~active).sum() - torch.cat([none, (~active).cumsum(0)])  # inactive rows above it
    cut = int((missed + false).argmin())
    beyond = values.abs().amax()
    edges = torch.cat([values[order][:1] - beyond, values[order], values[order][-1:] + beyond])
    return ((edges[cut] + edges[cut + 1]) / 2).clamp(min=0.0)
