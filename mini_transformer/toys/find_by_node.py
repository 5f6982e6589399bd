"""Find every minimal circuit of a model that has too many edges to try all sets of them.

Node by node, what it can write under any set of the edges before it is listed once, beside the
smallest sets that make it write that; sets that agree, up to rounding, on all that is read later
are one from there on. So all sets are covered without being run one by one, where nodes write few
different things. It starts with a few prompts; one on which a set that was found fails is tried
with the others, too.
"""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    Edge,
    Node,
    list_writers,
    run_masks,
    sum_biases,
    write_heads,
    write_mlp,
)
from mini_transformer.model import Transformer
from mini_transformer.toys.find_circuits import (
    Level,
    Trial,
    list_choices,
    list_live_edges,
    make_masks,
)
from mini_transformer.toys.truth import Batch

SAME = 1e-5  # values that are equal when rounded to this are one value
FIRST_ROWS = 16
MOST_STATES = 5_000

Sets = list[int]  # of choices: bit i of a number says whether choice i is in


def find_circuits_by_node(
    model: Transformer, batch: Batch, ablation: Ablation, level: Level = "edges"
) -> tuple[frozenset[str], ...]:
    """Find every minimal set of edges (or nodes) that answers all prompts, as `find_circuits` does.

    Raise ValueError where nodes write too many different things.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> found = find_circuits_by_node(case.model, case.task.everything(), "resample")
    >>> found == case.truth.circuits["resample"].edges
    True
    """
    trial = Trial(model, batch, ablation)
    choices = list_choices(model, batch, ablation, level)
    always = {"logits"} if level == "nodes" else set()
    rows = torch.arange(min(FIRST_ROWS, len(trial.batch.clean)))
    while True:
        with torch.no_grad():
            search = _Search(model, trial.batch.take(rows), trial.off[:, rows], choices)
            sets = [
                [c for i, c in enumerate(choices) if one >> i & 1] for one in search.find_sets()
            ]
        refuting = _find_refuting(trial, level, sets)
        if not refuting:
            circuits = (frozenset({*one} | always) for one in sets)
            return tuple(sorted(circuits, key=lambda circuit: (len(circuit), sorted(circuit))))
        rows = torch.cat([rows, torch.tensor(sorted(refuting))])


@torch.no_grad()
def _find_refuting(trial: Trial, level: Level, sets: list[list[str]]) -> set[int]:
    """Find the first prompt that each set fails to answer, if there is one."""
    if not sets:
        return set()
    runs = run_masks(
        trial.model, trial.batch.clean, make_masks(trial.model, trial.batch, sets, level), trial.off
    )
    right = torch.cat([trial.batch.correct(logits) for logits in runs])
    return {int(one.int().argmin()) for one in right if not one.all()}


