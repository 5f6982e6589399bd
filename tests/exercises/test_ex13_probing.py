"""Grade lesson 13.

What is right was planted: what each site holds, the direction behind a shortcut, which statement
is true, and which variables a model set by hand reads.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, as_list, check, expect_found
from mini_transformer.course.grading.mutants import find_sentence, load_mutants
from mini_transformer.forge.disguise import disguise
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MUTANTS = load_mutants(__file__)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def draw_axes(generator: torch.Generator, n: int, width: int) -> Tensor:
    """Draw n orthonormal directions."""
    return torch.linalg.qr(normal(generator, width, n)).Q.T


def draw_until_clear(seed: int, draw: Callable[[torch.Generator], Any]) -> Any:
    """Draw cases until one is clear: `draw` returns None for those that rest on luck."""
    for attempt in itertools.count():
        case = draw(torch.Generator().manual_seed(seed + 1000 * attempt))
        if case is not None:
            return case


# 13.1 ---------------------------------------------------------------------------------------------

KINDS = ("label", "type", "nothing")
ROWS = 6  # of each type


@dataclasses.dataclass(frozen=True)
class Sites:
    """Hold the activations of several sites, and what was planted in each."""

    sites: dict[str, Tensor]
    labels: Tensor
    types: Tensor
    kinds: dict[str, str]


def classify(x: Tensor, labels: Tensor, new: Tensor, ridge: float) -> float:
    """Measure accuracy on rows marked `new` by ridge regression on the others.

    It is another probe than the solution's: least squares, in its dual form.
    """
    mean = x[~new].mean(dim=0)
    train = (x[~new] - mean).double()
    sign = 2.0 * labels.double() - 1
    centre = sign[~new].mean()
    gram = train @ train.T + ridge * torch.eye(len(train))
    w = train.T @ torch.linalg.solve(gram, sign[~new] - centre)
    guess = (x[new] - mean).double() @ w + centre
    return (guess * sign[new] > 0).float().mean().item()


def measure_reading(
    x: Tensor, labels: Tensor, groups: Tensor, n_folds: int, ridge: float = 1.0
) -> float:
    """Measure accuracy where each fold of groups is left out in turn, on average."""
    folds = [groups % n_folds == i for i in range(n_folds)]
    return sum(classify(x, labels, fold, ridge) * fold.float().mean().item() for fold in folds)


# kind, how strongly the label is held (from, to), whether wider than there are rows
FLAVOURS = (
    ("label", (4.0, 11.0), False),
    ("label", (6.0, 16.0), True),
    ("type", (0.0, 0.0), False),
    ("type", (0.0, 0.0), True),
    ("nothing", (0.5, 2.5), False),  # read, but seldom enough
    ("nothing", (0.0, 0.0), True),
)
BENT = 36.0  # how far apart the coins are that hold the label of the last, but to no linear probe


def draw_site(
    kind: str,
    strength: tuple[float, float],
    wide: bool,
    labels: Tensor,
    which: Tensor,
    generator: torch.Generator,
) -> Tensor | None:
    """Draw activations of one kind; None unless every way to leave rows out agrees on the kind."""
    n_types = int(which.max()) + 1
    width = 2 * n_types + int(torch.randint(9, (1,), generator=generator))
    width += wide * len(which)
    low, high = strength
    along = low + (high - low) * torch.rand(1, generator=generator)
    x = normal(generator, len(which), width) + 2.0 * normal(generator, width)
    x = x + along * (labels[:, None] - 0.5) * draw_axes(generator, 1, width)
    if kind == "nothing" and wide:
        coin = torch.randint(2, (len(which),), generator=generator)
        coins = torch.stack([coin, coin ^ labels], dim=1)
        x = x + BENT * (coins - 0.5) @ draw_axes(generator, 2, width)
    # A site that holds the label holds the type as well.
    loud = {"label": 1.5, "type": 2.0, "nothing": 0.0}[kind]
    # Types are at right angles: a probe of some says nothing about the others.
    x = x + loud * width**0.5 * draw_axes(generator, n_types, width)[which]
    orders = [torch.randperm(n_types, generator=generator)[which] for _ in range(5)]
    new_rows = torch.randperm(len(which), generator=generator)
    if kind == "label":
        # So any labels of types are learned: selectivity is about 0 here, too.
        shuffled = torch.randperm(n_types, generator=generator) % 2
        if measure_reading(x, shuffled[which], new_rows, 4) < 0.97:
            return None
    # Whole folds with one label, as it may happen to who leaves types out at random.
    one_sided = labels.argsort(stable=True).argsort() // ROWS * 4 // n_types
    if kind == "label" and measure_reading(x, labels, one_sided, 4) < 0.88:
        return None
    types_read, rows_read = [], []
    ways = ((4, 1.0), (2, 1.0), (5, 100.0), (4, 10.0), (n_types, 1.0))
    for new_types, (n_folds, ridge) in zip(orders, ways, strict=True):
        types_read.append(measure_reading(x, labels, new_types, n_folds, ridge))
        rows_read.append(measure_reading(x, labels, new_rows, min(n_folds, 5), ridge))
        everywhere = types_read + rows_read
        least, most = min(everywhere), max(everywhere)
        clear = {
            "label": least > 0.9 and max(types_read) < 0.99 and min(rows_read) > 0.97,
            # Who asks for no mistake at all does not find the narrow one.
            "type": max(types_read) < 0.7
            and min(rows_read) > 0.9
            and (wide or max(rows_read) < 0.995),
            "nothing": most < 0.7 and (least > 0.57 or not high),
        }
        if not clear[kind]:
            return None
    return x


@functools.cache
def plant_sites(seed: int, n_types: int) -> Sites:
    """Plant six sites, two of each kind, of which one is wider than there are rows.

    Neither how loud a site is nor how far apart its labels' means are gives the kind away.
    """
    source = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    by_type = torch.arange(n_types) % 2
    by_type = by_type[torch.randperm(n_types, generator=generator)]
    which = torch.arange(n_types).repeat_interleave(ROWS)
    labels = by_type[which]
    types = torch.randperm(90, generator=generator)[:n_types][which]
    drawn = [
        draw_until_clear(
            seed + i,
            functools.partial(draw_site, kind, strength, wide, labels, which),
        )
        for i, (kind, strength, wide) in enumerate(FLAVOURS)
    ]
    while True:
        order = source.sample(range(6), 6)
        names = source.sample([f"{layer}@{t}" for layer in range(4) for t in range(6)], 6)
        drawn = [x * 2.0 ** source.choice((-1, 0, 1)) for x in drawn]
        gaps = [float((x[labels == 1].mean(0) - x[labels == 0].mean(0)).norm()) for x in drawn]
        sizes = [float(x.norm()) for x in drawn]
        if not any(is_sorted_by(measure) for measure in (gaps, sizes)):
            break
    sites = {name: drawn[i] for name, i in zip(names, order, strict=True)}
    kinds = {name: FLAVOURS[i][0] for name, i in zip(names, order, strict=True)}
    return Sites(sites, labels, types, kinds)


def is_sorted_by(measure: list[float]) -> bool:
    """Say whether a measure of the six flavours nearly puts their kinds in order."""
    by_size = sorted(range(6), key=measure.__getitem__)
    kinds = [FLAVOURS[i][0] for i in by_size]
    hits = [
        sum(kind == other for kind, other in zip(kinds, [a, a, b, b, c, c], strict=True))
        for a, b, c in itertools.permutations(KINDS)
    ]
    return max(hits) > 4


def judge_sites(student, n_types: int) -> None:
    for seed in student.seeds(1):
        case = plant_sites(seed + n_types, n_types)
        got = student.call("tell_what_sites_hold", case.sites, case.labels, case.types)
        if not isinstance(got, dict) or set(got) != set(case.sites):
            raise Wrong(sentence=f"Return a dict with one kind for each site: {set(case.sites)}.")
        if odd := [kind for kind in got.values() if kind not in KINDS]:
            raise Wrong(sentence=f"{odd[0]!r} is none of the three kinds, {', '.join(KINDS)}.")
        found, right = (
            {f"{name}: {kind}" for name, kind in kinds.items()} for kinds in (got, case.kinds)
        )
        possible = [f"{name}: {kind}" for name in case.sites for kind in KINDS]
        expect_found(sorted(found), [right], possible, what="sites' kinds")


@check("tell_what_sites_hold")
def test_sites_with_sixteen_types_are_told_apart(student):
    """Six sites, sixteen types of words."""
    judge_sites(student, 16)


@check("tell_what_sites_hold")
def test_sites_with_twenty_types_are_told_apart(student):
    """Six other sites, twenty types of words."""
    judge_sites(student, 20)


# 13.2 ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """Hold rows to train on, fresh rows of each pair, and the best accuracy on each pair."""

    x: Tensor
    labels: Tensor
    shortcut: Tensor
    fresh: dict[tuple[int, int], Tensor]  # (label, shortcut) -> rows
    best: dict[tuple[int, int], float]


def measure_pairs(fresh: dict[tuple[int, int], Tensor], w: Tensor, b: float) -> dict:
    """Measure the share of right answers for each pair of label and shortcut."""
    return {
        pair: ((x.double() @ w.double() + b > 0) == bool(pair[0])).float().mean().item()
        for pair, x in fresh.items()
    }


@functools.cache
def plant_shortcut(seed: int, width: int, differing: tuple[int, int]) -> Shortcut:
    """Plant a quiet label and a loud shortcut along directions that are not orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    u, v = draw_axes(generator, 2, width)
    v = 0.8 * v + 0.6 * u
    mixing = torch.eye(width) + 0.3 * normal(generator, width, width) / width**0.5
    label_step = 3.4 * u @ mixing
    # The middle of all rows is far from 0, so that a bias is needed.
    mean = 2.0 * label_step + 2.0 * normal(generator, width) / width**0.5
    shortcut_step = 9.0 * v @ mixing

    def draw(labels: Tensor, shortcut: Tensor) -> Tensor:
        x = labels[:, None] * label_step + shortcut[:, None] * shortcut_step
        return x + normal(generator, len(labels), width) @ mixing + mean

    n = 2000
    labels = (torch.rand(n, generator=generator) < 0.4).long()
    order = torch.randperm(n, generator=generator)
    differ = torch.zeros(n, dtype=torch.bool)
    for value in (0, 1):
        differ[order[labels[order] == value][: differing[value]]] = True
    shortcut = torch.where(differ, 1 - labels, labels)
    pairs = list(itertools.product((0, 1), (0, 1)))
    fresh = {pair: draw(*torch.tensor(pair)[:, None].expand(2, 2000)) for pair in pairs}
    # The best direction is orthogonal to the shortcut's step, in the noise's own metric.
    inverse = torch.linalg.inv(mixing.T @ mixing)
    share = (label_step @ inverse @ shortcut_step) / (shortcut_step @ inverse @ shortcut_step)
    w = inverse @ (label_step - share * shortcut_step)
    middle = mean + label_step / 2 + shortcut_step / 2
    best = measure_pairs(fresh, w, float(-middle @ w))
    return Shortcut(draw(labels, shortcut), labels, shortcut, fresh, best)


