"""Building blocks for models whose weights are set by hand.

The weights are set in named directions of the residual stream. A `Stream` gives each piece of
information its own orthonormal directions. Each block below sets one part of one component; a
construction made of them reads like the mechanism that it implements. Models start blank: all
weights zero.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.model import Config, Transformer

Directions = Float[Tensor, "_count d_model"]


class Stream:
    """Named groups of orthonormal directions that share one residual stream.

    >>> stream = Stream(token=3, position=2)
    >>> stream.d_model, tuple(stream["position"].shape)
    (5, (2, 5))
    """

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.d_model = sum(sizes.values())
        parts = torch.eye(self.d_model).split(list(sizes.values()))
        self.groups = dict(zip(sizes, parts, strict=True))

    def __getitem__(self, name: str) -> Directions:
        if name not in self.groups:
            raise KeyError(
                f"no directions are called {name!r}; this stream has {list(self.groups)}"
            )
        return self.groups[name]


def make_blank(config: Config) -> Transformer:
    """Make a model whose weights are all zero (norm gains stay one)."""
    model = Transformer(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float(name.endswith(".w")))
    return model


@torch.no_grad()
def write_embedding(
    model: Transformer, token: Directions, position: Directions | None = None
) -> None:
    """Write token i along token[i], and position i along position[i]."""
    model.W_E.copy_(token)
    if position is not None:
        model.W_pos.copy_(position)


@torch.no_grad()
def attend_where_equal(
    model: Transformer, layer: int, head: int, query: Directions, key: Directions, strength: float
) -> None:
    """Let a head attend where row i of `query` meets row i of `key`.

    A match adds `strength` to the attention score.
    """
    attn = model.blocks[layer].attn
    attn.W_Q[head, :, : len(query)] = query.T * strength * attn.scale
    attn.W_K[head, :, : len(key)] = key.T


def attend_to_previous(
    model: Transformer, layer: int, head: int, position: Directions, strength: float
) -> None:
    """Let the query at position i attend to the key at position i - 1."""
    attend_where_equal(model, layer, head, position[1:], position[:-1], strength)


@torch.no_grad()
def copy_directions(
    model: Transformer, layer: int, head: int, source: Directions, target: Directions
) -> None:
    """Let a head read along source[i], where it attends, and write along target[i]."""
    attn = model.blocks[layer].attn
    attn.W_V[head, :, : len(source)] = source.T
    attn.W_O[head, : len(target)] = target


@torch.no_grad()
def read_out(model: Transformer, directions: Directions, strength: float) -> None:
    """Set the logit of token i to `strength` times the stream along directions[i]."""
    model.W_U.copy_(directions.T * strength)


@torch.no_grad()
def look_up(
    model: Transformer,
    layer: int,
    neuron: int,
    reads: Float[Tensor, "d_model"],
    bias: float,
    writes: Float[Tensor, "d_model"],
) -> None:
    """Set one neuron: act(stream . reads + bias) is written along `writes`."""
    mlp = model.blocks[layer].mlp
    if mlp is None or (bias and mlp.b_in is None):
        raise ValueError(
            f"layer {layer} has no MLP, or no biases, to look something up: "
            "give Config d_mlp and biases"
        )
    mlp.W_in[:, neuron] = reads
    mlp.W_out[neuron] = writes
    if mlp.b_in is not None:
        mlp.b_in[neuron] = bias


def place_heads(seed: int, n_layers: int, n_heads: int) -> list[list[int]]:
    """Choose which head of each layer plays its first role, its second, and so on.

    They are in order for seed 0, shuffled for all others.

    >>> place_heads(0, n_layers=2, n_heads=2)
    [[0, 1], [0, 1]]
    """
    return [shuffle(n_heads, seed, salt=layer).tolist() for layer in range(n_layers)]


def shuffle(n: int, seed: int, salt: int = 0) -> Int[Tensor, "n"]:
    """Order the numbers 0 .. n-1: ascending for seed 0, at random for all others.

    Equal arguments give equal orders.
    """
    if seed == 0:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(1_000_003 * seed + salt))
