"""Grade lesson 10.

Shapes, drivers, axes and encodings are planted; what a toy stores is computed in closed form.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, as_list, check, expect_found
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


# 10.1 ---------------------------------------------------------------------------------------------


def make_simplex(n: int) -> Tensor:
    """Make n unit rows in n - 1 dimensions, as far from each other as they can be."""
    rows = torch.eye(n) - 1 / n
    basis = torch.linalg.svd(rows)[2][: n - 1]
    return torch.nn.functional.normalize(rows @ basis.T, dim=1)


def make_polygon(n: int) -> Tensor:
    angle = 2 * math.pi * torch.arange(n) / n
    return torch.stack([angle.cos(), angle.sin()], dim=1)


# Six arrows of which each is near the next, and at right angles to all others.
STEPS = torch.tensor([0.38, 0.2, 0.38, 0.2, 0.38])
CHAIN = torch.linalg.cholesky(torch.eye(6) + torch.diag(STEPS, 1) + torch.diag(STEPS, -1))
BENT = 0.15 * make_polygon(5)[[0, 2, 4, 1, 3], :1]
SHAPES = {
    "alone": torch.ones(1, 1),
    "pair": torch.tensor([[1.0], [-1.0]]),
    "triangle": make_polygon(3),
    "tetrahedron": make_simplex(4),
    "pentagon": make_polygon(5),
    "simplex of 5": make_simplex(5),
    "chain": CHAIN,
    "two at an angle": torch.tensor([[1.0, 0.0], [0.88, 0.475]]),
    "crossed pairs": torch.cat([make_polygon(6)[:2], -make_polygon(6)[:2]]),  # D is 2/5, too
    # Flat enough, but not if long and measured by a constant.
    "bent pentagon": torch.cat(
        [make_polygon(5), 0.15 * make_polygon(5)[[0, 2, 4, 1, 3], :1]], dim=1
    ),
    "uneven pair": torch.tensor([[1.0, 0.0], [-0.89, 0.456]]),  # a long arrow and a short one
}
KNOWN = ("alone", "pair", "triangle", "tetrahedron", "pentagon")
Group = tuple[str, frozenset[int]]


def plant_shapes(seed: int, names: list[str]) -> tuple[Tensor, set[Group]]:
    """Plant shapes nearly at right angles to each other, turned and shuffled, and weak columns.

    Arrows of a group are .55 to .6 long, or, in every second group of a known shape, 1.2 to 1.6.
    In an uneven pair one is so much longer that the other adds no dimension. What is not stored is
    .3 to .45 long and points anywhere.
    """
    generator = start(seed)
    blocks = [SHAPES[name] for name in names]
    shapes = [name.split()[-1] for name in names]
    rows = torch.block_diag(*blocks)
    rows += 0.02 * uniform(generator, -1, 1, *rows.shape) / rows.shape[1] ** 0.5
    for i in range(len(rows) - 1):  # too little to count as a link, unless arrows are long
        lean = torch.nn.functional.normalize(rows[i + 1], dim=0)
        rows[i] += 0.1 * lean * (float((rows[i] @ lean).abs()) < 0.05)
    rows = torch.nn.functional.normalize(rows, dim=1)
    first = 0
    for n, block in enumerate(blocks):
        is_long = n % 2 == 0 and shapes[n] in KNOWN
        low, high = (1.2, 1.6) if is_long else (0.55, 0.6)
        length = uniform(generator, low, high, len(block), 1)
        if names[n] == "uneven pair":
            length = torch.tensor([[1.55], [0.58]])
        rows[first : first + len(block)] *= length
        first += len(block)
    lost = torch.nn.functional.normalize(normal(generator, 4, rows.shape[1]), dim=1)
    lost *= uniform(generator, 0.3, 0.45, 4, 1)
    n = len(rows) + len(lost)
    order = torch.randperm(n, generator=generator)
    W = torch.cat([rows, lost])[order] @ draw_rotation(rows.shape[1], generator).float()
    place = order.argsort().tolist()  # of row i
    groups = set()
    for shape, block in zip(shapes, blocks, strict=True):
        members = frozenset(place[: len(block)])
        place = place[len(block) :]
        groups.add((shape if shape in KNOWN else "other", members))
    return W.T.contiguous(), groups


def read_groups(got: Any) -> set[Group]:
    """Read names and features in whatever containers they came."""
    try:
        groups = {(name, frozenset(map(int, as_list(members) or ()))) for name, members in got}
    except (TypeError, ValueError):
        groups = set()
    if not groups or not all(isinstance(name, str) and members for name, members in groups):
        raise Wrong(sentence='Return a list of pairs such as ("pair", [0, 2]).')
    strange = {name for name, _ in groups} - {*KNOWN, "other"}
    if strange:
        raise Wrong(sentence=f"{min(strange)!r} is no name of the task: {', '.join(KNOWN)}, other.")
    return groups


def judge_shapes(student, plans: list[list[str]]) -> None:
    cases = [
        plant_shapes(seed, names)
        for seed, names in zip(student.seeds(len(plans)), plans, strict=True)
    ]
    answers = [read_groups(student.call("name_shapes", W)) for W, _ in cases]
    for (W, right), groups in zip(cases, answers, strict=True):
        if groups == right:
            continue
        found = len({members for _, members in groups} & {members for _, members in right})
        named = len(groups & right)
        raise Wrong(
            sentence=f"You find {found} of the {len(right)} groups in W {tuple(W.shape)}, with the "
            f"right name {named}, and {len(groups) - found} that are none."
        )


@check("name_shapes", weight=2)
def test_other_groups_are_told_from_known_shapes(student):
    """Groups of the same number in more dimensions, and groups that hang together by a chain."""
    plans = [
        ["alone", "chain", "triangle", "two at an angle", "pair"],
        ["pair", "simplex of 5", "bent pentagon", "pentagon", "uneven pair"],
        ["tetrahedron", "chain", "alone", "triangle", "simplex of 5", "crossed pairs"],
    ]
    judge_shapes(student, plans)


@check("name_shapes")
def test_shapes_of_the_lesson_are_named(student):
    """Pairs, triangles, pentagons, tetrahedra, and features alone."""
    plans = [["pair", "triangle", "alone", "pair"], ["pentagon", "tetrahedron", "alone", "pair"]]
    judge_shapes(student, plans)


# 10.2 ---------------------------------------------------------------------------------------------

PHASES = ("first", "second", "both")


# Moments of an amount that is on, and of the lesser of two, summed on a grid.
AMOUNT = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
MEAN = float(AMOUNT.mean())
SQUARE = float(AMOUNT.square().mean())
LESSER = float(torch.minimum(AMOUNT[:, None], AMOUNT).square().mean())


Setting = tuple[float, float, float]  # the two densities, the importance of the second feature


def name_phase(
    p: float,
    q: float,
    importance: float,
    square: float = SQUARE,
    mean: float = MEAN,
    lesser: float = LESSER,
) -> tuple[str, float]:
    """Name what the cheapest toy stores, and how many times as much the next one costs."""
    lost = [on * square - (on * mean) ** 2 for on in (p, q)]
    costs = [importance * lost[1], lost[0], p * q * lesser * (1 + importance)]
    best, second, _ = sorted(costs)
    return PHASES[costs.index(best)], second / best


def name_roughly(p: float, q: float, importance: float) -> list[str]:
    """Name what a rough look would say, which must not be enough.

    With a mean of the two densities for both, without the bias, with amounts all alike, or with
    pairs that lose half as much again, or a third less.
    """
    means = ((p + q) / 2, (p * q) ** 0.5)
    rough = [name_phase(mean, mean, importance) for mean in means if p != q]
    rough += [name_phase(p, q, importance, mean=0), name_phase(p, q, importance, square=MEAN**2)]
    rough += [name_phase(p, q, importance, lesser=factor * LESSER) for factor in (1.5, 2 / 3)]
    return [name for name, _ in rough]


def draw_phases(seed: int, n: int, equal: bool) -> tuple[Tensor, Tensor, list[str]]:
    """Draw at least n settings of each phase, not too near a border, most of them not far from it.

    Each rough look at unequal densities gets two of them wrong.
    """
    generator = start(seed)
    pool = []
    for p, q, r in uniform(generator, 0, 1, 3000, 3).tolist():
        density = 0.05 * 19**p  # .05 to .95
        setting = (density, density if equal else 0.05 * 19**q, 10 ** (2 * r - 1))
        if 1.25 < name_phase(*setting)[1] < 4:
            pool.append(setting)
    rows: list[tuple[str, Setting]] = []
    for look in range(0 if equal else 6):
        fooled = [x for x in pool if name_roughly(*x)[look] != name_phase(*x)[0]]
        rows += [(name_phase(*x)[0], x) for x in fooled[:2]]
    for phase in PHASES:
        others = [x for x in pool if name_phase(*x)[0] == phase]
        rows += [(phase, x) for x in others[-n:]]
    rows = [rows[i] for i in choose(generator, len(rows), len(rows))]
    table = torch.tensor([setting for _, setting in rows])
    return table[:, :2].contiguous(), table[:, 2].contiguous(), [name for name, _ in rows]


def judge_phases(student, equal: bool) -> None:
    cases = [draw_phases(seed + equal, 4 if equal else 6, equal) for seed in student.seeds(2)]
    answers = [as_list(student.call("find_phases", *case[:2])) for case in cases]
    for (density, importance, right), names in zip(cases, answers, strict=True):
        if names is None or len(names) != len(right) or not set(names) <= set(PHASES):
            raise Wrong(
                sentence=f'Return a list of {len(right)} words, each "first", "second" or "both".'
            )
        wrong = [i for i, name in enumerate(names) if name != right[i]]
        if wrong:
            i = wrong[0]
            setting = f"densities {density[i, 0]:.2f} and {density[i, 1]:.2f}"
            raise Wrong(
                sentence=f"{len(wrong)} of {len(right)} settings are wrong, such as {setting} with "
                f"importance {importance[i]:.2f}: you say {names[i]!r}."
            )


@check("find_phases", weight=2)
def test_phases_of_unequally_rare_features(student):
    """The two features have densities of their own."""
    judge_phases(student, equal=False)


@check("find_phases")
def test_phases_of_equally_rare_features(student):
    """Both features have the same density."""
    judge_phases(student, equal=True)


# 10.3 ---------------------------------------------------------------------------------------------

N_FEATURES = 13
N_SLOTS = 6
ASK = N_FEATURES + 1
LOUDNESS = 8  # a loud token is attended to as if it stood there eight times


@dataclass(frozen=True)
class Neurons:
    """Planted neurons: what each reads of each feature that arrives, and its bias."""

    reads: Tensor  # feature neuron
    reads_ask: Tensor  # of the ? at the end
    bias: Tensor  # with this one ?
    arrives: Tensor  # feature; 0 for those that no head brings
    loud: int  # a feature


def plant_neurons(generator: torch.Generator) -> tuple[Neurons, dict[str, list[int]]]:
    """Plant neurons of all sorts, and say which features play which part.

    A stray feature is carried nowhere, an absent one stands in no prompt, a rare one in few, a
    faint one is read weakly, a double one always stands twice. No neuron reads the loud one, but it
    draws attention from all others.
    """
    roles = dict(stray=2, absent=1, rare=1, faint=1, double=1, loud=1, plain=6)
    order = choose(generator, N_FEATURES, N_FEATURES)
    parts = {}
    for name, n in roles.items():
        parts[name] = order[:n]
        order = order[n:]
    stray, plain = parts["stray"], parts["plain"]
    a, b, c, d, e, f = plain
    (absent,), (rare,), (faint,), (double,) = (
        parts[name] for name in ("absent", "rare", "faint", "double")
    )
    neurons = [
        ({a: 0.9}, -0.1),
        ({b: 1.0, c: 0.8, rare: 0.7, stray[0]: 1.2}, -0.1),
        ({d: 0.9, e: -0.8}, 0.4),  # one feature silences it
        ({c: 0.7, f: 0.7}, -0.8),  # needs both
        ({d: 0.6, rare: 0.6}, -0.8),  # needs both, and one of them is seldom there
        ({a: 1.0, d: 1.0, absent: 1.0}, -9.0),  # never fires
        ({b: 0.6, faint: 0.065, absent: 1.0}, 0.1),
        ({double: 0.07, e: 0.5}, 0.05),
        ({stray[1]: 1.5, faint: 0.04}, 0.2),  # nothing that arrives moves it
        ({stray[0]: 1.0, c: 0.15}, 0.2),
        ({f: -0.6, a: -0.5}, 0.8),  # silenced only
        ({a: 0.5, b: 0.5, d: 0.4, e: 0.6, rare: 0.5}, 0.0),
    ]
    neurons = [neurons[i] for i in choose(generator, len(neurons), len(neurons))]
    reads = torch.zeros(N_FEATURES, len(neurons))
    for n, (features, _) in enumerate(neurons):
        for feature, weight in features.items():
            reads[feature, n] = weight * float(uniform(generator, 0.95, 1.05, 1))
    arrives = torch.ones(N_FEATURES)
    arrives[stray] = 0.0
    bias = torch.tensor([bias for _, bias in neurons])
    reads_ask = 0.4 * normal(generator, len(neurons))
    return Neurons(reads, reads_ask * (bias != 0.4), bias, arrives, parts["loud"][0]), parts


def write_prompts(parts: dict[str, list[int]], n: int, generator: torch.Generator) -> Tensor:
    """Write prompts of 2 to 4 features.

    The rare one stands in three, all in the second half, in two of them beside feature d.
    """
    often = parts["plain"] + parts["stray"] + parts["faint"] + parts["loud"]
    (double,), (rare,) = parts["double"], parts["rare"]
    d = parts["plain"][3]
    prompts = []
    for i in range(n):
        picked = choose(generator, len(often), 2 + i % 2)
        features = [often[j] for j in picked if i >= 3 or often[j] != d]
        features += [rare] + [d] * (i < 2) if i < 3 else [double, double] if i % 3 == 0 else []
        slots = [feature + 1 for feature in features] + [0] * (N_SLOTS - len(features))
        prompts.append([slots[j] for j in choose(generator, N_SLOTS, N_SLOTS)] + [ASK])
    order = [i + 3 for i in choose(generator, n - 3, n - 3)]
    late = [order[i + n // 2] for i in range(n - 3 - n // 2)] + [0, 1, 2]
    order = order[: n // 2] + [late[i] for i in choose(generator, len(late), len(late))]
    return torch.tensor([prompts[i] for i in order])


@torch.no_grad()
def write_model(neurons: Neurons, generator: torch.Generator) -> Transformer:
    """Write a model whose head adds up the features and whose MLP is these neurons.

    Embeddings and what is moved are random directions. Neurons also read embeddings; but the last
    position holds none of those.
    """
    n_tokens = N_FEATURES + 2
    n_moved = N_FEATURES + 1  # the features and the ?
    n_neurons = len(neurons.bias)
    directions = normal(generator, n_tokens + n_moved, 32)
    lines = torch.linalg.pinv(directions)  # d_model row: reads one direction and none of the others
    sizes = dict(d_head=n_moved, d_mlp=n_neurons, positions="none", biases=True, attn_scale=1.0)
    model = by_hand.make_blank(Config(n_tokens, N_SLOTS + 1, 32, 1, **sizes))
    attn, mlp = model.blocks[0].attn, model.blocks[0].mlp
    model.W_E.copy_(directions[:n_tokens])
    turn = draw_rotation(n_moved, generator).float()
    attn.W_Q[0, :, 0] = lines[:, ASK] * math.log(LOUDNESS)
    attn.W_K[0, :, 0] = lines[:, neurons.loud + 1]
    attn.W_V[0] = lines[:, 1:n_tokens] @ turn
    arrives = torch.cat([neurons.arrives, torch.ones(1)])
    sums = (N_SLOTS + 1) * arrives[:, None]  # attention is a mean
    attn.W_O[0] = turn.T @ (sums * directions[n_tokens:])
    reads = torch.cat([neurons.reads, neurons.reads_ask[None]])
    decoys = normal(generator, N_FEATURES, n_neurons)
    mlp.W_in.copy_(lines[:, n_tokens:] @ reads + lines[:, 1 : N_FEATURES + 1] @ decoys)
    mlp.b_in.copy_(neurons.bias - neurons.reads_ask)
    mlp.W_out.copy_(normal(generator, n_neurons, 32))
    model.W_U.copy_(normal(generator, 32, n_tokens))
    return model


def list_changes(neurons: Neurons, tokens: Tensor) -> dict[tuple[int, int], list[float]]:
    """List, prompt by prompt, what each feature's absence takes from each planted neuron."""
    reads = (neurons.reads * neurons.arrives[:, None]).tolist()
    reads_ask, bias = neurons.reads_ask.tolist(), neurons.bias.tolist()

    def fire(prompt: list[int], neuron: int, without: int) -> float:
        kept = [token for token in prompt[:-1] if token != without]
        total = reads_ask[neuron] + sum(reads[token - 1][neuron] for token in kept if token)
        places = len(prompt) + (LOUDNESS - 1) * kept.count(neurons.loud + 1)
        return max(0.0, bias[neuron] - reads_ask[neuron] + total * len(prompt) / places)

    changes = {}
    for neuron in range(len(bias)):
        for feature in range(1, N_FEATURES + 1):
            holding = [prompt for prompt in tokens.tolist() if feature in prompt]
            changes[neuron, feature] = [
                fire(prompt, neuron, -1) - fire(prompt, neuron, feature) for prompt in holding
            ]
    return changes