def find_worst(shares: dict[tuple[int, int], float], case: Shortcut) -> tuple[int, int] | None:
    """Find the pair that is furthest below what is possible, if any is too far."""
    worst = min(shares, key=lambda pair: shares[pair] - case.best[pair])
    return worst if not shares[worst] > case.best[worst] - 0.1 else None


def describe_shares(shares: dict[tuple[int, int], float]) -> str:
    """Say what a probe goes by that is right in these shares of the pairs."""
    agree = min(shares[0, 0], shares[1, 1]), max(shares[0, 0], shares[1, 1])
    differ = min(shares[0, 1], shares[1, 0]), max(shares[0, 1], shares[1, 0])
    if agree[0] > 0.5 > differ[1]:
        return "Your probe goes by the shortcut: "
    if differ[0] > 0.5 > agree[1]:
        return "Your probe goes by the opposite of the shortcut: "
    return ""


def judge_shortcut(student, width: int, differing: tuple[int, int]) -> None:
    for seed in student.seeds(1):
        case = plant_shortcut(seed, width, differing)
        name = "fit_without_shortcut"
        got = as_list(student.call(name, case.x, case.labels, case.shortcut))
        parts = [torch.as_tensor(part).double() for part in got or [] if not isinstance(part, str)]
        if [part.numel() for part in parts] != [width, 1]:
            raise Wrong(sentence=f"Return a direction of shape ({width},) and a number, as a pair.")
        w, b = parts[0].flatten(), parts[1].item()
        shares = measure_pairs(case.fresh, w, b)
        worst = find_worst(shares, case)
        if worst is not None:
            if find_worst(measure_pairs(case.fresh, -w, -b), case) is None:
                raise Wrong(sentence=find_sentence(MUTANTS, name, "turns_the_sign"))
            middle = torch.stack([x.mean(dim=0).double() for x in case.fresh.values()]).mean(dim=0)
            if find_worst(measure_pairs(case.fresh, w, -float(middle @ w)), case) is None:
                raise Wrong(sentence=find_sentence(MUTANTS, name, "misses_the_bias"))
            label, shortcut = worst
            raise Wrong(
                sentence=f"{describe_shares(shares)}where the label is {label} and the shortcut "
                f"{shortcut}, your probe is "
                f"right in {shares[worst]:.0%} of fresh rows; {case.best[worst]:.0%} is possible."
            )


