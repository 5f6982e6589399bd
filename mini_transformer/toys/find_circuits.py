"""Find every minimal circuit by trying every set of edges.

It is the check on truths that are claimed by construction. It shares no code with the
constructions. First, by the weights alone, it finds the edges that cannot matter: what the writer
can write is orthogonal to what the reader reads, so that switching the edge changes nothing under
any mask. Of the others it tries all subsets, the smallest first, except those that hold a circuit
that was found already, and those with an edge into a node that nothing listens to. So the answer is
complete, on the prompts given. The same is done for edges at single positions.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    Edge,
    Masks,
    Node,
    Switch,
    list_edges,
    list_writers,
    mask_of,
    run_masks,
    write_outputs,
    write_under,
)
from mini_transformer.model import Transformer
from mini_transformer.toys.truth import Batch

MOST = 20  # of edges or nodes to choose from: about a million subsets
NOTHING = 1e-5  # of the product of the norms: what float32 leaves of two orthogonal maps

Level = Literal["edges", "nodes", "positions"]  # edges at single positions, like "input->m0 @3"


def find_circuits(
    model: Transformer,
    batch: Batch,
    ablation: Ablation,
    level: Level = "edges",
    among: Iterable[str] | None = None,
) -> tuple[frozenset[str], ...]:
    """Find every minimal set of edges (or nodes) that answers all prompts, smallest first.

    The rest is ablated. Minimal: no proper subset does it. Level "positions" is for edges at single
    positions. `among` limits the search to some edges (nodes), the rest being off; by default to
    those that can matter. Raise ValueError for more than 20 to choose from, and for an unknown
    level.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> found = find_circuits(case.model, case.task.everything(), "resample", "nodes")
    >>> found == case.truth.circuits["resample"].nodes
    True
    """
    if level not in ("edges", "nodes", "positions"):
        raise ValueError(f"level is {level!r}, but must be 'edges' or 'nodes', or 'positions'")
    choices = list_choices(model, batch, ablation, level) if among is None else list(among)
    choices = [name for name in choices if name != "logits"]  # the one node that is always there
    if len(choices) > MOST:
        raise ValueError(
            f"{len(choices)} {level} have too many subsets, "
            f"at most {MOST} have few enough: give `among`"
        )
    subsets = _list_subsets(len(choices))
    subsets = subsets if level == "nodes" else subsets[_are_heard(choices, subsets)]
    columns = make_masks(model, batch, [[name] for name in choices], level)
    trial = Trial(model, batch, ablation)
    found = list[Tensor]()
    for size in range(len(choices) + 1):
        tried = subsets[subsets.sum(dim=1) == size]
        for circuit in found:
            tried = tried[~tried[:, circuit].all(dim=1)]
        found += [
            row.nonzero().squeeze(1)
            for row in tried[trial.answers_all(torch.tensordot(tried.float(), columns, 1))]
        ]
    always = {"logits"} if level == "nodes" else set()
    circuits = (frozenset({choices[i] for i in circuit.tolist()} | always) for circuit in found)
    return tuple(sorted(circuits, key=lambda circuit: (len(circuit), sorted(circuit))))


def list_choices(
    model: Transformer, batch: Batch, ablation: Ablation, level: Level = "edges"
) -> list[str]:
    """List the edges (or nodes) that can matter: what `find_circuits` chooses among."""
    if level == "positions":
        return list_live_switches(model, batch, ablation)
    live = list_live_edges(model)
    return live if level == "edges" else _list_live_writers(model, live)


def is_minimal(
    model: Transformer,
    batch: Batch,
    ablation: Ablation,
    circuit: Iterable[str],
    level: Level = "edges",
) -> bool:
    """Tell whether a set answers every prompt alone, and none of its parts can be left out.

    This is what can be checked of a circuit in a model with too many edges to try all sets.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> (circuit,) = case.truth.circuits["zero"].edges
    >>> is_minimal(case.model, case.task.everything(), "zero", circuit)
    True
    """
    parts = [part for part in circuit if part != "logits"]
    kept = [parts] + [[other for other in parts if other != part] for part in parts]
    masks = make_masks(model, batch, kept, level)
    alone, *without = Trial(model, batch, ablation).answers_all(masks).tolist()
    return alone and not any(without)


def make_masks(
    model: Transformer, batch: Batch, sets: Iterable[Iterable[str]], level: Level
) -> Float[Tensor, "set edge *position"]:
    """Write the mask of each set of edges, of nodes, or of edges at single positions."""
    if level == "nodes":
        sets = [[edge for node in nodes for edge in _list_out(model, node)] for nodes in sets]
    n_positions = batch.clean.shape[1] if level == "positions" else None
    return torch.stack([mask_of(model, one, n_positions) for one in sets])


class Trial:
    """Prompts in random order, beside what edges that are off carry.

    That is 0, the clean prompts' mean, or the corrupt prompts' values.
    """

    def __init__(self, model: Transformer, batch: Batch, ablation: Ablation) -> None:
        # The corrupt prompts matter for resampling only.
        batch = batch if ablation == "resample" else batch.distinct()
        order = torch.randperm(len(batch.clean), generator=torch.Generator().manual_seed(0))
        self.model = model
        self.batch = batch.take(order)
        with torch.no_grad():
            self.off = write_outputs(
                model, self.batch.corrupt if ablation == "resample" else self.batch.clean, ablation
            )

    @torch.no_grad()
    def answers_all(self, masks: Masks) -> Bool[Tensor, "mask"]:
        """Tell whether the model answers every prompt correctly under each mask.

        Most masks fail on the first prompt, which goes alone.
        """
        passed = torch.ones(len(masks), dtype=torch.bool)
        n = len(self.batch.clean)
        for start, stop in pairwise([0, *(size for size in (1, 4, 64) if size < n), n]):
            part = self.batch.take(torch.arange(start, stop))
            off = self.off[:, start:stop]
            left = passed.nonzero().squeeze(1)
            if len(left):
                runs = run_masks(self.model, part.clean, masks[left], off)
                passed[left] = torch.cat([part.correct(logits).all(dim=1) for logits in runs])
        return passed


def list_live_edges(model: Transformer) -> list[str]:
    """List the edges that can matter.

    The reader of such an edge reads directions that its writer writes, and is itself read, up to
    the logits. Everything else changes no logit, whatever it is replaced by. In a model with a norm
    every edge is live, since the scale depends on the whole stream.

    >>> from mini_transformer import toys
    >>> model = toys.load("induction_by_hand").model
    >>> len(list_live_edges(model)), len(list_edges(model))
    (7, 29)
    """
    if model.config.norm != "none":
        return list_edges(model)
    # nodes from which a path leads to the logits
    heard = {Node("logits")}
    live = []
    # Readers come later in the list than what they listen to
    for name in reversed(list_edges(model)):
        edge = Edge.parse(name)
        if edge.reader in heard:
            written = _directions_written(model, edge.writer)
            read = _directions_read(model, edge)
            if (written @ read).abs().max() > NOTHING * written.norm() * read.norm():
                heard.add(edge.writer)
                live.append(name)
    return live[::-1]


@torch.no_grad()
def list_live_switches(model: Transformer, batch: Batch, ablation: Ablation) -> list[str]:
    """List the edges at single positions that can matter on these prompts.

    Such an edge is live, its reader is read at (or, by heads, from) that position, up to the logits
    of the answer, and what it carries there differs from what it carries when it is off: with all
    edges off, or since something live moves what its writer writes.

    >>> from mini_transformer import toys
    >>> case = toys.load("opposite_positions")
    >>> len(list_live_switches(case.model, case.task.everything(), "resample"))
    10
    """
    trial = Trial(model, batch, ablation)
    live = [Edge.parse(edge) for edge in list_live_edges(model)]
    length = batch.clean.shape[1]
    nodes = [*list_writers(model), "logits"]
    heard = {node: set[int]() for node in nodes}  # where what a node writes is read
    heard["logits"] = set(batch.position.tolist())
    moved = {node: set[int]() for node in nodes}  # where live edges move what a node writes

    def reach(edge: Edge, position: int) -> set[int]:
        """Find where the reader can write something else if it hears something else here."""
        return set(range(position, length) if edge.part in ("k", "v") else [position])

    for edge in reversed(live):
        reader = heard[str(edge.reader)]
        heard[str(edge.writer)] |= {at for at in range(length) if reach(edge, at) & reader}
    nothing_on = torch.zeros(1, len(list_edges(model)))
    changes = write_under(model, trial.batch.clean, nothing_on, trial.off)[:, 0] - trial.off
    found = []
    for edge in live:
        read = _directions_read(model, edge)
        if model.config.norm != "none":  # then readers are sensitive to everything
            read = torch.eye(len(read)).to(read)
        rounding = NOTHING * _directions_written(model, edge.writer).norm() * read.norm()
        carried = (changes[nodes.index(str(edge.writer))] @ read).abs().amax(dim=(0, 2))
        differs = moved[str(edge.writer)] | set((carried > rounding).nonzero().flatten().tolist())
        for at in sorted(differs):
            if reach(edge, at) & heard[str(edge.reader)]:
                moved[str(edge.reader)] |= reach(edge, at)
                found.append(str(Switch(str(edge), at)))
    return found


def _directions_written(model: Transformer, writer: Node) -> Float[Tensor, "any d_model"]:
    """Return rows that span everything this node can write."""
    with torch.no_grad():
        if writer.kind == "input":
            in_stream = model.config.positions != "none" and model.config.positions_to == "stream"
            return torch.cat([model.W_E, model.W_pos]) if in_stream else model.W_E
        if writer.kind == "mlp":
            constant = [model.b_out[writer.layer][None]] if model.config.biases else []
            return torch.cat([model.W_out[writer.layer], *constant])
        layer, head = writer.place
        attn = model.blocks[layer].attn
        constant = [] if attn.b_V is None else [attn.b_V[head][None] @ attn.W_O[head]]
        return torch.cat([model.OV(layer, head), *constant])


def _directions_read(model: Transformer, edge: Edge) -> Float[Tensor, "d_model any"]:
    """Return columns that span everything the reader is sensitive to."""
    with torch.no_grad():
        if edge.reader.kind == "logits":
            return model.W_U
        if edge.reader.kind == "mlp":
            return model.W_in[edge.reader.layer]
        layer, head = edge.reader.place
        if edge.part == "v":
            return model.OV(layer, head)
        # (a key's bias shifts all scores of a query alike, and the softmax ignores that)
        if edge.part == "q":
            return model.QK(layer, head)
        attn = model.blocks[layer].attn
        constant = [] if attn.b_Q is None else [attn.W_K[head] @ attn.b_Q[head][:, None]]
        return torch.cat([model.QK(layer, head).T, *constant], dim=1)


def _list_live_writers(model: Transformer, live: list[str]) -> list[str]:
    heard = {str(Edge.parse(edge).writer) for edge in live}
    return [writer for writer in list_writers(model) if writer in heard]


def _list_out(model: Transformer, node: str) -> list[str]:
    """List the edges out of a node: a node is kept by keeping these.

    Edges into an ablated node then change nothing that is heard.
    """
    if node not in list_writers(model):
        raise KeyError(f"no node is called {node!r} in this model; it has {list_writers(model)}")
    return [edge for edge in list_edges(model) if str(Edge.parse(edge).writer) == node]


def _list_subsets(n: int) -> Bool[Tensor, "subset n"]:
    """List all subsets of n things; bit i of a subset's number says whether thing i is in."""
    return (torch.arange(2**n).unsqueeze(1) >> torch.arange(n) & 1).bool()


def _are_heard(edges: list[str], subsets: Bool[Tensor, "subset edge"]) -> Bool[Tensor, "subset"]:
    """Tell whether each edge of a subset is heard.

    It leads to the logits, or into a node with an edge of the subset out of it.
    """
    heard = torch.ones(len(subsets), dtype=torch.bool)
    parsed = [Edge.parse(Switch.parse(edge).edge) for edge in edges]
    for i, edge in enumerate(parsed):
        if edge.reader.kind != "logits":
            out = [j for j, other in enumerate(parsed) if other.writer == edge.reader]
            heard &= ~subsets[:, i] | subsets[:, out].any(dim=1)
    return heard