@functools.cache
def plant_drivers(seed: int, n: int) -> tuple[Transformer, Tensor, list[int], set[str], set[str]]:
    """Plant a model, its prompts, and what drives what.

    No average is near the threshold. Some features drive in some prompts, not in the first, and one
    raises a neuron in some prompts and lowers it in others.
    """
    generator = start(seed)
    while True:
        neurons, parts = plant_neurons(generator)
        tokens = write_prompts(parts, n, generator)
        found = {
            pair: torch.tensor(x or [0.0]) for pair, x in list_changes(neurons, tokens).items()
        }
        changes = {pair: float(x.abs().mean()) for pair, x in found.items()}
        driving = [found[pair] for pair in found if changes[pair] >= 0.1]
        needs_company = any(abs(x[0]) < 0.1 for x in driving)
        goes_both_ways = any(abs(x.mean()) < 0.08 for x in driving)
        is_clear = not any(0.09 <= change <= 0.11 for change in changes.values())
        if is_clear and needs_company and goes_both_ways:
            break
    features = [feature + 1 for feature in choose(generator, N_FEATURES, N_FEATURES)]
    names = {pair: name_pair(*pair) for pair in changes}
    right = {names[pair] for pair, change in changes.items() if change >= 0.1}
    return write_model(neurons, generator), tokens, features, right, set(names.values())