@check("fit_without_shortcut")
def test_the_probe_of_few_dimensions_is_right_where_the_shortcut_misleads(student):
    """Eight dimensions, where 320 rows of one label differ, 50 of the other."""
    judge_shortcut(student, 8, (320, 50))


@check("fit_without_shortcut")
def test_the_probe_of_many_dimensions_is_right_where_the_shortcut_misleads(student):
    """Fourteen dimensions, where other rows differ more often."""
    judge_shortcut(student, 14, (50, 320))


# 13.3 ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Hold activations of pairs, the feature that is known of them, and which is true."""

    positive: Tensor
    negative: Tensor
    known: Tensor
    truth: Tensor


@functools.cache
def plant_pairs(seed: int, n: int, width: int, loudness: float) -> Pairs:
    """Plant pairs that disagree on truth and, so loud, on a known feature.

    Both of a pair share a topic, which is loudest. The sets have means of their own, which lie
    apart along truth as well.
    """
    generator = torch.Generator().manual_seed(seed)
    truth_axis, known_axis, topic_axis, set_axis = draw_axes(generator, 4, width)
    truth = (torch.rand(n, generator=generator) < 0.5).long()
    known = (torch.rand(n, generator=generator) < 0.4).long()
    known[0] = 0
    known[1] = 1
    truth[1] = 1 - truth[0]
    # The first of either group is not the first of the other's: nor are the last.
    groups = [(known == value).nonzero().flatten() for value in (0, 1)]
    truth[groups[1][-1]] = 1 - truth[groups[0][-1]]
    topic = 12.0 * normal(generator, n, 1) * topic_axis
    signs = (2 * truth[:, None] - 1) * 2.5 * truth_axis
    signs = signs + (2 * known[:, None] - 1) * loudness * known_axis
    set_axis = set_axis + 0.25 * truth_axis  # so much that many a pair lies about 0
    noise = 0.6 * normal(generator, 2, n, width)
    mean = 3.0 * normal(generator, width)
    positive = mean + 10.0 * set_axis + topic + signs + noise[0]
    negative = mean - 10.0 * set_axis + topic - signs + noise[1]
    return Pairs(positive, negative, known, truth)


