"""Hide a construction: the same function, with dense weights in which nothing can be read off.

The residual stream is turned as far as the model's norms and fixed positions allow, each head's
inner bases are changed, neurons are permuted (and rescaled, if they are ReLUs), heads are permuted.
Without norms and fixed positions the stream also gets directions that are written and never read,
and as many that are read and never written, with noise on both. Biases that nothing feels (a key's,
and those in the null space of what follows) are drawn. What a masked run computes stays equal, too:
no constant is moved from one component to another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import Edge, Node, is_edge
from mini_transformer.model import Norm, Transformer
from mini_transformer.toys.hand_set.disguise import draw_rotation

SPARE = 8  # directions written and never read, and as many read and never written
SILENT = 0.1  # noise on weights that are all 0, as a share of the embedding's size
SMALL = 1e-3  # gains below this share of the largest are not divided by


@dataclass(frozen=True)
class Disguise:
    """A model in disguise, with the way back."""

    model: Transformer
    turn: Float[Tensor, "d_model turned"]  # row i: where direction i of the old stream went
    heads: tuple[tuple[int, ...], ...]  # by layer: the old head that now stands in each place

    def rename(self, name: str) -> str:
        """Return the new name of a node or an edge of the old model.

        >>> from mini_transformer import toys
        >>> model = toys.load("induction_by_hand").model
        >>> found = disguise(model, torch.Generator().manual_seed(0))
        >>> found.heads[0], found.rename("a0.h0->m0")
        ((1, 0), 'a0.h1->m0')
        """
        if not is_edge(name):
            return str(self.move(Node.parse(name)))
        edge = Edge.parse(name)
        return str(Edge(self.move(edge.writer), self.move(edge.reader), edge.part))

    def move(self, node: Node) -> Node:
        """Return where a node of the old model stands now."""
        if node.kind != "head":
            return node
        layer, head = node.place
        return node._replace(head=self.heads[layer].index(head))


@torch.no_grad()
def disguise(model: Transformer, generator: torch.Generator, skew: float | int = 0.0) -> Disguise:
    """Write the same function with dense weights; logits agree up to rounding.

    With `skew` the turn also stretches the stream, by e^skew or so in each direction, so that
    directions that were orthogonal no longer are. Raise ValueError for it where a norm, a tied
    unembedding or sinusoidal positions would feel that.

    A norm fixes which rotations are possible: LayerNorm those that keep the ones vector, unequal
    gains that cannot be moved into what reads them (tied unembedding, positions_to="qk") those that
    do not mix them, sinusoidal positions those that keep these. What is not possible is left out.

    >>> from mini_transformer import toys
    >>> plain = toys.load("boolean_xor").model
    >>> hidden = disguise(plain, torch.Generator().manual_seed(0)).model
    >>> tokens = torch.tensor([[0, 1, 2, 2, 2, 3]])
    >>> torch.allclose(plain(tokens), hidden(tokens), atol=1e-4)
    True
    """
    c = model.config
    spare = SPARE if c.norm == "none" and c.positions != "sinusoidal" else 0
    old = {name: value.double().clone() for name, value in model.named_parameters()}
    gains = fold_gains(model, old)
    turn, unread, unwritten = draw_turn(model, gains, spare, generator)
    back = turn
    if skew:
        if not spare or c.tied:
            raise ValueError(f"skew is {skew}, but must be 0 for a model like {c}")
        stretch, unstretch = draw_bases(1, turn.shape[1], generator, skew)
        turn = turn @ stretch[0]
        unread = unread @ stretch[0]
        back = back @ unstretch[0].mT
        unwritten = unwritten @ unstretch[0].mT

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def read(weight: Tensor) -> Tensor:  # (..., d, width)
        size = weight.std().clamp(min=SILENT * old["W_E"].std())
        noise = size * draw(*weight.shape[:-2], len(unwritten), weight.shape[-1])
        return back.mT @ weight + unwritten.mT @ noise

    def write(weight: Tensor, noisy: bool = True) -> Tensor:  # (..., d)
        size = old["W_E"].std() if noisy else 0.0
        return weight @ turn + size * draw(*weight.shape[:-1], len(unread)) @ unread

    new = dict[str, Tensor]()
    new["W_E"] = write(old["W_E"], noisy=not c.tied)
    if "W_pos" in old:
        new["W_pos"] = write(old["W_pos"])
    if not c.tied:
        new["W_U"] = read(old["W_U"])
    orders = []
    for layer in range(c.n_layers):
        order = torch.randperm(c.n_heads, generator=generator)
        orders.append(tuple(order.tolist()))
        prefix = f"blocks.{layer}.attn."
        attn = {name: old[prefix + name][order] for name in ("W_Q", "W_K", "W_V", "W_O")}
        bias = {name: old[prefix + name][order] for name in ("b_Q", "b_K", "b_V") if c.biases}
        if c.biases:
            bias["b_Q"] = bias["b_Q"] + draw_unfelt(attn["W_K"], draw)
            bias["b_K"] = bias["b_K"] + draw(c.n_heads, c.d_head)
            bias["b_V"] = bias["b_V"] + draw_unfelt(attn["W_O"].mT, draw)
            new[prefix + "b_O"] = write(old[prefix + "b_O"])
        meet, meet_back = draw_bases(c.n_heads, c.d_head, generator)
        move, move_back = draw_bases(c.n_heads, c.d_head, generator)
        for name, basis in (("Q", meet), ("K", meet_back.mT), ("V", move)):
            new[f"{prefix}W_{name}"] = read(attn[f"W_{name}"]) @ basis
            if c.biases:
                new[f"{prefix}b_{name}"] = (bias[f"b_{name}"].unsqueeze(1) @ basis).squeeze(1)
        new[prefix + "W_O"] = move_back @ write(attn["W_O"])
        if c.d_mlp:
            new |= hide_mlp(model, old, f"blocks.{layer}.mlp.", read, write, generator)
    for name, value in old.items():
        if name.endswith(("ln1.b", "ln2.b", "ln_final.b")):
            value = value @ turn
        new.setdefault(name, value)  # gains, and the unembedding's bias
    hidden = Transformer(replace(c, d_model=turn.shape[1]))
    for name, parameter in hidden.named_parameters():
        parameter.copy_(new[name])
    return Disguise(hidden.to(model.W_E.dtype), turn.to(model.W_E.dtype), tuple(orders))


def hide_mlp(
    model: Transformer,
    old: dict[str, Tensor],
    prefix: str,
    read: Callable[[Tensor], Tensor],
    write: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Permute an MLP's neurons; rescale them where that changes nothing (ReLU)."""
    c = model.config
    order = torch.randperm(c.d_mlp, generator=generator)
    size = torch.ones(c.d_mlp, dtype=torch.float64)
    if c.act == "relu":
        size = (0.5 * torch.randn(c.d_mlp, generator=generator, dtype=torch.float64)).exp()
    hidden = {
        f"{prefix}W_in": read(old[f"{prefix}W_in"][:, order]) * size,
        f"{prefix}W_out": write(old[f"{prefix}W_out"][order]) / size[:, None],
    }
    if c.biases:
        hidden[f"{prefix}b_in"] = old[f"{prefix}b_in"][order] * size
        hidden[f"{prefix}b_out"] = write(old[f"{prefix}b_out"])
    return hidden