def name_pair(neuron: int, feature: int) -> str:
    return f"feature {feature} drives neuron {neuron}"


def judge_drivers(student, seed: int, n: int) -> None:
    model, tokens, features, right, possible = plant_drivers(seed, n)
    got = student.call("find_drivers", model, tokens, features)
    neurons = range(model.config.d_mlp)
    lists = {key: as_list(got[key]) for key in got} if isinstance(got, dict) else {}
    if not lists or None in lists.values() or not set(lists) <= set(neurons):
        raise Wrong(
            sentence=f"Return a dict from each neuron, 0 to {neurons[-1]}, to a list of features."
        )
    missing = [neuron for neuron in neurons if neuron not in lists]
    if missing:
        raise Wrong(sentence=f"Neuron {missing[0]} is missing in your dict: its list may be empty.")
    named = {(key, feature) for key, found in lists.items() for feature in found or ()}
    strange = [feature for _, feature in named if feature not in features]
    if strange:
        raise Wrong(sentence=f"{strange[0]!r} is none of the features that you got.")
    names = sorted(name_pair(*pair) for pair in named)
    expect_found(names, [right], possible, what="pairs of a feature and a neuron")


@check("find_drivers")
def test_the_drivers_of_each_neuron_are_found(student):
    """Neurons with one driver, with several and with none; features that never arrive."""
    judge_drivers(student, student.seeds(1)[0], n=40)