def judge_pairs(student, n: int, width: int) -> None:
    # Truth is 2.5 loud: neither the loudest nor the second loudest is always right.
    for seed, loudness in zip(student.seeds(4), (6.0, 1.6, 5.0, 1.5), strict=True):
        case = plant_pairs(seed, n, width, loudness)
        got = student.call("answer_without_labels", case.positive, case.negative, case.known)
        answers = torch.as_tensor(as_list(got) or [2]).to(torch.float64)
        if (
            answers.shape != (n,)
            or not torch.isin(answers, torch.tensor([0.0, 1.0]).double()).all()
        ):
            raise Wrong(sentence=f"Return {n} answers, one for each pair, each 0 or 1.")
        right = (answers == case.truth).float().mean().item()
        right = max(right, 1 - right)
        if not right >= 0.95:
            raise Wrong(
                sentence=f"Your answers are right for {right:.0%} of {n} pairs, or for the other "
                f"{1 - right:.0%} if all are turned around."
            )


@check("answer_without_labels")
def test_pairs_of_ten_dimensions_are_answered(student):
    """Four sets of 160 pairs in ten dimensions."""
    judge_pairs(student, 160, 10)


@check("answer_without_labels")
def test_pairs_of_twenty_dimensions_are_answered(student):
    """Four sets of 240 pairs in twenty dimensions."""
    judge_pairs(student, 240, 20)


