"""Grade lesson 17.

Frequencies, neurons, phases and algorithms are planted in models with weights set by hand, in
turned streams, beside decoys. What is asked as a number is computed by slow sums over pairs.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, as_list, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.hand_set.disguise import draw_rotation

MUTANTS = load_mutants(__file__)


def start(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def choose(generator: torch.Generator, n: int, k: int) -> list[int]:
    return torch.randperm(n, generator=generator)[:k].tolist()


def write_wave(p: int, k: int) -> Tensor:
    """Write cos and sin of 2 pi k n / p for every number n (p, 2)."""
    angle = 2 * math.pi * k * torch.arange(p) / p
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def list_pairs(p: int) -> tuple[Tensor, Tensor]:
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    return a, b


# Models -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neuron:
    """A neuron: what it reads of cos and sin of a, and of b, at some frequencies, and its bias."""

    first: dict[int, tuple[float, float]]
    second: dict[int, tuple[float, float]]
    bias: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a planted model holds. Dicts say for frequencies how loud they are in the logits.

    `sums` are added as a clock (the second not yet at the position of b), `averages` as a pizza;
    with loudness 0 nobody reads these neurons.
    `differences` are waves of a - b, `alone` of a. All outputs hear `common` waves of a - b
    equally, and so they hear a neuron that weighs a against b: all the time (`tilt`), or for few
    pairs (`spike`). `embedded` says how large further waves of the embedding are, and the
    unembedding reads those in `unwritten` where nothing is written. A `line` adds numbers, not
    angles. The first outputs are `deaf` to the third of `sums`.
    """

    p: int
    sums: dict[int, float] = field(default_factory=dict)
    averages: dict[int, float] = field(default_factory=dict)
    differences: dict[int, float] = field(default_factory=dict)
    alone: dict[int, float] = field(default_factory=dict)
    common: dict[int, float] = field(default_factory=dict)
    embedded: dict[int, float] = field(default_factory=dict)
    unwritten: dict[int, float] = field(default_factory=dict)
    line: float = 0.0
    tilt: float = 0.0
    spike: float = 0.0
    deaf: int = 0
    steady: float = 0.0  # how far a neuron favours outputs, the same for all pairs
    constant: float = 0.0  # how far outputs are favoured, the same for all pairs
    strength: float = 8.0
    noise: float = 0.0
    neurons: tuple[Neuron, ...] = ()
    order: tuple[int, ...] = ()

    def list_frequencies(self) -> list[int]:
        parts = (self.sums, self.averages, self.differences, self.alone, self.common)
        more = [{**neuron.first, **neuron.second} for neuron in self.neurons]
        return sorted(set().union(*parts, self.embedded, self.unwritten, *more))


def turn_by(angle: Tensor, sign: int = 1) -> Tensor:
    """Say what to read of (cos x, sin x) for cos(sign x + angle), one row per angle."""
    return torch.stack([angle.cos(), -sign * angle.sin()], dim=1)


