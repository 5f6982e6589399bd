"""The residual stream as a sum of writers read by readers, and one function that runs the model with edges switched off.

Nodes carry the names of the circuit-discovery literature: `input` (token and position embedding), `a0.h1` (a head),
`m0` (an MLP), `logits`. An edge goes from a writer to a reader that comes later: `input->m0`, `m0->logits`, and for heads
to one of their three inputs: `a0.h1->a1.h0<k>`. Source: Conmy et al. 2023 (2304.14997), section 2.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.hooks import Recorder
from mini_transformer.model import Transformer

Ablation = Literal["zero", "mean", "resample"]


def list_writers(model: Transformer) -> list[str]:
    """Every node that writes to the residual stream, in the order of computation.

    >>> from mini_transformer import Config
    >>> list_writers(Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, n_heads=2, d_mlp=8)))
    ['input', 'a0.h0', 'a0.h1', 'm0']
    """
    names = ["input"]
    for layer, block in enumerate(model.blocks):
        names += [f"a{layer}.h{head}" for head in range(model.config.n_heads)]
        names += [f"m{layer}"] if block.mlp is not None else []
    return names


def list_edges(model: Transformer) -> list[str]:
    """Every edge, grouped by reader in the order of computation; a mask over edges has this order.

    >>> from mini_transformer import Config
    >>> list_edges(Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1)))
    ['input->a0.h0<q>', 'input->a0.h0<k>', 'input->a0.h0<v>', 'input->logits', 'a0.h0->logits']
    """
    writers, edges, seen = list_writers(model), [], 1
    for layer, block in enumerate(model.blocks):
        heads = [
            f"a{layer}.h{head}<{part}>" for head in range(model.config.n_heads) for part in "qkv"
        ]
        edges += [f"{writer}->{reader}" for reader in heads for writer in writers[:seen]]
        seen += model.config.n_heads
        if block.mlp is not None:
            edges += [f"{writer}->m{layer}" for writer in writers[:seen]]
            seen += 1
    return edges + [f"{writer}->logits" for writer in writers]


def mask_of(model: Transformer, edges: Iterable[str]) -> Float[Tensor, "edge"]:
    """1.0 for the given edges, 0.0 for all others; KeyError for an edge that this model does not have."""
    index = {edge: i for i, edge in enumerate(list_edges(model))}
    mask = torch.zeros(len(index), device=model.W_E.device)
    for edge in edges:
        if edge not in index:
            raise KeyError(
                f"no edge is called {edge!r} in this model; edges look like {list(index)[-1]!r}"
            )
        mask[index[edge]] = 1.0
    return mask


def write_outputs(
    model: Transformer, tokens: Integer[Tensor, "batch pos"], ablation: Ablation = "resample"
) -> Float[Tensor, "writer batch pos d_model"]:
    """What every writer writes on `tokens`; its mean over the batch for ablation "mean", zeros for "zero".

    These are the values that an edge carries when it is off.
    """
    recorder = Recorder()
    points = []
    for block in model.blocks:
        points += (
            [block.attn.hook_result, block.hook_mlp_out]
            if block.mlp is not None
            else [block.attn.hook_result]
        )
    with model._listening([(point, recorder) for point in points]):
        model(tokens)
    parts = [recorder.values[point.name] for point in points]
    parts = [part.movedim(2, 0) if part.ndim == 4 else part.unsqueeze(0) for part in parts]
    return replace_by(ablation, torch.cat([model(tokens, stop_at_layer=0).unsqueeze(0), *parts]))


def replace_by(
    ablation: Ablation, written: Float[Tensor, "writer batch pos d_model"]
) -> Float[Tensor, "writer batch pos d_model"]:
    """What edges carry when they are off, from what their writers write; ValueError for an unknown ablation."""
    if ablation not in ("zero", "mean", "resample"):
        raise ValueError(f"ablation is {ablation!r}, but must be 'zero', 'mean' or 'resample'")
    if ablation == "mean":
        return written.mean(dim=1, keepdim=True).expand_as(written)
    return torch.zeros_like(written) if ablation == "zero" else written


def run_edges(
    model: Transformer,
    tokens: Integer[Tensor, "batch pos"],
    masks: Float[Tensor, "mask edge"],
    off: Float[Tensor, "writer batch pos d_model"],
) -> Float[Tensor, "mask batch pos out"]:
    """Logits of the model under each mask: an edge at 1 carries its writer, an edge at 0 the writer's value in `off`.

    Writers are recomputed from what they read under the mask, so an edge that is off has its full downstream effect. All ones give the
    clean run, all zeros the run that `off` comes from; differentiable in `masks`. Biases are not writers: they stay.
    """
    n_edges = len(list_edges(model))
    if masks.ndim != 2 or masks.shape[1] != n_edges:
        raise ValueError(
            f"masks have shape {tuple(masks.shape)}, expected (mask, {n_edges}): one column per edge"
        )
    expected = (len(list_writers(model)), *tokens.shape, model.config.d_model)
    if off.shape != expected:
        raise ValueError(
            f"off has shape {tuple(off.shape)}, expected {expected}: what write_outputs returns"
        )
    return _EdgeRun(model, tokens, masks, off).logits()


class _EdgeRun:
    """One pass through the model that builds each reader's input from the writers so far."""

    def __init__(self, model: Transformer, tokens: Tensor, masks: Tensor, off: Tensor) -> None:
        self.model, self.masks, self.off, self.column = model, masks.to(off), off, 0
        self.m, (self.b, self.t) = len(masks), tokens.shape
        start = model.forward(tokens, stop_at_layer=0)
        self.deltas = [
            (start - off[0]).expand(self.m, *start.shape)
        ]  # per writer: clean minus off, (m, b, t, d)
        self.constant = torch.zeros_like(start[0, 0])  # the attention biases so far, (d)

    def read(self, n_readers: int) -> Float[Tensor, "mask batch pos reader d_model"]:
        """The next n_readers' inputs: everything off, plus mask times (on minus off) of each writer."""
        n = len(self.deltas)
        mask = self.masks[:, self.column : self.column + n_readers * n].reshape(
            self.m, n_readers, n
        )
        self.column += n_readers * n
        switched_on = torch.einsum("mrw,wmbtd->mbtrd", mask, torch.stack(self.deltas))
        return switched_on + (self.off[:n].sum(0) + self.constant).unsqueeze(2)

    def write(self, value: Tensor) -> None:
        """Append a writer's output, (m * b, t, d), as its difference from the value when off."""
        self.deltas.append(value.reshape(self.m, self.b, self.t, -1) - self.off[len(self.deltas)])

    def logits(self) -> Tensor:
        model, n_heads = self.model, self.model.config.n_heads
        pos_qk = (
            model.pos_embed(1, self.t).unsqueeze(2) if model.config.positions_to == "qk" else 0.0
        )
        for block in model.blocks:
            x = self.read(3 * n_heads).flatten(0, 1)  # m*b t 3n d
            x = (x if block.ln1 is None else block.ln1.normalize(x)).unflatten(2, (n_heads, 3))
            result = Recorder()
            with model._listening([(block.attn.hook_result, result)]):
                block.attn(x[..., 0, :] + pos_qk, x[..., 1, :] + pos_qk, x[..., 2, :])
            for head in range(n_heads):
                self.write(result.values[block.attn.hook_result.name][:, :, head])
            if block.attn.b_O is not None:
                self.constant = self.constant + block.attn.b_O
            if block.mlp is not None:
                x = self.read(1).flatten(0, 1)[:, :, 0]
                self.write(block.mlp(x if block.ln2 is None else block.ln2.normalize(x)))
        return model.unembed(self.read(1).flatten(0, 1)[:, :, 0]).unflatten(0, (self.m, self.b))