# 13.4 ---------------------------------------------------------------------------------------------

N_VALUES, N_ANSWERS, SITE = 3, 5, 2  # the site is the stream before layer 2
EQUALS, START = N_VALUES, N_VALUES + 1
# How a variable is read: by the unembedding, by a head; so weakly that no answer turns on it; not
# there, but from its own position; not at all.
USED = ("direct", "by a head")
WAYS = (*USED, "weak", "elsewhere", "unread")
# Columns of an orthogonal array of 81 rows: any two of these sums of four digits are balanced.
COLUMNS = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 1, 0), (1, 2, 0, 1))


@dataclasses.dataclass(frozen=True)
class Planted:
    """Hold a model that answers by some of six variables, and which."""

    model: Transformer
    tokens: Tensor
    values: dict[str, Tensor]
    name: str
    used: set[str]
    order: list[str]  # of the variables' positions


# In each of three models: which way of reading turns few answers, fewer than one in ten where the
# value is taken out; in which way two values are read alike; and whether the other way turns less
# than half of the answers, or more.
SHY = (
    ("direct", "by a head", 0.0, 0.47),
    ("by a head", "direct", 0.0, 1.0),
    ("direct", "direct", 0.53, 0.76),
)


def draw_contributions(
    ways: list[str], generator: torch.Generator, values: Tensor, plan: tuple[str, str, float, float]
) -> list[Tensor] | None:
    """Draw what each value adds to each logit: (value, answer) for each variable.

    Return None unless exchanges for either other value turn clearly enough answers or clearly too
    few, as planned.
    """
    shy, alike, low, high = plan
    size = {"direct": 1.0, "by a head": 1.0, "weak": 0.02, "elsewhere": 1.0, "unread": 0.0}
    size[shy] = 0.3
    adds = [size[way] * normal(generator, N_VALUES, N_ANSWERS) for way in ways]
    for way, add in zip(ways, adds, strict=True):
        if way == alike:
            add[1] = add[0] + 0.01 * add[1]
    logits = sum(add[value] for add, value in zip(adds, values.T, strict=True))
    top = logits.topk(2, dim=1).values
    if (top[:, 0] - top[:, 1]).min() < 1e-3:
        return None
    said = logits.argmax(1)
    for way, add, value in sorted(zip(ways, adds, values.T, strict=True), key=lambda x: x[0]):
        rest = logits - add[value]

        def turn(put: Tensor, rest: Tensor = rest) -> Tensor:
            return ((rest + put).argmax(1) != said).float()

        turned = [turn(add[(value + step) % N_VALUES]).mean().item() for step in (1, 2)]
        # A weak one turns one answer, at least: a look for any change finds it.
        least, most = {"weak": (0.0, 0.05), "unread": (-1.0, 1.0)}.get(way, (0.12, 1.0))
        if way in USED and way != shy:
            least, most = max(low, least), high
        if not least < min(turned) or not max(turned) < most:
            return None
        if way not in USED:
            continue
        taken_out = turn(add.mean(dim=0)).mean()
        zero_for_one = turn(add[1].expand_as(logits))[value == 0].mean()
        for share, is_small in ((taken_out, way == shy), (zero_for_one, way == alike)):
            if not (share < 0.08 if is_small else share > 0.12):
                return None
    return adds


@functools.cache
def plant_variables(seed: int, plan: tuple[str, str, float, float]) -> Planted:
    """Plant a model of three layers of seven heads; heads, positions and names are shuffled.

    Heads of layers 0 and 1 bring six variables to the last position. Layer 2 reads one of them
    there, another at its own position, and one that is unread at the start, where nothing is held.
    """
    source = random.Random(seed)
    ways = [*WAYS, source.choice(WAYS[:1] * (plan[0] != "direct") + WAYS[3:])]
    source.shuffle(ways)
    digits = torch.cartesian_prod(*[torch.arange(N_VALUES)] * 4)
    n = len(ways)
    values = (digits @ torch.tensor(COLUMNS).T) % N_VALUES  # prompt, variable
    values = (values + torch.tensor([source.randrange(3) for _ in range(n)])) % N_VALUES

    def draw(generator: torch.Generator) -> Planted | None:
        adds = draw_contributions(ways, generator, values, plan)
        if adds is None:
            return None
        prompts = values[torch.randperm(len(values), generator=generator)]
        names = source.sample([*"abcdefghkmnpqrstuvwxyz"], n)
        model = build_reader(ways, adds, source)
        hidden = disguise(model, generator).model
        tokens = torch.full((len(prompts), n + 2), EQUALS)
        tokens[:, 0] = START
        tokens[:, 1:-1] = prompts
        by_name = {name: prompts[:, i] for i, name in enumerate(names)}
        shown = dict(source.sample(list(by_name.items()), n))
        used = {name for name, way in zip(names, ways, strict=True) if way in USED}
        return Planted(hidden, tokens, shown, f"blocks.{SITE}.hook_resid_pre", used, names)

    return draw_until_clear(seed, draw)


