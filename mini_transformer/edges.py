"""The residual stream as writers that readers hear, run with some edges switched off.

Nodes carry the names of the circuit-discovery literature: `input` (token and position embedding),
`a0.h1` (a head), `m0` (an MLP), `logits`. An edge goes from a writer to a reader that comes later:
`input->m0`, `m0->logits`, and for heads to one of their three inputs: `a0.h1->a1.h0<k>`. At one
position of what its reader reads, it is `a0.h1->a1.h0<k> @5`. Names are strings everywhere; `Node`,
`Edge` and `Switch` are the one place that takes them apart. Sources: Conmy et al. 2023
(2304.14997), section 2; Haklay et al. 2025 (2502.04577), for edges by position.

The file is long because the names, their order and the engine whose masks have a column per name
cannot be understood apart.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.batches import choose_rows, join
from mini_transformer.model import Norm, Transformer, add_positions
from mini_transformer.nearest import find_nearest

Ablation = Literal["zero", "mean", "resample"]
Masks = Float[Tensor, "mask edge *position"]  # an edge, or an edge at one position, per number

NUMBER = "(0|[1-9][0-9]{0,8})"
NODE = re.compile(rf"(input|logits)|m{NUMBER}|a{NUMBER}\.h{NUMBER}")
EDGE = re.compile(r"([^<>-]+)->([^<>-]+)(?:<([qkv])>)?")
SWITCH = re.compile(rf"(.+) @{NUMBER}")


class Node(NamedTuple):
    """The input, one head, the MLP of one layer, or the logits.

    >>> Node.parse("a1.h0")
    Node(kind='head', layer=1, head=0)
    >>> str(Node("mlp", layer=2))
    'm2'
    """

    kind: Literal["input", "head", "mlp", "logits"]
    layer: int | None = None
    head: int | None = None

    @classmethod
    @functools.lru_cache(2**12)
    def parse(cls, name: str) -> "Node":
        """Take a node's name apart; raise KeyError, with the nearest name, for any other."""
        if not (found := NODE.fullmatch(name)):
            raise KeyError(f"no node is called {name!r}; nearest: {str(_guess_node(name))!r}")
        end, mlp, layer, head = found.groups()
        if end:
            return cls(end)  # type: ignore[arg-type]
        return cls("mlp", int(mlp)) if mlp else cls("head", int(layer), int(head))

    def __str__(self) -> str:
        if self.kind == "head":
            return f"a{self.layer}.h{self.head}"
        return f"m{self.layer}" if self.kind == "mlp" else self.kind

    @property
    def place(self) -> tuple[int, int]:
        """Return a head's layer and its index there; KeyError for a node that is no head."""
        if self.layer is None or self.head is None:
            raise KeyError(f"{str(self)!r} is no head; heads look like 'a0.h1'")
        return self.layer, self.head


class Edge(NamedTuple):
    """From a writer to a reader. A head reads in three places: `part` says in which.

    >>> Edge.parse("input->a1.h0<k>").reader
    Node(kind='head', layer=1, head=0)
    >>> str(Edge(Node("input"), Node("logits")))
    'input->logits'
    """

    writer: Node
    reader: Node
    part: Literal["q", "k", "v"] | None = None

    @classmethod
    @functools.lru_cache(2**14)
    def parse(cls, name: str) -> "Edge":
        """Take a name apart; raise KeyError, with the nearest name, for what names no edge."""
        found = EDGE.fullmatch(name)
        ends = found and [NODE.fullmatch(end) for end in found.groups()[:2]]
        if found and ends and all(ends):
            writer, reader = Node.parse(found[1]), Node.parse(found[2])
            edge = cls(writer, reader, found[3])  # type: ignore[arg-type]
            from_writer = edge.writer.kind != "logits" and edge.reader.kind != "input"
            if from_writer and (edge.part is not None) == (edge.reader.kind == "head"):
                return edge
        raise KeyError(f"no edge is called {name!r}; nearest: {str(_guess_edge(name))!r}")

    def __str__(self) -> str:
        return f"{self.writer}->{self.receiver}"

    @property
    def receiver(self) -> str:
        """The end of the edge's name: the reader, and which of a head's inputs."""
        return f"{self.reader}<{self.part}>" if self.part else str(self.reader)


