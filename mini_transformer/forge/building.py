"""Set a transformer's weights so that it runs a program, in a basis that can be read.

Every variable has its own group of directions in the residual stream, one per value. A head moves
a group from one position to another; a neuron per table entry fires if both values stand there,
relu(g (x_a + y_b - 2) + 1) with g of 2 or more, so that a value that is half present counts as
absent. The last step
also reads the mark of its task, the last token, and writes to the answer's logit; the token "." has
a bias, so that it wins where too little is written.

A head that fetches finds its place by the position embedding, or by a mark that an MLP sets there;
it asks for it where the embedding or a mark says so, or from everywhere alike, by a bias.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.forge.program import Program, Step
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.by_hand import Directions, Stream, make_blank

STRENGTH = 4.0  # of an answer's logit
THRESHOLD = 0.75  # of it: less than this, and "." is said
GAINS = (
    2.0,
    2.6,
)  # each neuron's is drawn between these where a placement has a seed, else it is the first
STRENGTHS = (1.0, 1.5)  # each head's, as a share of the knob `saturation`, likewise
BY_POSITION = 0.1  # the share of places that are known by position where they could be marked


@dataclass(frozen=True)
class Head:
    """Moves rows of `source` to rows of `target`, from where row i of `key` meets `query`."""

    role: str
    layer: int
    query: Directions
    key: Directions
    source: Directions
    target: Directions
    at: int = -1  # the position where it is meant to look from,
    origin: int = -1  # and to
    always: float | int = 0.0  # how much of each row of `key` is asked for everywhere


@dataclass(frozen=True)
class Neurons:
    """Neurons of one MLP that do one thing."""

    role: str
    layer: int
    reads: Directions
    bias: Float[Tensor, "_count"]
    writes: Directions
    at: int = -1


Part = Head | Neurons


@dataclass(frozen=True)
class Placement:
    """The layer of each step, and how each head that fetches finds its place.

    `layers` also has `name/2` for a second way, `previous` for that head, and `mark` for the MLP
    that marks the positions `marked`. A fetch `asks` by "position", by "mark" or from "everywhere",
    and `finds` by "position" or by "mark".
    """

    layers: dict[str, int]
    marked: tuple[int, ...]
    asks: dict[str, str]
    finds: dict[str, str]
    seed: int | None = None  # of gains and strengths

    @property
    def n_layers(self) -> int:
        return 1 + max(self.layers.values())


def list_groups(program: Program, placement: Placement, task: int) -> dict[str, int]:
    """List the groups of directions that a program's variables need, with their sizes."""
    layout = program.layout
    sizes = {f"{task}:{name}": layout.n for name in program.steps if name != program.answer}
    sizes |= {f"{task}:mark {at}": 1 for at in placement.marked}
    matches = any(step.op == "match" for step in program.steps.values())
    return sizes | ({f"{task}:previous": layout.keys} if matches else {})


def make_stream(
    programs: Sequence[Program], placements: Sequence[Placement], **more: int
) -> Stream:
    """Name the directions: tokens, positions, each task's variables, the answer's values."""
    layout = programs[0].layout
    sizes = {"token": layout.d_vocab, "position": layout.length, "out": layout.n}
    for task, (program, placement) in enumerate(zip(programs, placements, strict=True)):
        sizes |= list_groups(program, placement, task)
    return Stream(**sizes, **more)