class _Search:
    """Lists what each node can write on some prompts, from the input to the logits."""

    def __init__(
        self,
        model: Transformer,
        batch: Batch,
        off: Float[Tensor, "writer batch pos d_model"],
        choices: list[str],
    ) -> None:
        self.model = model
        self.batch = batch
        self.off = dict(zip(list_writers(model), off, strict=True))
        self.bit = {choice: 1 << i for i, choice in enumerate(choices)}
        self.into: dict[Node, list[Edge]] = {}
        edges = [Edge.parse(name) for name in list_live_edges(model)]
        for edge in edges:
            self.into.setdefault(edge.reader, []).append(edge)
        # From these no path goes through a head: they matter only where answers are asked for.
        self.local = {Node("logits")}
        for name in reversed(list(self.off)):
            writer = Node.parse(name)
            readers = {edge.reader for edge in edges if edge.writer == writer}
            if all(reader in self.local and reader.kind != "head" for reader in readers):
                self.local.add(writer)
        self.asked = torch.zeros(*batch.clean.shape, 1, dtype=torch.bool)
        positions = batch.position.view(len(batch.clean), -1)
        self.asked[torch.arange(len(positions)).unsqueeze(1), positions] = True
        # What each node can write, less what it writes when off: first of all nothing.
        self.written: dict[Node, list[Tensor]] = {}
        self.known: dict[Node, dict[bytes, int]] = {}  # number of each

    def find_sets(self) -> Sets:
        """Find the smallest sets that answer every prompt."""
        start = self.model(self.batch.clean, stop_at_layer=0)
        alive = [Node("input")]
        # What those write that are read later -> sets
        states: dict[tuple[int, ...], Sets] = {
            (n,): sets
            for n, sets in self.switch(alive[0], {self.number(alive[0], start): [0]}).items()
        }
        order = [*map(Node.parse, list(self.off)[1:]), Node("logits")]
        readers = [node for node in order if node in self.into]
        for step, node in enumerate(readers):
            heard = list(dict.fromkeys(edge.writer for edge in self.into[node]))
            places = [alive.index(writer) for writer in heard]
            results = {
                key: self.try_subsets(node, dict(zip(heard, key, strict=True)))
                for key in {tuple(state[place] for place in places) for state in states}
            }
            later = {edge.writer for other in readers[step + 1 :] for edge in self.into[other]}
            kept = [i for i, writer in enumerate(alive) if writer in later]
            new: dict[tuple[int, ...], Sets] = {}
            for state, sets in states.items():
                for which, own in results[tuple(state[place] for place in places)].items():
                    key = (*(state[i] for i in kept), which)
                    new.setdefault(key, []).extend(one | more for one, more in product(sets, own))
            states = {key: keep_minimal(sets) for key, sets in new.items()}
            if len(states) > MOST_STATES:
                raise ValueError(
                    f"the nodes up to {node} write {len(states)} different things, "
                    f"but at most {MOST_STATES} are few enough"
                )
            alive = [alive[i] for i in kept] + [node]
        return states.get((1,), [])

    def try_subsets(self, node: Node, classes: dict[Node, int]) -> dict[int, Sets]:
        """Run a node under all subsets of its edges: number of its output -> smallest sets."""
        into = self.into[node]
        bits = [self.bit.get(str(edge), 0) for edge in into]
        # Edges that are no choices are on.
        subsets = list(product(*((False, True) if bit else (True,) for bit in bits)))
        off = self.read_off(node)
        start = off.expand(len(subsets), *off.shape)
        streams = dict.fromkeys(("q", "k", "v") if node.kind == "head" else (None,), start)
        for on, edge in zip(torch.tensor(subsets).T, into, strict=True):
            value = self.written[edge.writer][classes[edge.writer]]
            streams[edge.part] = streams[edge.part] + on.view(-1, 1, 1, 1) * value
        found: dict[int, Sets] = {}
        numbers = self.number_outputs(node, [stream.flatten(0, 1) for stream in streams.values()])
        for subset, number in zip(subsets, numbers, strict=True):
            own = sum(bit for on, bit in zip(subset, bits, strict=True) if on)
            found.setdefault(number, []).append(own)
        return self.switch(node, {number: keep_minimal(sets) for number, sets in found.items()})

    def switch(self, node: Node, found: dict[int, Sets]) -> dict[int, Sets]:
        """Let a node be on or off, if it is a choice; off it writes number 0."""
        if str(node) not in self.bit:
            return found
        bit = self.bit[str(node)]
        return {0: [0]} | {n: [one | bit for one in sets] for n, sets in found.items() if n}

    def read_off(self, node: Node) -> Float[Tensor, "batch pos d_model"]:
        """Return what a node reads when all its edges are off."""
        first = str(node._replace(head=0) if node.kind == "head" else node)
        names = [*self.off, "logits"]
        before = [self.off[name] for name in names[: names.index(first)]]
        layers = self.model.config.n_layers if node.layer is None else node.layer
        layers += node.kind == "mlp"
        return torch.stack(before).sum(dim=0) + sum_biases(self.model, layers)

    def number_outputs(self, node: Node, streams: list[Tensor]) -> list[int]:
        """Number what a node writes when it reads these streams, (subset * batch, pos, d_model).

        The logits have the number 1 where they answer every prompt, else 0.
        """
        n = len(self.batch.clean)
        if node.layer is None:
            logits = self.model.unembed(streams[0]).unflatten(0, (-1, n))
            return self.batch.correct(logits).all(dim=-1).long().tolist()
        if node.kind == "head":
            out = write_heads(self.model, node.layer, *streams)[:, :, node.head]
        else:
            out = write_mlp(self.model, node.layer, streams[0])
        return [self.number(node, value) for value in out.unflatten(0, (-1, n))]

    def number(self, node: Node, value: Float[Tensor, "batch pos d_model"]) -> int:
        """Number something that a node writes; what it writes when off is 0."""
        off = self.off[str(node)]
        if node not in self.written:
            self.written[node] = []
            self.known[node] = {}
            self.number(node, off)
        known = self.known[node]
        delta = value - off
        if node in self.local:
            delta = delta * self.asked
        key = (delta / SAME).round().int().numpy().tobytes()
        if key not in known:
            known[key] = len(known)
            self.written[node].append(delta)
        return known[key]


def keep_minimal(sets: Sets) -> Sets:
    """Keep the sets that hold no other.

    >>> keep_minimal([0b110, 0b100, 0b011])
    [4, 3]
    """
    kept: Sets = []
    for one in sorted(set(sets), key=int.bit_count):
        if not any(other & one == other for other in kept):
            kept.append(one)
    return kept