class Switch(NamedTuple):
    """An edge, at one position of its reader's input or at all (None).

    >>> Switch.parse("input->a1.h0<k> @3")
    Switch(edge='input->a1.h0<k>', position=3)
    >>> str(Switch("input->m0", 3))
    'input->m0 @3'
    """

    edge: str
    position: int | None = None

    @classmethod
    def parse(cls, name: str) -> "Switch":
        """Take the position off a name; whether the rest is an edge, `Edge.parse` says."""
        found = SWITCH.fullmatch(name)
        return cls(found[1], int(found[2])) if found else cls(name)

    def __str__(self) -> str:
        return self.edge if self.position is None else f"{self.edge} @{self.position}"


def parse_path(path: str) -> list[Edge]:
    """Take a path of edges apart.

    Raise ValueError without an edge, KeyError as `Edge.parse` does.

    >>> [str(edge) for edge in parse_path("a0.h0->a1.h0<k>->logits")]
    ['a0.h0->a1.h0<k>', 'a1.h0->logits']
    """
    first, *receivers = (node.strip() for node in path.split("->"))
    if not receivers:
        raise ValueError(
            f"the path is {path!r}, but must have at least one edge, like 'input->logits'"
        )
    edges = list[Edge]()
    writer = first
    for receiver in receivers:
        edges.append(Edge.parse(f"{writer}->{receiver}"))
        writer = str(edges[-1].reader)
    return edges


def is_edge(name: str) -> bool:
    """Tell whether a name is that of an edge, by its arrow."""
    return "->" in name


def _guess_node(name: str) -> Node:
    """Guess which node a wrong name means: its numbers are taken as they come."""
    numbers = [int(number) for number in re.findall("[0-9]{1,9}", name)]
    layer, head = [*numbers, 0, 0][:2]
    nodes = [Node("input"), Node("head", layer, head), Node("mlp", layer), Node("logits")]
    by_name = {str(node): node for node in nodes}
    return by_name[find_nearest(name, by_name)]


def _guess_edge(name: str) -> Edge:
    writer, _, receiver = name.partition("->")
    reader, _, part = receiver.partition("<")
    start, end = _guess_node(writer), _guess_node(reader)
    start = Node("input") if start.kind == "logits" or start == end else start
    end = Node("logits") if end.kind == "input" else end
    if end.kind != "head":
        return Edge(start, end)
    return Edge(start, end, "k" if "k" in part else "v" if "v" in part else "q")


def list_writers(model: Transformer) -> list[str]:
    """List every node that writes to the residual stream, in the order of computation.

    >>> from mini_transformer import Config
    >>> config = Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, n_heads=2, d_mlp=8)
    >>> list_writers(Transformer(config))
    ['input', 'a0.h0', 'a0.h1', 'm0']
    """
    names = ["input"]
    for layer, block in enumerate(model.blocks):
        names += [f"a{layer}.h{head}" for head in range(model.config.n_heads)]
        names += [f"m{layer}"] if block.mlp is not None else []
    return names


def list_edges(model: Transformer) -> list[str]:
    """List every edge, by reader in the order of computation.

    Masks and scores have this order.

    >>> from mini_transformer import Config
    >>> list_edges(Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1)))
    ['input->a0.h0<q>', 'input->a0.h0<k>', 'input->a0.h0<v>', 'input->logits', 'a0.h0->logits']
    """
    writers = list_writers(model)
    edges = list[str]()
    heard = 1
    for layer, block in enumerate(model.blocks):
        heads = [f"a{layer}.h{head}" for head in range(model.config.n_heads)]
        inputs = [f"{head}<{part}>" for head in heads for part in "qkv"]
        edges += [f"{writer}->{reader}" for reader in inputs for writer in writers[:heard]]
        heard += len(heads)
        if block.mlp is not None:
            edges += [f"{writer}->m{layer}" for writer in writers[:heard]]
            heard += 1
    return edges + [f"{writer}->logits" for writer in writers]


def mask_of(
    model: Transformer, edges: Iterable[str | Edge | Switch], n_positions: int | None = None
) -> Float[Tensor, "edge *position"]:
    """Write 1.0 for the given edges, 0.0 for all others, in the order of `list_edges`.

    With `n_positions` the mask is (edge, position), names like "input->m0 @3" switch one position
    on, and plain ones all. Raise KeyError for what this model does not have.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1))
    >>> mask_of(model, ["input->logits @2", "a0.h0->logits"], n_positions=3)[-2:]
    tensor([[0., 0., 1.],
            [1., 1., 1.]])
    """
    columns = _number(list_edges(model))
    positions = [] if n_positions is None else [n_positions]
    mask = torch.zeros(len(columns), *positions, device=model.W_E.device)
    for edge in edges:
        mask[_find_place(columns, edge, *positions)] = 1.0
    return mask


