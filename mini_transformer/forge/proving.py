"""Find every minimal circuit of a model made of few parts, by proof for all sets of switches.

A switch is an edge, or an edge at one position. Node by node, everything that a node can write
under any setting of the switches before it is listed once, beside the smallest sets of switches
that make it write that; so all sets are covered without being run one by one. Each set is then
shown to answer every prompt by more than `slack`, or to fail one by more than that, whatever else
in a larger model adds less than `slack` to a difference of logits. Where only the positions are
switched at which an edge is meant to act, the others may be on or off: values are intervals, a
centre and a radius, that cover both.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    Edge,
    Node,
    Switch,
    list_writers,
    mask_of,
    run_edges,
    write_outputs,
)
from mini_transformer.model import Transformer
from mini_transformer.toys.find_by_node import keep_minimal
from mini_transformer.toys.find_circuits import list_live_edges
from mini_transformer.toys.truth import Batch

SAME = 1e-4  # values that differ by less are one value
AT_ONCE = 2**22  # floats in the largest tensor
MOST_STATES = 20_000
FIRST_ROWS = 8

Places = dict[str, Collection[int]]  # edge -> positions of its reader's input that it is meant for


class Undecided(Exception):
    """Raised where a set neither answers nor fails by enough, or there are too many to try."""


@dataclass(frozen=True)
class Proof:
    """The minimal sets of switches, and by how much every other verdict was clear."""

    circuits: tuple[frozenset[Switch], ...]
    slack: float


class Value(NamedTuple):
    """What may be written (or read): everything within `radius` of `centre`, entry by entry."""

    centre: Tensor
    radius: Tensor

    def through(self, weight: Tensor) -> "Value":
        return Value(self.centre @ weight, self.radius @ weight.abs())

    def perhaps(self) -> "Value":
        """Cover this and zero."""
        half = self.centre / 2
        return Value(half, half.abs() + self.radius)


def prove(
    model: Transformer,
    batch: Batch,
    ablation: Ablation,
    slacks: Iterable[float],
    places: Places | None = None,
) -> Proof:
    """Find all minimal sets of switches that answer every prompt, with the largest slack possible.

    With `places`, switches are edges at these positions of their reader. The model has MLPs and
    biases, but no norm, b_O or b_out. Raise Undecided if no slack of the list decides all sets.
    """
    c = model.config
    constants = [] if not (c.biases and c.d_mlp) else [model.b_O, model.b_out]
    if c.norm != "none" or not constants or any(bool(b.any()) for b in constants):
        raise ValueError(f"only models with MLPs and biases, but no norm, b_O or b_out, not {c}")
    batch = batch if ablation == "resample" else batch.distinct()
    with torch.no_grad():
        source = batch.corrupt if ablation == "resample" else batch.clean
        off = write_outputs(model, source, ablation)
        order = torch.randperm(len(off[0]), generator=torch.Generator().manual_seed(0))
        chosen = order[:FIRST_ROWS]
        while True:
            outcomes = _Search(model, batch, off, chosen, places).list_outcomes()
            proof, wrong = _judge(model, batch, off, outcomes, tuple(slacks), places)
            if wrong is None:
                return proof
            if wrong in chosen:
                raise Undecided("a prompt's margin is not known well enough")
            # A set that seemed right fails on a prompt that was left out: try with that one, too.
            chosen = torch.cat([chosen, wrong])


class Outcome(NamedTuple):
    """A smallest set with its margin: the answer's logit above all others, on the worst prompt."""

    switches: frozenset[Switch]
    low: float
    high: float


def _judge(
    model: Transformer,
    batch: Batch,
    off: Tensor,
    outcomes: list[Outcome],
    slacks: tuple[float, ...],
    places: Places | None,
) -> tuple[Proof, Tensor | None]:
    """Class all outcomes by the first slack that decides them; name a prompt that refutes this."""
    for slack in slacks:
        right = _keep_minimal(o.switches for o in outcomes if o.low > slack)
        unclear = [o.switches for o in outcomes if o.low <= slack and o.high >= -slack]
        if right and all(any(one <= other for one in right) for other in unclear):
            break
    else:
        raise Undecided("some sets neither answer nor fail clearly")
    margins = run_switches(model, batch, off, right, places)
    if bool((margins > slack).all()):
        return Proof(tuple(right), slack), None
    if bool(((margins <= slack) & (margins >= -slack)).any()):
        raise Undecided("some sets neither answer nor fail clearly")
    return Proof((), 0.0), margins.min(dim=0).values.argmin(dim=0, keepdim=True)


def _keep_minimal(sets: Iterable[frozenset[Switch]]) -> list[frozenset[Switch]]:
    """Keep the sets that hold no other, the smallest first."""
    kept: list[frozenset[Switch]] = []
    for one in sorted(set(sets), key=lambda one: (len(one), sorted(map(str, one)))):
        if not any(other <= one for other in kept):
            kept.append(one)
    return kept