class Writer:
    """Write a plan into the weights of a model, one set of neurons after the other."""

    def __init__(self, plan: Plan, generator: torch.Generator) -> None:
        self.plan, self.generator = plan, generator
        self.frequencies = plan.list_frequencies()
        n = 2 * len(self.frequencies) + 1  # waves, and the place on a line
        sizes = dict(wave=n, position=3, constant=1, first=n, second=n, middle=n, lost=4)
        self.stream = by_hand.Stream(**sizes, sum=n, difference=n, common=1, places=plan.p, ghost=n)
        self.reads: list[Tensor] = []  # (neuron, d_model)
        self.writes: list[Tensor] = []

    def find(self, group: str, k: int) -> Tensor:
        """Find the directions of cos and sin at frequency k (2, d_model)."""
        i = 2 * self.frequencies.index(k)
        return self.stream[group][i : i + 2]

    def draw_angles(self, m: int) -> Tensor:
        return 2 * math.pi * (torch.arange(m) + float(uniform(self.generator, 0, 1, 1))) / m

    def add(self, reads: Tensor, votes: Tensor, target: Tensor, loudness: float) -> None:
        """Add neurons that vote for a direction; those that nobody hears write elsewhere."""
        self.reads.append(reads)
        lost = 0.3 * normal(self.generator, len(reads), 4) @ self.stream["lost"]
        self.writes.append(lost + loudness * votes @ target)

    def add_clock(self, k: int, loudness: float, sign: int, target: Tensor) -> None:
        """Add neurons relu(cos(x + i) + cos(y + j)), where y is the angle of b or of -b."""
        i, j = torch.cartesian_prod(self.draw_angles(5), self.draw_angles(5)).T
        reads = turn_by(i) @ self.find("first", k) + turn_by(j, sign) @ self.find("second", k)
        if k in list(self.plan.sums)[1:2]:
            reads = reads - 20 * self.stream["position"][1]
        votes = turn_by(i + j)
        scale = torch.relu(i.cos() + j.cos()) @ votes[:, 0]
        self.add(reads, votes / scale, target, loudness)

    def add_pizza(self, k: int, loudness: float) -> None:
        angles = self.draw_angles(9)
        votes = turn_by(2 * angles)
        scale = torch.relu(2 * angles.cos()) @ votes[:, 0]
        reads = turn_by(angles) @ self.find("middle", k)
        self.add(reads, votes / scale, self.find("sum", k), loudness)

    def add_line(self, loudness: float) -> None:
        """Add neurons relu(a + b - j), whose bends make each output peak at its number."""
        p = self.plan.p
        bends = torch.arange(-1, 2 * p - 2)
        total = torch.arange(2 * p - 1)
        away = (total[:, None] - torch.arange(p)).remainder(p)
        height = 1 - 4 * torch.minimum(away, p - away).double() / p
        height = height * (1 + 0.1 * torch.rand(p, generator=self.generator))
        shape = torch.relu(total[:, None] - bends).double()
        votes = torch.linalg.lstsq(shape, height).solution.float()
        reads = self.stream["middle"][-1:] * p - bends[:, None] * self.stream["constant"]
        self.add(reads, votes, self.stream["places"], loudness)

    def add_contrast(self, bias: float, loudness: float) -> None:
        """Add a neuron that weighs a wave of a against the same wave of b."""
        angle = self.draw_angles(1)
        k = self.frequencies[0]
        reads = turn_by(angle) @ (self.find("first", k) - self.find("second", k))
        reads = reads + bias * self.stream["constant"]
        self.add(reads, torch.ones(1, 1), self.stream["common"], loudness)

    def write_neurons(self) -> None:
        plan = self.plan
        for k, loudness in plan.sums.items():
            self.add_clock(k, loudness, 1, self.find("sum", k))
        for k, loudness in plan.differences.items():
            self.add_clock(k, loudness, -1, self.find("difference", k))
        for k, loudness in plan.common.items():
            mixed = torch.tensor([[1.0], [0.5]]) @ self.stream["common"]
            self.add_clock(k, loudness, -1, mixed)
        for k, loudness in plan.averages.items():
            self.add_pizza(k, loudness)
        if plan.line:
            self.add_line(plan.line)
        for bias, loudness in ((9.0, plan.tilt), (-0.9, plan.spike)):
            if loudness:
                self.add_contrast(bias, loudness)
        if plan.steady:
            votes = normal(self.generator, 1, plan.p)
            self.add(self.stream["constant"], votes, self.stream["places"], plan.steady)
        for neuron in plan.neurons:
            reads = neuron.bias * self.stream["constant"]
            for group, waves in (("first", neuron.first), ("second", neuron.second)):
                for k, amounts in waves.items():
                    reads = reads + torch.tensor([amounts]) @ self.find(group, k)
            self.add(reads, torch.zeros(1, 1), self.stream["common"], 0.0)

    def write_numbers(self) -> Tensor:
        """Write the embedding of every number, in its order."""
        rows = torch.arange(self.plan.p)[:, None] / self.plan.p * self.stream["wave"][-1:]
        for k in self.frequencies:
            size = self.plan.embedded.get(k, 1.0)
            rows = rows + size * write_wave(self.plan.p, k) @ self.find("wave", k)
        noise = normal(self.generator, self.plan.p, len(self.stream["wave"]))
        return rows + self.plan.noise * noise[:, :-1] @ self.stream["wave"][:-1]

    def write_outputs(self) -> Tensor:
        """Write what each output reads, in the order of numbers."""
        plan, p = self.plan, self.plan.p
        rows = plan.constant * normal(self.generator, p, 1) @ self.stream["constant"]
        rows = rows + self.stream["common"] + self.stream["places"]
        for group, loud in (("first", plan.alone), ("ghost", plan.unwritten)):
            for k, loudness in loud.items():
                rows = rows + loudness * write_wave(p, k) @ self.find(group, k)
        for k in self.frequencies:
            heard = write_wave(p, k) @ self.find("sum", k)
            heard[: plan.deaf * (k in list(plan.sums)[2:3])] = 0
            rows = rows + heard + write_wave(p, k) @ self.find("difference", k)
        return plan.strength * rows