def _number(edges: list[str]) -> dict[str, int]:
    return {edge: column for column, edge in enumerate(edges)}


def _find_place(columns: dict[str, int], edge: object, n_positions: int = 0) -> tuple[int, ...]:
    """Find the place of an edge in the order of `list_edges`, and the position if it names one.

    KeyError with the nearest name, or for a position that there is not.
    """
    if (name := str(edge)) in columns:
        return (columns[name],)
    own, position = Switch.parse(name)
    if own not in columns:
        raise KeyError(
            f"no edge is called {own!r} in this model; "
            f"edges look like {find_nearest(own, columns)!r}"
        )
    assert position is not None
    if position >= n_positions:
        has = f"positions 0 to {n_positions - 1}" if n_positions else "no positions"
        raise KeyError(f"{name!r} was asked for, but here are {has}")
    return columns[own], position


class EdgeScores:
    """One value per edge: a mapping from names to numbers, and one tensor.

    `scores[edge]` takes a name or an `Edge`, and raises KeyError with the nearest name. Iteration,
    `keys` and `items` come in the order of `list_edges`, as does `values`, a tensor (edge). By
    position, `values` is (edge, position), names are like "input->m0 @3", and a plain one gives the
    scores at all positions. Raise ValueError for tensors of other shapes.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1))
    >>> scores = EdgeScores(model, torch.tensor([0.0, 1.0, 0.0, 3.0, 2.0]))
    >>> scores["input->logits"].item(), scores.top(2)
    (3.0, ['input->logits', 'a0.h0->logits'])
    >>> scores.mask(1)
    tensor([0., 0., 0., 1., 0.])
    >>> by_position = EdgeScores(model, torch.eye(5)[:, 2:] - torch.eye(5)[:, :3])
    >>> by_position["input->logits"], by_position["input->logits @1"].item(), by_position.top(1)
    (tensor([0., 1., 0.]), 1.0, ['input->a0.h0<v> @0'])
    >>> by_position.sum().values
    tensor([-1., -1.,  0.,  1.,  1.])
    """

    def __init__(self, model: Transformer, values: Tensor) -> None:
        self._columns = _number(list_edges(model))
        if values.ndim not in (1, 2) or len(values) != len(self._columns):
            raise ValueError(
                f"scores are {tuple(values.shape)}, expected ({len(self._columns)},): "
                "one per edge of this model, or (edge, position)"
            )
        self._model = model
        self.values = values.clone()

    def __getitem__(self, edge: str | Edge | Switch) -> Float[Tensor, "*position"]:
        return self.values[_find_place(self._columns, edge, *self.values.shape[1:])]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return self.values.numel()

    def __contains__(self, edge: object) -> bool:
        return str(edge) in self.keys()

    def keys(self) -> list[str]:
        positions = range(self.values.shape[1]) if self.values.ndim == 2 else [None]
        return [str(Switch(edge, position)) for edge in self._columns for position in positions]

    def items(self) -> list[tuple[str, Float[Tensor, ""]]]:
        return list(zip(self.keys(), self.values.flatten(), strict=True))

    def sum(self) -> "EdgeScores":
        """Add up the scores of an edge at all positions."""
        return EdgeScores(self._model, self.values.reshape(len(self._columns), -1).sum(dim=1))

    def top(self, k: int) -> list[str]:
        """Name the k edges that score highest, the highest first.

        Of equal ones the first in the order of `list_edges`; nan comes last. Raise ValueError for a
        k below 0 or above the number of edges.
        """
        if not 0 <= k <= len(self):
            raise ValueError(
                f"the {k} highest edges were asked for, but there are between 0 and {len(self)}"
            )
        order = self.values.detach().flatten().argsort(descending=True, stable=True)
        order = order.roll(-int(self.values.isnan().sum()))  # which sorting puts first
        names = self.keys()
        return [names[place] for place in order[:k].tolist()]

    def mask(self, k: int) -> Float[Tensor, "edge *position"]:
        """Write 1.0 for the k edges that score highest, 0.0 for all others."""
        return mask_of(self._model, self.top(k), *self.values.shape[1:]).to(self.values)

    def __repr__(self) -> str:
        highest = ", ".join(
            f"{edge} {self[edge].item():.4g}" for edge in self.top(min(3, len(self)))
        )
        return f"EdgeScores({len(self)} edges; {highest})"