def run_switches(
    model: Transformer,
    batch: Batch,
    off: Tensor,
    sets: Iterable[Iterable[Switch]],
    places: Places | None,
) -> Float[Tensor, "set prompt"]:
    """Return each prompt's least margin with only these switches on."""
    if places is not None:
        search = _Search(model, batch, off, torch.arange(len(batch.clean)), places)
        return torch.stack([search.run(frozenset(one)) for one in sets])
    masks = torch.stack([mask_of(model, [switch.edge for switch in one]) for one in sets])
    logits = run_edges(model, batch.clean, masks, off)
    return measure_margin(batch.at_answer(logits), batch.answer)


def measure_margin(
    logits: Float[Tensor, "*any prompt vocab"], answer: Int[Tensor, "prompt"]
) -> Float[Tensor, "*any prompt"]:
    """Return by how much the answer's logit exceeds the highest other one."""
    rows = torch.arange(len(answer))
    others = logits.clone()
    others[..., rows, answer] = float("-inf")
    return logits[..., rows, answer] - others.amax(dim=-1)


def _locate(node: str) -> tuple[int, int]:
    """Return a node's layer and head; 0 for what it does not have."""
    found = Node.parse(node)
    return found.layer or 0, found.head or 0


class _Search:
    """Lists what each node can write, from the input to the logits, on some of the prompts."""

    def __init__(
        self,
        model: Transformer,
        batch: Batch,
        off: Float[Tensor, "writer batch pos d_model"],
        rows: Int[Tensor, "row"],
        places: Places | None,
    ) -> None:
        self.model = model
        self.tokens = batch.clean[rows]
        self.answer = batch.answer[rows]
        self.position = batch.position[rows]
        self.off = off[:, rows]
        self.places = places
        self.writers = list_writers(model)
        self.into: dict[str, list[tuple[str, str]]] = {}  # node -> (writer, part)
        for edge in map(Edge.parse, list_live_edges(model)):
            into = self.into.setdefault(str(edge.reader), [])
            into.append((str(edge.writer), edge.part or ""))
        # Positions of what a node writes that some switch is about; the others are covered as one.
        self.useful: dict[str, list[int]] = {}
        for node, heard in self.into.items() if places is not None else ():
            for writer, part in heard:
                own = self.useful.setdefault(writer, [])
                meant = (places or {}).get(self.name_edge(node, writer, part), ())
                own += [at for at in meant if at not in own]
        start = model(self.tokens, stop_at_layer=0) - self.off[0]
        self.written = {"input": [Value(start, torch.zeros_like(start))]}
        self.weights_of: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        self.known: dict[str, dict[bytes, int]] = {}
        self.hull: dict[str, tuple[Tensor, Tensor]] = {}  # of what a node can write
        self.margins: list[tuple[float, float]] = []

    # ---- what the search is made of

    def name_edge(self, node: str, writer: str, part: str) -> str:
        return f"{writer}->{node}<{part}>" if part else f"{writer}->{node}"

    def list_switches(self, node: str) -> list[tuple[Switch, str, str]]:
        """List the switches into a node, with writer and part."""
        found = []
        for writer, part in self.into.get(node, ()):
            edge = self.name_edge(node, writer, part)
            positions = [None] if self.places is None else sorted(self.places.get(edge, ()))
            found += [(Switch(edge, position), writer, part) for position in positions]
        return found

    def weights(self, node: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Return what each part of a node reads with, and its bias."""
        if node in self.weights_of:
            return self.weights_of[node]
        model = self.model
        layer, head = _locate(node)
        if node == "logits":
            found: dict[str, tuple[Tensor, Tensor]] = {"": (model.W_U, model.get_parameter("b_U"))}
        elif Node.parse(node).kind == "mlp":
            found = {"": (model.W_in[layer], model.b_in[layer])}
        else:
            found = {
                "q": (model.W_Q[layer, head], model.b_Q[layer, head]),
                "k": (model.W_K[layer, head], model.b_K[layer, head]),
                "v": (model.W_V[layer, head], model.b_V[layer, head]),
            }
        self.weights_of[node] = found
        return found

    def read_off(self, node: str) -> dict[str, Tensor]:
        """Return what each part of a node reads when everything is off."""
        n_writers = len(self.writers)
        if node != "logits":
            first = Node.parse(node)
            if first.kind == "head":
                first = first._replace(head=0)
            n_writers = self.writers.index(str(first))
        stream = self.off[:n_writers].sum(0)
        return {part: stream @ W + b for part, (W, b) in self.weights(node).items()}

    def contribute(self, writer: str, which: int, W: Tensor, position: int | None) -> Value:
        """Return what a switch that is on adds to what a part reads."""
        value = self.written[writer][which].through(W)
        if position is None:
            return value
        at = torch.zeros(value.centre.shape[1], 1)
        at[position] = 1.0
        return Value(value.centre * at, value.radius * at)

    def elsewhere(self, node: str, classes: dict[str, int]) -> dict[str, Value]:
        """Return what edges add at positions where they are not meant to act: on or off."""
        weights = self.weights(node)
        shape = (*self.tokens.shape, 1)
        total = {
            part: Value(torch.zeros(*shape[:2], W.shape[1]), torch.zeros(*shape[:2], W.shape[1]))
            for part, (W, _) in weights.items()
        }
        if self.places is None or node == "logits":
            return total
        for writer, part in self.into.get(node, ()):
            others = torch.ones(self.tokens.shape[1], 1)
            others[list(self.places.get(self.name_edge(node, writer, part), ()))] = 0.0
            value = self.written[writer][classes[writer]].through(weights[part][0])
            value = Value(value.centre * others, value.radius * others).perhaps()
            total[part] = Value(
                total[part].centre + value.centre, total[part].radius + value.radius
            )
        return total

    def compute(self, node: str, read: dict[str, Value]) -> Value:
        """Return what a node writes (less what it writes when off), for a batch of inputs."""
        if node == "logits":
            return read[""]
        layer, head = _locate(node)
        attn = self.model.blocks[layer].attn
        if Node.parse(node).kind == "mlp":
            high = (read[""].centre + read[""].radius).relu()
            low = (read[""].centre - read[""].radius).relu()
            out = Value((high + low) / 2, (high - low) / 2).through(self.model.W_out[layer])
        else:
            if max(read["q"].radius.max(), read["k"].radius.max()) > 1e-5:
                raise Undecided("where a head looks is not known exactly")
            scores = read["q"].centre @ read["k"].centre.mT / attn.scale
            length = scores.shape[-1]
            scores = scores.masked_fill(attn.mask[:length, :length], float("-inf"))
            pattern = scores.softmax(dim=-1)
            moved = Value(pattern @ read["v"].centre, pattern @ read["v"].radius)
            out = moved.through(attn.W_O[head])
        return Value(out.centre - self.off[self.writers.index(node)], out.radius)

    def read(self, node: str, classes: dict[str, int], on: Iterable) -> dict[str, Value]:
        """Return what a node reads with these switches on."""
        weights = self.weights(node)
        base = self.read_off(node)
        more = self.elsewhere(node, classes)
        total = {part: Value(base[part] + more[part].centre, more[part].radius) for part in base}
        for switch, writer, part in on:
            own = self.contribute(writer, classes[writer], weights[part][0], switch.position)
            total[part] = Value(total[part].centre + own.centre, total[part].radius + own.radius)
        return total

    def at_answer(self, logits: Value) -> tuple[Tensor, Tensor]:
        """Return the least and the largest margin of each prompt."""
        rows = torch.arange(len(self.answer))
        centre = logits.centre[..., rows, self.position, :]
        radius = logits.radius[..., rows, self.position, :]
        sign = -torch.ones_like(centre)
        sign[..., rows, self.answer] = 1.0
        low = measure_margin(centre - sign * radius, self.answer)
        high = measure_margin(centre + sign * radius, self.answer)
        return low, high

    # ---- one set, and all sets

    def run(self, on: frozenset[Switch]) -> Float[Tensor, "prompt"]:
        """Return each prompt's least margin under one set of switches."""
        classes = {"input": 0}
        for node in [*self.writers[1:], "logits"]:
            if node not in self.into:
                continue
            chosen = [found for found in self.list_switches(node) if found[0] in on]
            value = self.compute(node, self.read(node, classes, chosen))
            if node == "logits":
                return self.at_answer(value)[0]
            self.written[node] = [value]
            classes[node] = 0
        raise AssertionError("every model has logits")

    def list_outcomes(self) -> list[Outcome]:
        """List the smallest sets of switches that lead to each outcome, with its margins."""
        bit: dict[Switch, int] = {}
        alive: list[str] = ["input"]
        states: dict[tuple[int, ...], list[int]] = {(0,): [0]}
        outcomes: list[Outcome] = []
        order = [*self.writers[1:], "logits"]
        for i, node in enumerate(order):
            if node not in self.into:
                continue
            switches = self.list_switches(node)
            for switch, _, _ in switches:
                bit[switch] = len(bit)
            heard = sorted({writer for writer, _ in self.into[node]})
            places = [alive.index(writer) for writer in heard]
            # class of what is written (or margins) -> smallest sets, for each class of what is read
            results = {
                key: self.try_subsets(node, dict(zip(heard, key, strict=True)), switches, bit)
                for key in {tuple(state[place] for place in places) for state in states}
            }
            later = {writer for n in order[i + 1 :] for writer, _ in self.into.get(n, ())}
            kept = [j for j, writer in enumerate(alive) if writer in later]
            new: dict[tuple, list[int]] = {}
            for state, sets in states.items():
                found = results[tuple(state[place] for place in places)]
                for which, own in found.items():
                    key = (*(state[j] for j in kept), which)
                    masks = [mask | more for mask, more in product(sets, own)]
                    new[key] = keep_minimal(new.get(key, []) + masks)
            if len(new) > MOST_STATES:
                raise Undecided(f"there are more than {MOST_STATES} states")
            self.cover_useless(node)
            states = new
            alive = [alive[j] for j in kept] + [node]
        names = list(bit)
        for (which,), masks in states.items():
            low, high = self.margins[which]
            for mask in masks:
                on = frozenset(names[i] for i in range(mask.bit_length()) if mask >> i & 1)
                outcomes.append(Outcome(on, low, high))
        return outcomes

    def try_subsets(
        self, node: str, classes: dict[str, int], switches: list, bit: dict[Switch, int]
    ) -> dict[int, list[int]]:
        """Compute a node under all subsets of its switches: class of what it writes -> sets."""
        weights = self.weights(node)
        on = [
            (switch, writer, part, value)
            for switch, writer, part in switches
            for value in [
                self.contribute(writer, classes[writer], weights[part][0], switch.position)
            ]
            if max(value.centre.abs().max(), value.radius.max()) > SAME / 10
        ]
        subsets = torch.tensor(list(product((0.0, 1.0), repeat=len(on)))).view(2 ** len(on), -1)
        base = self.read(node, classes, ())
        found: dict[int, list[int]] = {}
        widest = max(value.centre.numel() for value in base.values())
        for some in subsets.split(max(1, AT_ONCE // (4 * max(widest, self.off[0].numel())))):
            read = {}
            for part, value in base.items():
                own = [j for j, (_, _, p, _) in enumerate(on) if p == part]
                centre = value.centre.expand(len(some), *value.centre.shape)
                radius = value.radius.expand(len(some), *value.radius.shape)
                if own:
                    centre = centre + torch.einsum(
                        "ms,sbtw->mbtw", some[:, own], torch.stack([on[j][3].centre for j in own])
                    )
                    radius = radius + torch.einsum(
                        "ms,sbtw->mbtw", some[:, own], torch.stack([on[j][3].radius for j in own])
                    )
                read[part] = Value(centre, radius)
            value = self.compute(node, read)
            keys = self.class_margins(value) if node == "logits" else self.classes_of(node, value)
            for row, key in zip(some.bool().tolist(), keys, strict=True):
                mask = sum(1 << bit[on[j][0]] for j, is_on in enumerate(row) if is_on)
                found.setdefault(key, []).append(mask)
        return {key: keep_minimal(masks) for key, masks in found.items()}

    def classes_of(self, node: str, value: Value) -> list[int]:
        """Number what a node writes; values that are the same have one number."""
        known = self.known.setdefault(node, {})
        listed = self.written.setdefault(node, [])
        numbers = []
        if node in self.useful:
            low = (value.centre - value.radius).amin(dim=0)
            high = (value.centre + value.radius).amax(dim=0)
            if node in self.hull:
                low = low.minimum(self.hull[node][0])
                high = high.maximum(self.hull[node][1])
            self.hull[node] = (low, high)
        both = torch.stack([value.centre, value.radius], dim=1)
        if node in self.useful:
            both = both[..., self.useful[node], :]
        rounded = (both / SAME).round().int().flatten(1).numpy()
        for i, row in enumerate(rounded):
            key = row.tobytes()
            if key not in known:
                known[key] = len(listed)
                listed.append(Value(value.centre[i].clone(), value.radius[i].clone()))
            numbers.append(known[key])
        return numbers

    def cover_useless(self, node: str) -> None:
        """Let a node's values at positions that no switch is about cover all that it can write."""
        if node not in self.hull:
            return
        low, high = self.hull[node]
        rest = [t for t in range(self.tokens.shape[1]) if t not in self.useful[node]]
        for value in self.written[node]:
            value.centre[:, rest] = ((low + high) / 2)[:, rest]
            value.radius[:, rest] = ((high - low) / 2)[:, rest]

    def class_margins(self, value: Value) -> list[int]:
        """Number the margins of the worst prompt."""
        low, high = (margin.amin(dim=-1).tolist() for margin in self.at_answer(value))
        numbers = []
        for pair in zip(low, high, strict=True):
            pair = (round(pair[0], 2), round(pair[1], 2))
            if pair not in self.margins:
                self.margins.append(pair)
            numbers.append(self.margins.index(pair))
        return numbers