@torch.no_grad()
def write_model(plan: Plan, generator: torch.Generator) -> tuple[Transformer, list[int]]:
    """Write a plan's model in a turned stream.

    Two heads bring all that is embedded of a, and of b; a third attends evenly and brings it of
    both at once. All models attend alike, whoever reads what heads bring. Also return which of the
    plan's neurons each neuron of the model is.
    """
    writer = Writer(plan, generator)
    stream = writer.stream
    writer.write_neurons()
    order = list(plan.order) or list(range(plan.p))
    place = torch.tensor(order).argsort()
    n = len(stream["wave"])
    model = by_hand.make_blank(
        Config(
            d_vocab=plan.p + 1,
            d_vocab_out=plan.p,
            n_ctx=3,
            d_model=stream.d_model,
            n_layers=1,
            n_heads=3,
            d_head=n,
            d_mlp=sum(map(len, writer.reads)),
            attn_scale=1.0,
        )
    )
    _attn, mlp = model.blocks[0].attn, model.blocks[0].mlp
    numbers = writer.write_numbers()[place]
    by_hand.write_embedding(model, torch.cat([numbers, stream["constant"]]), stream["position"])
    position = stream["position"]
    for head, target in enumerate(("first", "second", "middle")):
        if head < 2:
            query, key = position[2:], position[head : head + 1]
            by_hand.attend_where_equal(model, 0, head, query, key, 20.0)
        scale = 3 if target == "middle" else 1  # an even pattern over three positions
        by_hand.copy_directions(model, 0, head, stream["wave"], scale * stream[target])
    neurons = torch.randperm(model.config.d_mlp, generator=generator)
    mlp.W_in.copy_(torch.cat(writer.reads)[neurons].T)
    mlp.W_out.copy_(torch.cat(writer.writes)[neurons])
    by_hand.read_out(model, writer.write_outputs()[place], 1.0)
    turn = draw_rotation(stream.d_model, generator).float()
    for name, weight in model.named_parameters():
        is_reader = any(name.endswith(end) for end in ("W_Q", "W_K", "W_V", "W_in", "W_U"))
        weight.copy_(turn.T @ weight if is_reader else weight @ turn)
    return model, neurons.tolist()


def draw_loudness(generator: torch.Generator, ks: list[int], low: float, high: float) -> dict:
    return dict(zip(ks, uniform(generator, low, high, len(ks)).tolist(), strict=True))


# 17.1 ---------------------------------------------------------------------------------------------


