"""Models that Tracr compiled, carried over weight by weight."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.checkpoints import read_tensors
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

BOS, PAD = "BOS", "PAD"


@dataclass(frozen=True)
class Compiled:
    """A compiled model, its tokens, and the directions of its stream by name.

    `directions[name]` has a row for each of `values[name]`; a number has one row, and no values.
    """

    model: Transformer
    tokens: tuple[str, ...]
    directions: dict[str, Float[Tensor, "_values d_model"]]
    values: dict[str, tuple[str, ...]]


def find_file(name: str) -> Path:
    return Path(__file__).parent / "models" / f"{name}.safetensors"


def load_compiled(path: str | Path) -> Compiled:
    """Read what `compile.py` wrote, into a Transformer that computes the same.

    >>> load_compiled(find_file("length")).values["length"]
    ('0', '1', '2', '3', '4')
    """
    tensors, facts = read_tensors(path)
    labels = [label.partition(":")[::2] for label in facts["directions"]]
    rows: dict[str, list[int]] = {}
    for row, (name, _) in enumerate(labels):
        rows.setdefault(name, []).append(row)
    stream = torch.eye(len(labels))
    directions = {name: stream[own] for name, own in rows.items()}
    values = {name: tuple(labels[row][1] for row in own) for name, own in rows.items()}
    model = fill(tensors, facts["heads"], directions[facts["output"]])
    return Compiled(model, tuple(facts["tokens"]), directions, values)


@torch.no_grad()
def fill(
    tensors: dict[str, Tensor],
    n_heads: int,
    output: Float[Tensor, "out d_model"],
    causal: bool = False,
) -> Transformer:
    """Carry Tracr's weights over, and its biases if any is not zero. The model reads `output`."""
    tokens = tensors["token_embed/embeddings"]
    positions = tensors["pos_embed/embeddings"]
    config = Config(
        d_vocab=len(tokens),
        n_ctx=len(positions),
        d_model=tokens.shape[1],
        n_layers=sum(name.endswith("attn/query/w") for name in tensors),
        n_heads=n_heads,
        d_head=len(tensors["transformer/layer_0/attn/linear/w"]) // n_heads,
        d_mlp=tensors["transformer/layer_0/mlp/linear_1/w"].shape[1],
        causal=causal,
        biases=any(name.endswith("/b") and one.any() for name, one in tensors.items()),
        d_vocab_out=len(output),
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, tokens, positions)
    by_hand.read_out(model, output, strength=1.0)
    for i, block in enumerate(model.blocks):
        assert block.mlp is not None
        for module, name, kind in (
            (block.attn, "Q", "attn/query"),
            (block.attn, "K", "attn/key"),
            (block.attn, "V", "attn/value"),
            (block.attn, "O", "attn/linear"),
            (block.mlp, "in", "mlp/linear_1"),
            (block.mlp, "out", "mlp/linear_2"),
        ):
            W = tensors[f"transformer/layer_{i}/{kind}/w"]
            if name in "QKV":
                W = W.unflatten(1, (n_heads, -1)).transpose(0, 1)
            getattr(module, f"W_{name}").copy_(W.unflatten(0, (n_heads, -1)) if name == "O" else W)
            if config.biases:
                own = getattr(module, f"b_{name}")
                own.copy_(tensors[f"transformer/layer_{i}/{kind}/b"].view_as(own))
    return model