@check("find_drivers")
def test_the_drivers_are_found_in_other_prompts(student):
    """Another model, and more prompts."""
    judge_drivers(student, student.seeds(2)[1], n=60)


# 10.4 ---------------------------------------------------------------------------------------------

N_SAMPLES = 1500


def draw_sparse(
    generator: torch.Generator, n: int, density: float, signs: bool, asleep: bool
) -> Tensor:
    """Draw amounts (sample, feature), of either sign if asked for, of variance 1.

    If `asleep`, nothing is on in half of the samples.
    """
    amount = uniform(generator, 0.5, 1.0, N_SAMPLES, n)
    amount *= (torch.rand(N_SAMPLES, n, generator=generator) < density).float()
    if asleep:
        amount *= (torch.rand(N_SAMPLES, 1, generator=generator) < 0.5).float()
    if signs:
        amount *= torch.randint(2, amount.shape, generator=generator) * 2 - 1
    return amount / amount.std(dim=0)


# Kind, density, whether amounts come with both signs, and what else is so: all axes are of one
# size, or half of the inputs hold nothing.
LAYERS = (
    ("axes", 0.03, False, ""),
    ("axes", 0.1, True, "even"),
    ("axes", 0.12, False, "asleep"),
    ("turned", 0.01, False, "even"),
    ("turned", 0.012, True, "even"),
    ("turned", 0.1, False, ""),
    ("crowded", 0.03, True, ""),
)