def write_outputs(
    model: Transformer, tokens: Integer[Tensor, "batch pos"], ablation: Ablation = "resample"
) -> Float[Tensor, "writer batch pos d_model"]:
    """Return what an edge from each writer carries when it is off, from a run on `tokens`.

    For ablation "resample" that is what the writer writes, for "mean" its mean over the batch, for
    "zero" zeros. Raise ValueError for another ablation.
    """
    names = list[str]()
    for block in model.blocks:
        names.append(block.attn.hook_result.name)
        if block.mlp is not None:
            names.append(block.hook_mlp_out.name)
    _, cache = model.run_with_cache(tokens, names_filter=names)
    parts = [cache[name] for name in names]
    parts = [part.movedim(2, 0) if part.ndim == 4 else part.unsqueeze(0) for part in parts]
    return replace_by(ablation, torch.cat([model(tokens, stop_at_layer=0).unsqueeze(0), *parts]))


def replace_by(
    ablation: Ablation, written: Float[Tensor, "writer batch pos d_model"]
) -> Float[Tensor, "writer batch pos d_model"]:
    """Turn what writers write into what their edges carry when they are off."""
    if ablation not in ("zero", "mean", "resample"):
        raise ValueError(f"ablation is {ablation!r}, but must be 'zero', 'mean' or 'resample'")
    if ablation == "mean":
        return written.mean(dim=1, keepdim=True).expand_as(written)
    return torch.zeros_like(written) if ablation == "zero" else written


def run_edges(
    model: Transformer,
    tokens: Integer[Tensor, "batch pos"],
    masks: Masks,
    off: Float[Tensor, "writer batch pos d_model"],
) -> Float[Tensor, "mask batch pos out"]:
    """Run the model with edges switched on and off, and return the logits under each mask.

    An edge carries its writer at 1, and the value in `off` at 0; masks (mask, edge, position) say
    so for each position of what its reader reads. Writers are recomputed from what they read under
    the mask, so an edge that is off has its full downstream effect. All ones give the clean run,
    all zeros the run that `off` comes from; differentiable in `masks`. Biases are not writers: they
    stay. Raise ValueError for masks and `off` that do not fit the model and the tokens.
    """
    return _EdgeRun(model, tokens, masks, off).run()