def draw_loudness(ways: list[str], source: random.Random) -> list[float]:
    """Draw how loud each variable is: neither the two loudest nor the two quietest are the used."""
    while True:
        loudness = [source.choice((1.0, 1.5, 2.0)) * source.uniform(0.9, 1.1) for _ in ways]
        order = sorted(range(len(ways)), key=loudness.__getitem__)
        ends = [{ways[i] in USED for i in order[:2]}, {ways[i] in USED for i in order[-2:]}]
        if all(end != {True} for end in ends):
            return loudness


@torch.no_grad()
def build_reader(ways: list[str], adds: list[Tensor], source: random.Random) -> Transformer:
    """Build the model, in a plain basis."""
    n = len(ways)
    last = n + 1
    n_tokens = N_VALUES + 2
    stream = by_hand.Stream(
        token=n_tokens, position=n + 2, held=n * N_VALUES, late=n * N_VALUES, dump=N_VALUES
    )
    held, late = (stream[group].split(N_VALUES) for group in ("held", "late"))
    config = Config(
        n_tokens,
        n + 2,
        stream.d_model,
        n_layers=3,
        n_heads=4,
        d_head=n + 2,
        attn_scale=1.0,
        d_vocab_out=N_ANSWERS,
    )
    model = by_hand.make_blank(config)
    token, position = stream["token"], stream["position"]
    by_hand.write_embedding(model, token, position)
    slots = [source.sample(range(4), 4) for _ in range(3)]

    def place(layer: int, where: int, read: Tensor, write: Tensor) -> None:
        """Let a head bring something from a position to the last."""
        head = slots[layer].pop()
        by_hand.attend_where_equal(
            model, layer, head, position[last, None], position[where, None], 30.0
        )
        by_hand.copy_directions(model, layer, head, read, write)

    unembed = torch.zeros(N_ANSWERS, stream.d_model)
    layers = source.sample([0, 0, 0, 1, 1, 1], n)
    loudness = draw_loudness(ways, source)
    for i, way in enumerate(ways):
        loud = loudness[i]
        place(layers[i], 1 + i, token[:N_VALUES], loud * held[i])
        if way == "by a head":
            place(2, last, held[i], late[i])
        if way == "elsewhere":
            place(2, 1 + i, token[:N_VALUES], loud * late[i])
        read = {"direct": held, "weak": held, "by a head": late, "elsewhere": late}
        if way in read:
            unembed += adds[i].T @ read[way][i] / loud
    # Whoever exchanges values at all positions is heard by this head, and nobody else.
    unread = ways.index("unread")
    place(2, 0, held[unread], late[unread])
    unembed += adds[ways.index("direct")].T @ late[unread]
    while slots[2]:
        place(2, source.randrange(n + 2), held[unread], stream["dump"])
    by_hand.read_out(model, unembed, 10.0)
    return model


@check("find_used_variables")
def test_the_variables_that_are_read_are_found_in_unseen_models(student):
    """The variables that are read from the site, in three unseen models."""
    failed: list[Wrong] = []
    cases = [plant_variables(*each) for each in zip(student.seeds(3), SHY, strict=True)]
    for case in cases:
        got = student.call("find_used_variables", case.model, case.tokens, case.values, case.name)
        try:
            expect_found(got, [case.used], list(case.values), what="variables")
        except Wrong as wrong:
            failed.append(wrong)
    if failed:
        # One of three is right by chance now and then.
        earned = 0.5 * (len(failed) == 1)
        raise Wrong(failed[0].mistake, sentence=failed[0].sentence, earned=earned)