def plant_layer(
    kind: str, density: float, signs: bool, also: str, shift: int, generator: torch.Generator
) -> Tensor:
    """Plant a layer of 10 to 14 axes; `shift` decides whether all activations are positive."""
    d = 10 + 2 * int(torch.randint(3, (1,), generator=generator))
    n = 2 * d if kind == "crowded" else d
    x = draw_sparse(generator, n, density, signs, asleep=also == "asleep")
    if kind == "turned":
        x = x @ draw_rotation(d, generator).float()
    elif kind == "crowded":
        x = x @ torch.nn.functional.normalize(normal(generator, n, d), dim=1)
    size = 10 ** uniform(generator, -0.7, 0.7, d)
    size[0] *= 30
    size = torch.ones(d) if also == "even" else size
    signs_of_axes = torch.randint(2, (d,), generator=generator) * 2 - 1
    x = (x + 0.02 * normal(generator, *x.shape)) * size * (1.0 if shift else signs_of_axes)
    return x - x.amin(dim=0) + 0.1 if shift else x + 3 * normal(generator, d) * size


@check("find_privileged")
def test_layers_with_features_along_axes_are_found(student):
    """Layers of one model: rare and common features, on axes or not."""
    judge_privileged(student, 1)


@check("find_privileged")
def test_layers_of_another_model_are_told_apart(student):
    """Another model, its layers in another order."""
    judge_privileged(student, 2)