def fold_gains(model: Transformer, weights: dict[str, Tensor]) -> list[Tensor]:
    """Move each norm's gain into what reads it, in place; return the gains that must stay."""
    c = model.config
    stay = []
    for name, module in model.named_modules():
        if not isinstance(module, Norm):
            continue
        readers = [f"{name.removesuffix('ln2')}mlp.W_in"]
        if name.endswith("ln1"):
            readers = [f"{name.removesuffix('ln1')}attn.W_{part}" for part in "QKV"]
        elif name == "ln_final":
            readers = ["W_U"]
        gain = weights[f"{name}.w"]
        fixed = (name == "ln_final" and c.tied) or (name.endswith("ln1") and c.positions_to == "qk")
        if fixed or gain.abs().min() < SMALL * gain.abs().max():
            stay.append(gain)
            continue
        for reader in readers:
            weights[reader] = gain[:, None] * weights[reader]
        if module.b is not None:
            weights[f"{name}.b"] = weights[f"{name}.b"] / gain
        weights[f"{name}.w"] = torch.ones_like(gain)
    return stay


def draw_turn(
    model: Transformer, gains: list[Tensor], spare: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the turn of the stream, and the directions that are not read, and not written.

    It keeps the vectors that must not move, and mixes only dimensions whose gains are equal.
    """
    c = model.config
    kept = torch.empty(0, c.d_model, dtype=torch.float64)
    if c.norm == "layer":
        kept = torch.ones(1, c.d_model, dtype=torch.float64)
    if c.positions == "sinusoidal":
        kept = torch.cat([kept, model.W_pos.double()])
    if spare:
        whole = draw_rotation(c.d_model + 2 * spare, generator)
        turn, unread, unwritten = whole.split([c.d_model, spare, spare])
        return turn, unread, unwritten
    turn = torch.eye(c.d_model, dtype=torch.float64)
    groups = torch.zeros(c.d_model, dtype=torch.long)
    if gains:
        groups = torch.stack(gains, dim=1).unique(dim=0, return_inverse=True)[1]
    for group in groups.unique():
        own = (groups == group).nonzero().squeeze(1)
        free = find_null_space(kept[:, own])
        rotation = draw_rotation(len(free), generator) if len(free) else torch.empty(0, 0)
        rotation = rotation.double() - torch.eye(len(free), dtype=torch.float64)
        turn[own[:, None], own] += free.mT @ rotation @ free
    nothing = torch.empty(0, c.d_model, dtype=torch.float64)
    return turn, nothing, nothing


def find_null_space(rows: Float[Tensor, "row d"]) -> Float[Tensor, "free d"]:
    """Return orthonormal vectors that are orthogonal to all rows."""
    size = rows.shape[1]
    if not len(rows):
        return torch.eye(size, dtype=torch.float64)
    _, values, basis = torch.linalg.svd(rows, full_matrices=True)
    rank = int((values > 1e-9 * values.max().clamp(min=1e-30)).sum())
    return basis[rank:]


def draw_unfelt(
    felt: Float[Tensor, "head d h"], draw: Callable[..., Tensor]
) -> Float[Tensor, "head h"]:
    """Draw a vector for each head that the map after it takes to zero."""
    return torch.stack([draw(1, len(free)) @ free for free in map(find_null_space, felt)]).squeeze(
        1
    )


def draw_bases(
    n_heads: int, width: int, generator: torch.Generator, spread: float | int = 0.3
) -> tuple[Float[Tensor, "head h h"], Float[Tensor, "head h h"]]:
    """Draw an invertible matrix for each head, and its inverse; lengths change by e^spread."""

    def draw_each() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(n_heads):
            left, right = draw_rotation(width, generator), draw_rotation(width, generator)
            size = (spread * torch.randn(width, generator=generator, dtype=torch.float64)).exp()
            yield (left * size) @ right, right.mT @ (left / size).mT

    forward, back = zip(*draw_each(), strict=True)
    return torch.stack(forward), torch.stack(back)


def measure_share(model: Transformer) -> float:
    """Measure the share of weights above a thousandth of the largest in their matrix."""
    weights: Iterator[Tensor] = (weight.detach() for weight in model.parameters())
    used = [weight.abs() > 1e-3 * weight.abs().max() for weight in weights]
    return sum(int(part.sum()) for part in used) / sum(part.numel() for part in used)