def share_by_sum(logits: Tensor, p: int, wrap: bool = True) -> list[float]:
    """Compute each frequency's share of what logits (pair, output) say of the sum, by slow sums.

    Without `wrap`, a + b and a + b - p are not the same sum, and the first p sums count.
    """
    a, b = list_pairs(p)
    total = (a + b) % p if wrap else a + b
    rows = torch.stack([logits[total == s].mean(dim=0) for s in range(p)]).double()
    rows = rows - rows.mean(dim=0)
    shares = []
    for k in range(1, p // 2 + 1):
        cos, sin = write_wave(p, k).double().T
        shares.append(float((cos @ rows).square().sum() + (sin @ rows).square().sum()))
    return [2 / p * share / float(rows.square().sum()) for share in shares]


def list_strong(shares: list[float], least: float = 0.02) -> set[int]:
    return {k for k, share in enumerate(shares, 1) if share >= least}


@functools.cache
def plant_frequencies(seed: int, p: int, known: int) -> tuple[Transformer, set[int]]:
    """Plant used frequencies, `known` among them, beside one just too weak and four decoys.

    One of those used is near the bound: it would lie below half of the bound, and below the bound
    as a share of all logits. Single outputs, other positions and sums without a modulo mislead.
    """
    generator = start(seed)
    while True:
        more = [k + 1 for k in choose(generator, p // 2, p // 2) if k + 1 != known]
        ks = [known, *more[:8]]
        loud = draw_loudness(generator, ks[:3], 0.9, 1.2)
        size = math.sqrt(sum(x * x for x in loud.values()))
        plan = Plan(
            p,
            sums=loud | {ks[3]: 0.17 * size, ks[4]: 0.12 * size},
            differences={ks[5]: 1.2 * size},
            alone={ks[6]: 2 * size},
            embedded={ks[7]: 3.0},
            unwritten={ks[8]: 1.5},
            deaf=3,
            constant=12.0,
            noise=0.01,
        )
        model = write_model(plan, generator)[0]
        a, b = list_pairs(p)
        with torch.no_grad():
            everywhere = model(torch.stack([a, b, torch.full_like(a, p)], dim=1))
        logits = everywhere[:, -1]
        right = set(ks[:4])
        known_lists = (right, right | {ks[4]}, right - {ks[3]}, right - {p // 2})
        shares = share_by_sum(logits, p)
        of_all = shares[ks[3] - 1] * measure_part_of_sums(logits, p)
        misleading = (
            share_by_sum(logits[:, :1], p),
            share_by_sum(everywhere[:, 1], p),
            share_by_sum(logits, p, wrap=False),
        )
        if (
            list_strong(shares, 0.022) == right
            and shares[ks[4] - 1] > 0.012
            and list_strong(shares, 0.018) == right
            and shares[ks[3] - 1] < 0.036
            and of_all < 0.018
            and all(list_strong(each) not in known_lists for each in misleading)
        ):
            return model, right


def measure_part_of_sums(logits: Tensor, p: int) -> float:
    """Measure how much variance logits keep if pairs with the same sum are averaged."""
    a, b = list_pairs(p)
    rows = torch.stack([logits[(a + b) % p == s].mean(dim=0) for s in range(p)])
    return float(rows.var(dim=0, correction=0).sum() / logits.var(dim=0, correction=0).sum())


def judge_frequencies(student, seed: int, p: int, known: int) -> None:
    model, right = plant_frequencies(seed, p, known)
    got = as_list(student.call("find_frequencies", model, p))
    possible = [f"frequency {k}" for k in range(1, p // 2 + 1)]
    names = None if got is None else [f"frequency {k:g}" for k in got if is_number(k)]
    if names is None or len(names) < len(got or []) or not set(names) <= set(possible):
        raise Wrong(sentence=f"Return a list of whole numbers from 1 to {p // 2}.")
    expect_found(names, [{f"frequency {k}" for k in right}], possible, what="frequencies")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@check("find_frequencies")
def test_the_frequencies_of_a_model_are_found(student):
    """A model whose weights hold more frequencies than its answers."""
    judge_frequencies(student, student.seeds(1)[0], 23, known=11)


@check("find_frequencies")
def test_the_frequencies_of_another_model_are_found(student):
    """Another model, for another p."""
    judge_frequencies(student, student.seeds(2)[1], 29, known=1)


# 17.2 ---------------------------------------------------------------------------------------------


def draw_neuron(generator: torch.Generator, kind: str, ks: list[int]) -> Neuron:
    """Draw a neuron of one kind.

    A "fair" one reads a and b at one frequency (a "plain" one cosines alone), a "rare" one fires
    seldom (a "rarer" one so seldom that its frequency explains a little too little), an "open" one
    always. A "mixed" one reads two frequencies, a "leaning" one a little of a second. Two more
    never change.
    """

    def draw(size: float) -> tuple[float, float]:
        angle = float(uniform(generator, 0, 2 * math.pi, 1))
        return size * math.cos(angle), size * math.sin(angle)

    k, other = (ks[i] for i in choose(generator, len(ks), 2))
    both = {k: draw(1.0)}, {k: draw(float(uniform(generator, 0.8, 1.2, 1)))}
    if kind == "mixed":
        return Neuron({k: draw(1.0)}, {other: draw(1.0)}, 0.5)
    if kind == "leaning":
        return Neuron(both[0] | {other: draw(0.3)}, both[1], 0.3)
    if kind == "still":
        return Neuron({}, {}, 1.0)
    if kind == "plain":
        return Neuron({k: (1.0, 0.0)}, {k: (1.0, 0.0)})
    rarer = float(uniform(generator, -0.9, -0.6, 1))
    bias = dict(fair=0.0, less=-0.3, rare=-0.5, rarer=rarer, rarest=-1.55, open=2.5, off=-9.0)
    return Neuron(*both, bias[kind])


def fire(neuron: Neuron, p: int) -> Tensor:
    """Compute what a neuron hands on for all pairs, from its plan."""
    a, b = list_pairs(p)
    total = torch.full((p * p,), neuron.bias, dtype=torch.float64)
    for number, waves in ((a, neuron.first), (b, neuron.second)):
        for k, (cos, sin) in waves.items():
            angle = 2 * math.pi * k * number.double() / p
            total = total + cos * angle.cos() + sin * angle.sin()
    return torch.relu(total)


def share_out(post: Tensor, p: int) -> list[float]:
    """Compute for each frequency the share of variance that a regression on its waves explains."""
    if post.std() < 1e-6:
        return [0.0] * (p // 2)
    a, b = list_pairs(p)
    shares = []
    for k in range(1, p // 2 + 1):
        columns = [torch.ones(p * p).double()]
        for x in (a, b, a + b, a - b):
            angle = 2 * math.pi * k * x.double() / p
            columns += [angle.cos(), angle.sin()]
        table = torch.stack(columns, dim=1)
        rest = post - table @ torch.linalg.lstsq(table, post[:, None]).solution[:, 0]
        shares.append(1 - float(rest.var() / post.var()))
    return shares


KINDS = (
    *("fair", "plain", "less", "less", "rare", "rarer", "rarer", "rarest"),
    *("open", "open", "mixed", "leaning"),
)


@functools.cache
def plant_neurons(seed: int, p: int) -> tuple[Transformer, Tensor, dict[int, int]]:
    """Plant neurons of all kinds in a model with secret numbers.

    None is so near the 85% that rounding could decide, but some are within a few of it.
    """
    generator = start(seed)
    ks = [k + 1 for k in choose(generator, p // 2, 5)]
    neurons: list[Neuron] = []
    belongs: list[int] = []
    for kind in (*KINDS, *KINDS, "off", "still"):
        while True:
            neuron = draw_neuron(generator, kind, ks[:4])
            shares = share_out(fire(neuron, p), p)
            best = max(shares)
            is_clear = best < 0.84 or best > 0.86
            if is_clear and (kind != "rarer" or (best > 0.81 and best / sum(shares) > 0.87)):
                break
        neurons.append(neuron)
        belongs.append(shares.index(best) + 1 if best > 0.85 else 0)
    order = choose(generator, p, p)
    plan = Plan(p, embedded={ks[4]: 4.0}, neurons=tuple(neurons), order=tuple(order))
    model, place = write_model(plan, generator)
    return model, torch.tensor(order), {f: belongs[i] for f, i in enumerate(place)}


def judge_neurons(student, seed: int, p: int) -> None:
    model, order, right = plant_neurons(seed, p)
    got = student.call("sort_neurons", model, order)
    if not isinstance(got, dict) or not got or not set(got) <= set(right):
        raise Wrong(sentence=f"Return a dict from each neuron, 0 to {len(right) - 1}, to a number.")
    missing = [f for f in right if f not in got]
    if missing:
        raise Wrong(sentence=f"Neuron {missing[0]} is missing in your dict: give 0 to those.")
    numbers = {f: x.item() if isinstance(x, Tensor) else x for f, x in got.items()}
    if not all(is_number(k) and 0 <= k <= p // 2 for k in numbers.values()):
        raise Wrong(sentence=f"Give every neuron a whole number from 0 to {p // 2}.")
    wrong = [f for f in right if numbers[f] != right[f]]
    if wrong:
        f = wrong[0]
        raise Wrong(
            sentence=f"{len(wrong)} of {len(right)} neurons are wrong, such as neuron {f}: you say "
            f"{numbers[f]}."
        )


@check("sort_neurons", weight=2)
def test_neurons_belong_to_their_frequencies(student):
    """Neurons of one frequency, of two, and of none; numbers in a secret order."""
    judge_neurons(student, student.seeds(1)[0], 13)


@check("sort_neurons")
def test_neurons_of_another_model_belong_to_theirs(student):
    """Another model, another p and another order."""
    judge_neurons(student, student.seeds(2)[1], 17)


# 17.3 ---------------------------------------------------------------------------------------------


def take_waves(logits: Tensor, frequencies: list[int], p: int) -> Tensor:
    """Take the part of logits (pair, p) that is waves of a + b, as an average over all pairs.

    At each frequency pair (a, b) gets every other one, weighted by the cosine between their sums.
    """
    a, b = list_pairs(p)
    total = (a + b).double()
    away = total[:, None] - total
    part = torch.zeros_like(logits)
    for k in frequencies:
        part = part + 2 / p**2 * torch.cos(2 * math.pi * k * away / p) @ logits
    return part


def measure_loss(logits: Tensor, rows: list[int], p: int) -> float:
    """Compute the mean cross-entropy of a + b over some rows, one row after the other."""
    losses = []
    for row in rows:
        answer = (row // p + row % p) % p
        losses.append(float(torch.logsumexp(logits[row], dim=0) - logits[row, answer]))
    return sum(losses) / len(losses)


PHASES = ("nothing", "memory", "circuit", "both")


def measure_losses(logits: Tensor, frequencies: list[int], seen: list[int], p: int) -> list[float]:
    """Measure both losses, and how each would come out over other pairs, or without the mean.

    As shares of log p: restricted, excluded, restricted over pairs seen, excluded without the mean,
    restricted over pairs not seen.
    """
    part = take_waves(logits, frequencies, p)
    mean = logits.mean(dim=0)
    everything = list(range(p * p))
    losses = [
        measure_loss(part + mean, everything, p),
        measure_loss(logits - part, seen, p),
        measure_loss(part + mean, seen, p),
        measure_loss(logits - part - mean, seen, p),
        measure_loss(part + mean, [row for row in everything if row not in seen], p),
    ]
    return [loss / math.log(p) for loss in losses]


PHASES = ("nothing", "memory", "circuit", "both")

# How loud circuit, memory, waves at other frequencies, a favour for some outputs, and one for sums
# that are often seen are; and which of the losses lie on different sides of the bound.
STATES = (
    (0.0, 0.0, 0.0, 0.5, 0.0),
    (0.4, 0.5, 0.0, 0.5, 0.0),
    (0.0, 12.0, 0.0, 0.5, 0.0),
    (0.3, 9.0, 0.0, 0.5, 0.0),
    (6.0, 0.0, 0.0, 0.5, 0.0),
    (4.0, 0.5, 0.0, 0.5, 0.0),
    (4.0, 12.0, 0.0, 0.5, 0.0),
    (6.0, 9.0, 0.0, 0.5, 0.0),
    (0.0, 0.0, 4.0, 0.5, 0.0),  # a circuit at other frequencies: here it counts as memory
    (4.0, 0.0, 0.0, 6.0, 0.0),  # a favour that drowns the circuit
    (3.0, 3.3, 0.0, 0.0, 0.0),
    (1.3, 9.0, 0.0, 0.0, 0.0),
    (0.0, 4.5, 0.0, 3.0, 0.0),  # a favour that drowns memory
    (1.2, 9.0, 0.0, 0.0, 3.5),  # a circuit that is right where pairs are seen
    (1.8, 0.0, 0.0, 0.0, 3.5),
    (1.5, 0.0, 0.0, 0.0, 0.0),  # not far below the bound: in bits it would lie above
)
DIFFER = {12: (1, 3), 13: (0, 2), 14: (0, 4)}


@functools.cache
def plant_phases(seed: int, p: int) -> tuple[Tensor, list[int], Tensor, list[str]]:
    """Plant checkpoints, clear of the bounds. Pairs that were not seen get other answers."""
    generator = start(seed)
    a, b = list_pairs(p)
    answer = (a + b) % p
    ks = [k + 1 for k in choose(generator, p // 2, p // 2)]
    frequencies = ks[:2]
    is_common = torch.randperm(p, generator=generator) < p // 2  # these sums are seen more often
    odds = torch.where(is_common[answer], 6.0, 1.0)
    seen = torch.multinomial(odds, int(0.4 * p * p), generator=generator).tolist()
    away = answer[:, None] - torch.arange(p)
    waves = {k: torch.cos(2 * math.pi * k * away / p) for k in ks}
    rows, names = [], []
    for i in choose(generator, len(STATES), len(STATES)):
        while True:
            wrong = (answer + torch.randint(1, p, answer.shape, generator=generator)) % p
            wrong[seen] = answer[seen]
            is_close = i >= len(STATES) - 4
            factor = uniform(generator, *((0.5, 1.5) if is_close else (0.9, 1.1)), 5)
            circuit, memory, other, favour, common = (factor * torch.tensor(STATES[i])).tolist()
            logits = circuit * sum(waves[k] for k in frequencies)
            logits = logits + memory * torch.eye(p)[wrong]
            logits = logits + other * sum(waves[k] for k in ks[2:])
            logits = logits + favour * normal(generator, p) + common * is_common
            logits = logits + 0.1 * normal(generator, p * p, p)
            losses = measure_losses(logits.double(), frequencies, seen, p)
            if i == len(STATES) - 1 and not 0.37 < losses[0] < 0.43:
                continue
            if i in DIFFER:
                one, two = (losses[j] for j in DIFFER[i])
                if (one < 0.5) == (two < 0.5) or abs(two - 0.5) < 0.04:
                    continue
            if all(abs(loss - 0.5) > 0.05 for loss in losses[:2]):
                break
        rows.append(logits)
        names.append(PHASES[(losses[1] < 0.5) + 2 * (losses[0] < 0.5)])
    return torch.stack(rows), frequencies, torch.tensor(seen), names


def judge_words(got: Any, right: list[str], known: tuple[str, ...], what: str) -> None:
    """Raise `Wrong` unless these words are right, one for each case."""
    names = as_list(got)
    if names is None or len(names) != len(right) or not all(name in known for name in names):
        words = ", ".join(f'"{name}"' for name in known)
        raise Wrong(sentence=f"Return a list of {len(right)} words, each one of {words}.")
    wrong = [i for i, name in enumerate(names) if name != right[i]]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(right)} {what} are wrong, such as number {wrong[0]}: "
            f"you say {names[wrong[0]]!r}."
        )


@check("name_phases")
def test_phases_of_checkpoints_are_named(student):
    """Checkpoints with memory, with the circuit, with both and with neither."""
    *given, right = plant_phases(student.seeds(1)[0], 11)
    judge_words(student.call("name_phases", *given), right, PHASES, "checkpoints")


@check("name_phases")
def test_phases_of_another_run_are_named(student):
    """Another p, other frequencies and other pairs."""
    *given, right = plant_phases(student.seeds(2)[1], 13)
    judge_words(student.call("name_phases", *given), right, PHASES, "checkpoints")


# 17.4 ---------------------------------------------------------------------------------------------


@functools.cache
def plant_mlp(seed: int, p: int) -> tuple[Transformer, list[int], float]:
    """Plant a model, choose some of its frequencies, and compute the loss by slow sums."""
    generator = start(seed)
    ks = [k + 1 for k in choose(generator, p // 2, 5)]
    plan = Plan(
        p,
        sums=draw_loudness(generator, ks[:3], 0.8, 1.2),
        differences={ks[3]: 0.5},
        alone={ks[4]: 0.6},
        steady=0.7,
        constant=0.5,
        strength=2.0,
        noise=0.05,
    )
    model, _ = write_model(plan, generator)
    frequencies = [*ks[:2], ks[3]]
    a, b = list_pairs(p)
    tokens = torch.stack([a, b, torch.full_like(a, p)], dim=1)
    with torch.no_grad():
        cache = model.run_with_cache(tokens)[1]
        written, before = (cache[name, 0][:, -1].double() for name in ("mlp_out", "resid_mid"))
        W_U = model.W_U.double()
    mean = written.mean(dim=0)
    logits = (before + mean + take_waves(written, frequencies, p)) @ W_U
    return model, frequencies, measure_loss(logits, list(range(p * p)), p)


def judge_loss(student, seed: int, p: int) -> None:
    model, frequencies, right = plant_mlp(seed, p)
    got = student.call("replace_mlp", model, p, frequencies)
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    expect(got, right, rtol=1e-3, atol=1e-4, what="the loss")


@check("replace_mlp")
def test_the_loss_with_the_mlp_replaced_is_right(student):
    """Two of the three frequencies that the MLP adds, and one of which it writes a - b."""
    judge_loss(student, student.seeds(1)[0], 11)


@check("replace_mlp")
def test_the_loss_of_another_model_is_right(student):
    """Another model, for another p."""
    judge_loss(student, student.seeds(2)[1], 13)


# 17.5 ---------------------------------------------------------------------------------------------

ALGORITHMS = ("clock", "pizza", "line")
Between = tuple[float, float]


def measure_cosines(model: Transformer, p: int) -> tuple[Tensor, Tensor, float]:
    """Return cosines of each pair's gradients, for a few outputs and the correct one, and of means.

    The last is that of the means over pairs and the few outputs.
    """
    a, b = list_pairs(p)
    tokens = torch.stack([a, b, torch.full_like(a, p)], dim=1)
    gradients = []
    for output in (3 * a + b + 1, 3 * a + b + p // 2, a + b):
        value = model.W_E.detach()[tokens].requires_grad_()
        with torch.enable_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=[("embed", lambda x, hook, v=value: v)])
            chosen = logits[torch.arange(p * p), -1, output % p]
            gradients.append(torch.autograd.grad(chosen.sum(), value)[0].double())
    first, second = torch.stack(gradients)[:, :, :2].unbind(dim=2)
    of_means = torch.cosine_similarity(*(x[:2].mean(dim=(0, 1)) for x in (first, second)), dim=0)
    cosines = torch.cosine_similarity(first, second, dim=2)
    return cosines[:2], cosines[2], float(of_means)


def measure_spreads(model: Transformer, p: int) -> float:
    """Measure the spread of the correct logit at one distance over that at all."""
    a, b = list_pairs(p)
    with torch.no_grad():
        logits = model(torch.stack([a, b, torch.full_like(a, p)], dim=1))[:, -1].double()
    if (logits.argmax(dim=1) != (a + b) % p).any():
        return math.nan  # it does not add
    correct = logits[torch.arange(p * p), (a + b) % p].view(p, p)
    first = torch.arange(p)
    spreads = [correct[first, (first + d) % p].std().item() for d in range(p)]
    return sum(spreads) / p / correct.std().item()


def list_plans(generator: torch.Generator, p: int) -> list[tuple[str, dict, Between, Between]]:
    """List a name, what its plan holds, and bounds for both measures: some are near 0.9 and 0.8.

    Symmetries of clocks lie on both sides of 0.5, and of the mean over all models.
    """

    def draw(low: float, high: float) -> float:
        return float(uniform(generator, low, high, 1))

    ks = [k + 1 for k in choose(generator, p // 2, p // 2)]
    loud = draw_loudness(generator, ks[:3], 0.8, 1.2)
    unheard = dict.fromkeys(ks[:3], 0.0)
    faint, half = ({k: x * draw(*by) for k, x in loud.items()} for by in ((0.4, 0.8), (0.3, 0.6)))
    whisper = {ks[1]: draw(0.03, 0.09)}
    pizza = dict(sums=unheard, averages=loud)
    line = dict(sums=unheard, averages=unheard, line=1.0)
    alike, near = (0.97, 1.1), (0.932, 0.96)
    anything = (0.0, 9.0)
    return [
        ("clock", dict(sums=loud, averages=unheard), (-1, 0.15), (0.85, 9)),
        ("clock", dict(sums=loud, averages=unheard, common={ks[3]: 1.0}), (-1, 0.15), (0, 0.4)),
        ("clock", dict(sums=loud, averages=half), (0.2, 0.4), anything),
        ("clock", dict(sums=faint, averages=loud), (0.74, 0.83), anything),
        ("clock", pizza | dict(spike=draw(2, 6)), (0.52, 0.6), anything),
        ("pizza", dict(sums={ks[0]: 0.0}, averages={ks[0]: 1.0}), alike, (0, 0.4)),
        ("pizza", pizza | dict(tilt=draw(0.18, 0.32)), near, (0, 0.7)),
        ("pizza", line | dict(averages=unheard | whisper), alike, (0.55, 0.75)),
        ("line", line, alike, (0.85, 9)),
        ("line", line | dict(averages=unheard | whisper), alike, (0.83, 0.88)),
    ]


@functools.cache
def plant_algorithms(seed: int, p: int) -> tuple[list[Transformer], list[str]]:
    """Plant models of each algorithm that attend alike and hold neurons of the others, unheard.

    Gradients of one clock are alike for most pairs and opposite for some. Those of one pizza differ
    in their means, and for correct outputs.
    """
    generator = start(seed)
    models, names = [], []
    for i in choose(generator, 10, 10):
        while True:
            name, parts, alike, far = list_plans(generator, p)[i]
            decoy = 1 + choose(generator, p // 2, 1)[0]
            plan = Plan(p, **parts, embedded={decoy: 1.5}, noise=0.01)
            model = write_model(plan, generator)[0]
            spread = measure_spreads(model, p)
            if not far[0] < spread < far[1]:
                continue
            cosines, correct, of_means = measure_cosines(model, p)
            if not alike[0] < cosines.mean() < alike[1]:
                continue
            if plan.spike and (
                cosines.abs().mean() < 0.94 or (cosines > 0.9).double().mean() < 0.6
            ):
                continue
            if plan.tilt and (of_means > 0.8 or correct.mean() > 0.885):
                continue
            break
        models.append(model)
        names.append(name)
    return models, names


def judge_algorithms(student, seed: int, p: int) -> None:
    """Ask about all models, about some of them in reverse order, and about all but clocks."""
    models, names = plant_algorithms(seed, p)
    some = next(i for i in range(3, 10) if names[:i] != names[:i][::-1])
    no_clock = [i for i in range(10) if names[i] != "clock"]
    orders = (list(range(10)), list(range(some))[::-1], no_clock)
    for order in orders:
        got = student.call("tell_algorithms", [models[i] for i in order], p)
        judge_words(got, [names[i] for i in order], ALGORITHMS, "models")


@check("tell_algorithms")
def test_algorithms_are_told_apart(student):
    """Models that attend alike and have the same kinds of neurons."""
    judge_algorithms(student, student.seeds(1)[0], 11)


@check("tell_algorithms")
def test_algorithms_of_more_models_are_told_apart(student):
    """More models, for another p."""
    judge_algorithms(student, student.seeds(2)[1], 13)