def judge_privileged(student, n: int) -> None:
    seed = student.seeds(n)[-1]
    generator = start(seed)
    order = choose(generator, len(LAYERS), len(LAYERS))
    layers = [plant_layer(*LAYERS[i], shift=(i + n) % 2, generator=generator) for i in order]
    got = as_list(student.call("find_privileged", layers))
    if got is None or not all(type(i) is int and 0 <= i < len(layers) for i in got):
        raise Wrong(sentence=f"Return a list of layer numbers, 0 to {len(layers) - 1}.")
    right = {f"layer {place}" for place, i in enumerate(order) if LAYERS[i][0] == "axes"}
    names = [f"layer {i}" for i in range(len(layers))]
    expect_found([f"layer {i}" for i in got], [right], names, what="such layers")


# 10.5 ---------------------------------------------------------------------------------------------


def make_value(kind: str, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Make a value, and what the state holds because of it, (n, parts)."""
    v = uniform(generator, -1, 1, n)
    w = uniform(generator, -1, 1, n)
    return {
        "line": lambda: (3 * v + 5, v[:, None]),
        "circle": lambda: (0.3 * v, torch.stack([(math.pi * v).cos(), (math.pi * v).sin()], dim=1)),
        "product": lambda: (v.sign() * w.sign(), torch.stack([v.sign(), w.sign()], dim=1)),
        "size": lambda: (v.abs() + 7, v[:, None]),
        "cube": lambda: (4 * v**3 + 0.32 * v, v[:, None]),  # a line explains .87 of it
        "blurred": lambda: (v + 0.25 * v.std() * normal(generator, n), v[:, None]),
        "bit": lambda: (v.sign(), 1.5 * v.sign()[:, None]),
        "nothing": lambda: (v, w[:, None]),
        "none": lambda: (20 * v, torch.zeros(n, 0)),
        # The state explains a twentieth of it.
        "faint": lambda: (v + 19**0.5 * v.std() * normal(generator, n), v[:, None]),
    }[kind]()


ENCODINGS = dict.fromkeys(("line", "bit", "blurred"), "linear")
ENCODINGS |= dict.fromkeys(("circle", "product", "size", "cube"), "nonlinear")
ENCODINGS |= dict.fromkeys(("nothing", "none", "faint"), "absent")


def plant_encodings(
    seed: int, kinds: list[str], n: int, d: int, offset: float
) -> tuple[Tensor, Tensor, list[str]]:
    """Plant values in a state of d numbers, along random directions at right angles."""
    generator = start(seed)
    order = [kinds[i] for i in choose(generator, len(kinds), len(kinds))]
    made = [make_value(kind, generator, n) for kind in order]
    parts = torch.cat([held for _, held in made], dim=1)
    directions = draw_rotation(d, generator)[: parts.shape[1]].float()
    hidden = (parts - parts.mean(dim=0)) @ directions + offset * normal(generator, d)
    hidden = hidden + 0.02 * normal(generator, n, d)
    return hidden, torch.stack([v for v, _ in made], dim=1), [ENCODINGS[kind] for kind in order]


def judge_encodings(student, cases: list[tuple[str, int, int, float]]) -> None:
    answers = []
    for seed, (kinds, *sizes) in zip(student.seeds(len(cases)), cases, strict=True):
        hidden, values, right = plant_encodings(seed, kinds.split(), *sizes)
        words = as_list(student.call("tell_encodings", hidden, values))
        if words is None or len(words) != len(right) or not set(words) <= set(ENCODINGS.values()):
            raise Wrong(
                sentence=f"Return {len(right)} words, one per value: linear, nonlinear or absent."
            )
        answers += list(zip(words, right, strict=True))
    wrong = [pair for pair in answers if pair[0] != pair[1]]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(answers)} values are told wrongly: you call one "
            f"{wrong[0][0]} that is not."
        )


@check("tell_encodings", weight=2)
def test_lines_circles_products_and_what_is_absent(student):
    """Lines, circles, products and sizes; states that vary because of something else."""
    cases = [
        ("line circle blurred none faint", 800, 8, 0.0),
        ("faint line product nothing cube", 900, 12, 2.0),
        ("size circle none bit", 700, 60, 2.0),
    ]
    judge_encodings(student, cases)


@check("tell_encodings")
def test_many_hidden_numbers(student):
    """Nearly half as many hidden numbers as inputs."""
    judge_encodings(student, [("cube line none", 400, 190, 2.0)])
