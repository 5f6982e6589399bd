"""What lenses share: the streams of a model, and reading logits off them."""

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.methods.arguments import Tokens
from mini_transformer.model import Transformer

__all__ = ["compute_divergence", "decode", "list_streams", "read_streams"]


def list_streams(model: Transformer) -> list[tuple[str, int]]:
    """List the sites of the stream that differ, in the order of computation.

    resid_post of a layer is resid_pre of the next. ValueError for a model without layers, which has
    no stream to look into.

    >>> from mini_transformer import Config
    >>> list_streams(Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1, d_mlp=8)))
    [('resid_pre', 0), ('resid_mid', 0), ('resid_post', 0)]
    """
    if not model.config.n_layers:
        raise ValueError(
            "the model has no layers, but a lens needs at least one: "
            "its logits are read off the embedding"
        )
    sites = ["resid_mid", "resid_post"] if model.config.d_mlp else ["resid_post"]
    later = [(site, layer) for layer in range(model.config.n_layers) for site in sites]
    return [("resid_pre", 0), *later]


def read_streams(
    model: Transformer, tokens: Tokens
) -> tuple[Float[Tensor, "stream batch pos d_model"], Float[Tensor, "batch pos out"]]:
    """Read the streams of `list_streams`, stacked, and the logits of the same run."""
    sites = list_streams(model)
    if not tokens.numel():
        given = f"tokens are {tuple(tokens.shape)}"
        raise ValueError(f"{given}, but a lens needs at least one prompt and position")
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=[*sites])
    return torch.stack([cache[site] for site in sites]), logits


def decode(
    model: Transformer, stream: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch out"]:
    """Read logits off any stream by the final norm, W_U and b_U, past all hooks.

    They are differentiable in the stream.
    """
    normalized = stream if model.ln_final is None else model.ln_final.normalize(stream)
    logits = normalized @ model.W_U
    return logits if model.b_U is None else logits + model.b_U


def compute_divergence(target: Tensor, logs: Tensor) -> Tensor:
    """Compute KL from the target's distribution to the other, from log-probabilities.

    0 log 0 is 0, also for the gradient.
    """
    p = target.exp()
    return (p * (target - logs).masked_fill(p == 0, 0.0)).sum(dim=-1)