def place_steps(program: Program, rng: random.Random, most: int, marks: bool = True) -> Placement:
    """Draw where and how each step is computed.

    A step comes after what it reads, now and then a layer later than it could, but not in a layer
    beyond `most` unless it must. Without `marks`, only heads come later, and look by position.
    """
    time = dict.fromkeys(program.layout.tokens, -1)  # attention of layer l is 2 l, its MLP 2 l + 1
    placed: dict[str, int] = {}

    def place(name: str, ready: int, is_head: bool) -> int:
        slot = ready + 1
        slot += slot % 2 if is_head else 1 - slot % 2
        # Not all as early as can be, where so few edges are that any guess finds them; a head in
        # the first layer would also have to read its places from the input.
        room = max(0, most - 1 - slot // 2)
        if is_head or marks:
            slot += 2 * rng.randint(int(marks and slot == 0 and room > 0), room)
        placed[name] = slot // 2
        return slot

    for name, step in program.steps.items():
        ready = max(time[read] for read in step.reads)
        if step.op == "match" and "previous" not in placed:
            time["previous"] = place("previous", -1, is_head=True)
        if step.op == "match":
            ready = max(ready, time["previous"])
        time[name] = place(name, ready, is_head=step.op in ("fetch", "match"))
        if name == program.twice:
            time[name] = place(f"{name}/2", time[name] + 1, is_head=False)
    asks: dict[str, str] = {}
    finds: dict[str, str] = {}
    marked: set[int] = set()
    fetches = [name for name, step in program.steps.items() if step.op == "fetch"]
    later = [placed[name] for name in fetches if placed[name]]
    if marks and later:
        placed["mark"] = rng.randrange(min(later))
    for name in fetches:
        origin = program.where[program.steps[name].reads[0]]
        asks[name] = rng.choice(["mark", "everywhere"]) if marks else "position"
        finds[name] = "mark" if marks else "position"
        for ways, at in ((asks, program.steps[name].at), (finds, origin)):
            if ways[name] == "mark" and (not placed[name] or rng.random() < BY_POSITION):
                ways[name] = "position"
            marked |= {at} if ways[name] == "mark" else set()
    seed = rng.randrange(2**31) if marks else None
    return Placement(placed, tuple(sorted(marked)), asks, finds, seed)


def list_parts(
    program: Program, placement: Placement, stream: Stream, task: int, strength: float | int
) -> list[Part]:
    """List the heads and neurons that run a program."""
    placed = placement.layers
    rng = random.Random(placement.seed)

    def draw_strength() -> float | int:
        return strength if placement.seed is None else strength * rng.uniform(*STRENGTHS)

    def draw_gains(n: int) -> Float[Tensor, "{n}"]:
        fixed = placement.seed is None
        return torch.tensor([GAINS[0] if fixed else rng.uniform(*GAINS) for _ in range(n)])

    layout = program.layout
    position = stream["position"]
    tokens = stream["token"]
    values = tokens[: layout.n]
    keys = tokens[layout.n : layout.n + layout.keys]

    def find(name: str) -> Directions:
        if name in layout.tokens:
            return keys if name.startswith("q") else values
        return stream["out"] if name == program.answer else stream[f"{task}:{name}"]

    parts: list[Part] = []
    for at in placement.marked:
        gain = draw_gains(1)
        mark = stream[f"{task}:mark {at}"]
        reads = gain * position[at, None]
        parts.append(Neurons("mark", placed["mark"], reads, 1 - gain, mark, at=at))
    if "previous" in placed:
        previous = stream[f"{task}:previous"]
        # From each value to its key; from elsewhere to the first token, which is no key.
        pairs = range(2, 2 * layout.keys + 1, 2)
        origins = [at - 1 if at in pairs else 0 for at in range(1, layout.length)]
        query = position[1:] * draw_strength()
        parts.append(Head("previous", placed["previous"], query, position[origins], keys, previous))
    for name, step in program.steps.items():
        layer = placed[name]
        read = [find(source) for source in step.reads]
        if step.op == "fetch":
            origin = program.where[step.reads[0]]
            here, there = (
                stream[f"{task}:mark {at}"] if way == "mark" else position[at, None]
                for way, at in ((placement.asks[name], step.at), (placement.finds[name], origin))
            )
            own_strength = draw_strength()
            always = own_strength if placement.asks[name] == "everywhere" else 0
            query = here * (own_strength - always)
            moved = (read[0], find(name), step.at, origin)
            parts.append(Head(step.op, layer, query, there, *moved, always))
        elif step.op == "match":
            query = read[0] * draw_strength()
            parts.append(Head(step.op, layer, query, previous, values, find(name)))
        else:
            gate = tokens[layout.marks[task]] if name == program.answer else None
            gains = draw_gains(len(step.table) or len(read[0]))
            cap = step.reads[0] == program.twice
            own = list_neurons(step, read, find(name), gate, gains, cap)
            role = "copy" if step.op == "copy" else "look_up"
            parts.append(Neurons(role, layer, *own, at=step.at))
            if name == program.twice:
                reads, bias, writes = own
                if program.how_twice == "backup":
                    reads = reads - 2 * GAINS[1] * find(name).sum(0)
                layer = placed[f"{name}/2"]
                parts.append(Neurons(program.how_twice, layer, reads, bias, writes, at=step.at))
    return parts


def list_neurons(
    step: Step,
    read: list[Directions],
    write: Directions,
    mark: Tensor | None,
    gains: Float[Tensor, "entry"],
    cap: bool,
) -> tuple[Directions, Float[Tensor, "_count"], Directions]:
    """Return what the neurons of a table (or a copy) read, their biases, and what they write.

    With `cap` the variable may stand there twice: other values count against it, and a second
    neuron takes off what goes beyond one.
    """
    n = len(write)
    outputs = step.table or tuple(range(n))
    gate = torch.zeros_like(write[0]) if mark is None else mark
    reads = []
    for entry in range(len(outputs)):
        if len(read) == 1:
            against = read[0].sum(0) - read[0][entry] if cap else torch.zeros_like(gate)
            reads.append(read[0][entry] - against + gate)
        else:
            reads.append(read[0][entry // n] + read[1][entry % n] + gate)
    needed = len(read) + (mark is not None)
    weights = gains[:, None] * torch.stack(reads)
    bias = 1 - gains * needed
    writes = write[list(outputs)]
    if cap:
        weights = weights.repeat(2, 1)
        bias = torch.cat([bias, bias - 1])
        writes = torch.cat([writes, -writes])
    return weights, bias, writes


@dataclass(frozen=True)
class Build:
    """A model made of parts, with the head (or first neuron) that each part got."""

    model: Transformer
    stream: Stream
    slots: tuple[int, ...]
    used: dict[int, int]  # layer -> neurons in use

    def node(self, part: Part, slot: int) -> str:
        return f"a{part.layer}.h{slot}" if isinstance(part, Head) else f"m{part.layer}"


def build(
    parts: Sequence[Part],
    stream: Stream,
    program: Program,
    *,
    n_layers: int,
    n_heads: int = 0,
    d_mlp: int = 0,
    room: int = 0,
    rng: random.Random | None = None,
) -> Build:
    """Make a model of these parts, heads in random places if `rng` is given.

    `n_heads` and `d_mlp` are at least what the parts need; `room` dimensions of each head are left.
    """
    layout = program.layout
    heads = [[p for p in parts if isinstance(p, Head) and p.layer == i] for i in range(n_layers)]
    n_heads = max(n_heads, 1, *(len(own) for own in heads))
    widths = [max(len(p.query), len(p.source)) for own in heads for p in own]
    neurons = [p for p in parts if isinstance(p, Neurons)]
    needed = [sum(len(p.reads) for p in neurons if p.layer == i) for i in range(n_layers)]
    config = Config(
        d_vocab=layout.d_vocab,
        n_ctx=layout.length,
        d_model=stream.d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_head=max(widths, default=1) + room,
        d_mlp=max(d_mlp, 1, *needed),
        attn_scale=1.0,
        biases=True,
    )
    model = make_blank(config)
    places = [list(range(n_heads)) for _ in range(n_layers)]
    if rng:
        for place in places:
            rng.shuffle(place)
    used = dict.fromkeys(range(n_layers), 0)
    slots = []
    with torch.no_grad():
        model.W_E.copy_(stream["token"])
        model.W_pos.copy_(stream["position"])
        model.W_U[:, : layout.n] = stream["out"].T * STRENGTH
        model.get_parameter("b_U")[layout.filler] = THRESHOLD * STRENGTH
        for part in parts:
            if isinstance(part, Head):
                slot = places[part.layer].pop()
                attn = model.blocks[part.layer].attn
                attn.W_Q[slot, :, : len(part.query)] = part.query.T
                attn.W_K[slot, :, : len(part.key)] = part.key.T
                attn.W_V[slot, :, : len(part.source)] = part.source.T
                attn.W_O[slot, : len(part.target)] = part.target
                if part.always:
                    biases = model.get_parameter(f"blocks.{part.layer}.attn.b_Q")
                    biases[slot, : len(part.query)] = part.always
            else:
                slot = used[part.layer]
                own = slice(slot, slot + len(part.reads))
                used[part.layer] = own.stop
                mlp = f"blocks.{part.layer}.mlp."
                model.get_parameter(mlp + "W_in")[:, own] = part.reads.T
                model.get_parameter(mlp + "b_in")[own] = part.bias
                model.get_parameter(mlp + "W_out")[own] = part.writes
            slots.append(slot)
    return Build(model, stream, tuple(slots), used)


def find_places(made: Build, parts: Sequence[Part]) -> dict[str, Collection[int]]:
    """Find the positions of its reader's input at which each edge is meant to act."""
    embedded = torch.cat([made.stream["token"], made.stream["position"]])
    last = made.model.config.n_ctx - 1
    written: list[tuple[str, float, Tensor]] = [("input", -1, embedded)]
    written += [
        (made.node(part, slot), part.layer + isinstance(part, Neurons) / 2, _targets(part))
        for part, slot in zip(parts, made.slots, strict=True)
    ]
    read: list[tuple[str, float, Tensor, int]] = [
        ("logits", len(made.model.blocks), made.stream["out"], last)
    ]
    for part, slot in zip(parts, made.slots, strict=True):
        node = made.node(part, slot)
        if isinstance(part, Head):
            read.append((f"{node}<q>", part.layer, part.query, part.at))
            read.append((f"{node}<k>", part.layer, part.key, part.origin))
            read.append((f"{node}<v>", part.layer, part.source, part.origin))
        else:
            read.append((node, part.layer + 0.5, part.reads, part.at))
    places: dict[str, set[int]] = {}
    for writer, after, targets in written:
        for reader, before, sources, at in read:
            if after < before and bool((targets @ sources.T).any()):
                places.setdefault(f"{writer}->{reader}", set()).add(at)
    return dict(places)


def _targets(part: Part) -> Directions:
    return part.target if isinstance(part, Head) else part.writes