def run_masks(
    model: Transformer,
    tokens: Integer[Tensor, "batch pos"],
    masks: Masks,
    off: Float[Tensor, "writer batch pos d_model"],
    batch_size: int | None = None,
) -> Iterator[Float[Tensor, "some batch pos out"]]:
    """Run any number of masks within bounded memory; yield the logits of some masks at a time.

    At most `batch_size` prompts (times masks) share a run of the edge engine, by default as many as
    fit a budget. The logits of a mask come in one piece, for all prompts.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1))
    >>> tokens = torch.tensor([[1, 2, 3], [4, 2, 3]])
    >>> masks = 1 - torch.eye(len(list_edges(model)))
    >>> runs = run_masks(model, tokens, masks, write_outputs(model, tokens, "zero"), batch_size=4)
    >>> [len(logits) for logits in runs]
    [2, 2, 1]
    """
    rows = choose_engine_rows(model, len(off), tokens.shape[1], batch_size)
    parts = list(zip(tokens.split(rows), off.split(rows, dim=1), strict=True))
    for some in masks.split(max(1, rows // len(tokens))):
        yield join([run_edges(model, part, some, own) for part, own in parts], dim=1)


def choose_engine_rows(
    model: Transformer, n_writers: int, length: int, batch_size: int | None = None
) -> int:
    """Choose how many prompts, times masks, go through one run that keeps all writers."""
    streams = 2 * n_writers + 12 * model.config.n_heads
    return choose_rows(model.config, length, batch_size, streams=streams)


def write_under(
    model: Transformer,
    tokens: Integer[Tensor, "batch pos"],
    masks: Masks,
    off: Float[Tensor, "writer batch pos d_model"],
) -> Float[Tensor, "writer mask batch pos d_model"]:
    """Return what every writer writes in the run under each mask."""
    run = _EdgeRun(model, tokens, masks, off)
    run.run()
    return torch.stack(run.deltas) + off.unsqueeze(1)


class _EdgeRun:
    """One pass through the model that builds each reader's input from the writers so far."""

    def __init__(self, model: Transformer, tokens: Tensor, masks: Tensor, off: Tensor) -> None:
        n_edges = len(list_edges(model))
        if masks.shape[1:] not in ((n_edges,), (n_edges, tokens.shape[1])):
            raise ValueError(
                f"masks have shape {tuple(masks.shape)}, expected (mask, {n_edges}): "
                f"one column per edge, or (mask, {n_edges}, {tokens.shape[1]}): by position, too"
            )
        expected = (len(list_writers(model)), *tokens.shape, model.config.d_model)
        if off.shape != expected:
            raise ValueError(
                f"off has shape {tuple(off.shape)}, expected {expected}: what write_outputs returns"
            )
        self.model = model
        self.masks = masks.to(off)
        self.off = off
        self.column = 0
        self.m = len(masks)
        self.b, self.t = tokens.shape
        start = model.forward(tokens, stop_at_layer=0)
        # Per writer: clean minus off, (m, b, t, d)
        self.deltas = [(start - off[0]).expand(self.m, *start.shape)]

    def read(self, n_readers: int, layers: int) -> Float[Tensor, "mask batch pos reader d_model"]:
        """Build the next readers' inputs: everything off, plus mask times (on minus off)."""
        n = len(self.deltas)
        columns = slice(self.column, self.column + n_readers * n)
        mask = self.masks[:, columns].unflatten(1, (n_readers, n))
        self.column = columns.stop
        by = "mrw" if mask.ndim == 3 else "mrwt"
        switched_on = torch.einsum(f"{by},wmbtd->mbtrd", mask, torch.stack(self.deltas))
        return switched_on + (self.off[:n].sum(0) + sum_biases(self.model, layers)).unsqueeze(2)

    def write(self, value: Tensor) -> None:
        """Append a writer's output, (m * b, t, d), as its difference from the value when off."""
        self.deltas.append(value.reshape(self.m, self.b, self.t, -1) - self.off[len(self.deltas)])

    def run(self) -> Float[Tensor, "mask batch pos out"]:
        model = self.model
        n_heads = model.config.n_heads
        for layer, block in enumerate(model.blocks):
            heard = self.read(3 * n_heads, layer).unflatten(3, (n_heads, 3))
            q, k, v = (part.flatten(0, 1) for part in heard.unbind(4))  # each m*b t n d
            for result in write_heads(model, layer, q, k, v).unbind(2):
                self.write(result)
            if block.mlp is not None:
                heard = self.read(1, layer + 1)[:, :, :, 0].flatten(0, 1)
                self.write(write_mlp(model, layer, heard))
        heard = self.read(1, model.config.n_layers)[:, :, :, 0].flatten(0, 1)
        return model.unembed(heard).unflatten(0, (self.m, self.b))


def write_heads(
    model: Transformer, layer: int, q: Tensor, k: Tensor, v: Tensor
) -> Float[Tensor, "batch pos head d_model"]:
    """Compute what each head of a layer writes when its q, k and v hear these streams.

    Each is (b, t, d), heard by all heads, or (b, t, n, d), one per head, before the norm.
    """
    block = model.blocks[layer]
    q, k, v = (_normalize(block.ln1, stream) for stream in (q, k, v))
    if model.config.positions_to == "qk":
        pos = model.pos_embed(1, q.shape[1])
        q = add_positions(q, pos)
        k = add_positions(k, pos)
    return block.attn.write_heads(q, k, v)


def write_mlp(
    model: Transformer, layer: int, stream: Float[Tensor, "*batch pos d_model"]
) -> Float[Tensor, "*batch pos d_model"]:
    """Compute what the MLP of a layer writes when it hears this stream, before the norm."""
    block = model.blocks[layer]
    assert block.mlp is not None
    return block.mlp(_normalize(block.ln2, stream).flatten(0, -3)).view_as(stream)


def sum_biases(model: Transformer, layers: int) -> Float[Tensor, "d_model"]:
    """Sum the attention biases of the first layers, which readers hear but no writer writes."""
    biases = [model.blocks[layer].attn.b_O for layer in range(layers)]
    start = torch.zeros_like(model.W_E[0])
    return sum((bias for bias in biases if bias is not None), start=start)


def _normalize(
    norm: Norm | None, stream: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    return stream if norm is None else norm.normalize(stream)
