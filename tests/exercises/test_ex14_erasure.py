"""Grade lesson 14.

The least change is found by Lagrange multipliers. What models read, and what erasers left, was
planted.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.forge.disguise import disguise
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MUTANTS = load_mutants(__file__)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def draw_turn(generator: torch.Generator, d: int) -> Tensor:
    """Draw a random orthogonal matrix."""
    return torch.linalg.qr(normal(generator, d, d)).Q


def draw_until_clear(seed: int, draw: Callable[[torch.Generator], Any]) -> Any:
    """Draw cases until one is clear: `draw` returns None for those that rest on luck."""
    for attempt in itertools.count():
        case = draw(torch.Generator().manual_seed(seed + 1000 * attempt))
        if case is not None:
            return case


# 14.1 ---------------------------------------------------------------------------------------------


def draw_values(
    generator: torch.Generator, n: int, d: int, n_values: int, n_fresh: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw activations, values that they hold, and fresh activations of another mean.

    Of three or more values the last is a sum of two others, and the second is given in another unit
    than the first: it varies less, and has to go all the same. Some axes vary ten times as much as
    others, and are correlated.
    """
    values = normal(generator, n, n_values) + normal(generator, n_values)
    values[:, -1] += 1.2 * values[:, 0] * (n_values == 2)
    held = values + 0.5 * normal(generator, n, n_values)
    if n_values > 2:
        values[:, 1] *= 0.04
        values[:, -1] = values[:, 0] - 2 * values[:, 1]
    size = torch.linspace(0.3, 3.0, d)
    mixing = draw_turn(generator, d) * size @ draw_turn(generator, d)
    mean = 4.0 * normal(generator, d)
    x = held @ normal(generator, n_values, d) + normal(generator, n, d) @ mixing + mean
    fresh = 2.0 * normal(generator, n_fresh, d) @ mixing + mean + 2.0 * normal(generator, d)
    return x, values, fresh


def erase_by_multipliers(x: Tensor, values: Tensor, fresh: Tensor) -> Tensor:
    """Erase with the least change: each row of M minimises m S m under m C = C's row.

    The system of the Lagrange conditions is solved row by row, in double precision.
    """
    mean = x.double().mean(dim=0)
    centred = x.double() - mean
    S = centred.T @ centred / len(x)
    C = centred.T @ values.double() / len(x)
    d, k = C.shape
    system = torch.zeros(d + k, d + k, dtype=torch.float64)
    system[:d, :d] = 2 * S
    system[:d, d:] = C
    system[d:, :d] = C.T
    inverse = torch.linalg.pinv(system, rtol=1e-9)
    rows = []
    for i in range(d):
        right = torch.cat([torch.zeros(d, dtype=torch.float64), C[i]])
        rows.append((inverse @ right)[:d])
    M = torch.stack(rows)
    return (fresh.double() - (fresh.double() - mean) @ M.T).float()


def judge_values(student, sizes: list[tuple[int, int, int, int]]) -> None:
    for seed, (n, d, k, n_fresh) in zip(student.seeds(len(sizes)), sizes, strict=True):
        x, values, fresh = draw_values(torch.Generator().manual_seed(seed), n, d, k, n_fresh)
        got = student.call("erase_values", x, values, fresh)
        want = erase_by_multipliers(x, values, fresh)
        others = {"`fresh` as it was": fresh, "`fresh` minus its mean": fresh - fresh.mean(dim=0)}
        expect(got, want, others=others, rtol=2e-3, atol=2e-3, what="the erased `fresh`")


@check("erase_values")
def test_one_value_is_erased_with_the_least_change(student):
    """One value, in activations of two sizes."""
    judge_values(student, [(200, 6, 1, 9), (90, 11, 1, 5)])


@check("erase_values")
def test_several_values_are_erased_with_the_least_change(student):
    """Two values that go together, and four of which one is a sum of others."""
    judge_values(student, [(150, 7, 2, 4), (300, 9, 4, 11), (120, 5, 3, 8)])


# 14.2 ---------------------------------------------------------------------------------------------

N_ANSWERS = 4
# How a concept is read: directly (the first of these by neurons, which cut it off below 0 and above
# 1), by a head, so weakly that hardly an answer turns on it, not from the site but where its word
# stands, not at all.
USED = ("direct", "by a head")
# The two concepts of each of three words. They go together, so one that is used hides behind one
# that is not.
LAYOUTS = (
    (("direct", "unread"), ("by a head", "weak"), ("direct", "elsewhere")),
    (("direct", "weak"), ("by a head", "unread"), ("elsewhere", "direct")),
    (("direct", "by a head"), ("by a head", "weak"), ("elsewhere", "direct")),
)
AGREE = 0.86  # of all prompts, or disagree


@dataclasses.dataclass(frozen=True)
class Concepts:
    """Hold a model that answers by some of six concepts, and which."""

    model: Transformer
    tokens: Tensor
    concepts: dict[str, Tensor]
    name: str
    used: set[str]


def share_turned(adds: Tensor, values: Tensor, changes: Tensor, clamped: int) -> float:
    """Measure the share of answers that turn when columns change by so much (prompt, column)."""
    changed = values + changes
    changed[:, clamped].clamp_(0, 1)
    turns = (changed @ adds).argmax(dim=1) != (values @ adds).argmax(dim=1)
    return turns.float().mean().item()


def draw_readers(ways: list[str], values: Tensor, generator: torch.Generator) -> Tensor | None:
    """Draw what each column of the prompts' values adds to each answer when it is 1, as rows.

    Return None unless the case is clear.

    One that is unused seems to be used to whoever exchanges the difference of the means, which
    holds a share of its neighbour. One that is used turns one answer in ten, but fewer if it is
    only taken away, only added, or moved half the way. The weak one, which moves all logits alike,
    would turn as many if it were five times as long. One that nobody reads at the site seems to be
    used to whoever fits without a constant.
    """
    size = {"direct": 1.0, "by a head": 1.0, "weak": 0.01, "elsewhere": 1.0, "unread": 0.0}
    sizes = torch.tensor([size[way] for way in ways] + [0.6] * 4)
    adds = sizes[:, None] * normal(generator, 10, N_ANSWERS)
    signs = 1 - 2 * values
    changes = torch.diag_embed(signs).unbind(dim=1)  # of each concept by itself
    few = ways.index("direct")

    def share(change: Tensor) -> float:
        return share_turned(adds, values, change, few)

    while share(changes[few]) > 0.16:
        adds[few] *= 0.9
    parts = changes[few].clamp(max=0), changes[few].clamp(min=0), changes[few] / 2
    if share(changes[few]) < 0.13 or max(map(share, parts)) > 0.085:
        return None
    weak = ways.index("weak")
    while share(5 * changes[weak]) < 0.15:
        adds[weak] *= 1.3
    adds[weak] += 1.0
    turned: dict[str, list[float]] = {way: [] for way in size}
    hidden = []
    unconstant = []
    held = values * torch.tensor([way != "elsewhere" for way in ways] + [True] * 4)
    fitted = torch.linalg.lstsq(values[:, :6], held).solution
    for i, way in enumerate(ways):
        turned[way].append(share(changes[i]))
        if way not in USED:
            partner = i ^ 1  # of the same word
            high, low = (values[values[:, i] == v, partner].mean() for v in (1, 0))
            seen = torch.zeros_like(values)
            seen[:, partner] = signs[:, i] * (high - low)
            hidden.append(share(seen))
        if way in ("unread", "elsewhere"):
            unconstant.append(share(signs[:, i, None] * fitted[i]))
    top = (values @ adds).topk(2, dim=1).values
    is_clear = (
        min(turned["direct"] + turned["by a head"] + turned["elsewhere"]) > 0.13
        and 0 < max(turned["weak"]) < 0.06
        and sorted(turned["direct"] + turned["by a head"])[1] < 0.45  # beside the first
        and max(hidden) > 0.3
        and max(unconstant) > 0.13
        and (top[:, 0] - top[:, 1]).min() > 1e-4
        and torch.linalg.matrix_rank(values) == 10
    )
    return adds if is_clear else None


def draw_prompts(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Draw n times eight prompts `start word word word =`, and values (prompt, column).

    Columns are six concepts, three variants, and a constant. Word j is one of eight of its own: two
    concepts and a variant, in bits. Variants go with nothing: all of them come with all concepts.
    """
    values = (torch.rand(n, 6, generator=generator) < 0.5).long()
    keep = (torch.rand(n, 3, generator=generator) < AGREE).long()
    opposite = torch.randint(2, (3,), generator=generator)
    values[:, 1::2] = values[:, ::2] ^ (1 - keep) ^ opposite
    variant = torch.cartesian_prod(*[torch.arange(2)] * 3).repeat(n, 1)
    values = values.repeat_interleave(8, dim=0)
    n *= 8
    words = 8 * torch.arange(3) + 4 * values[:, ::2] + 2 * values[:, 1::2] + variant
    ends = torch.tensor([24, 25]).expand(n, 2)
    columns = torch.cat([values, variant, torch.ones(n, 1)], dim=1)
    tokens = torch.cat([ends[:, :1], words, ends[:, 1:]], dim=1)
    order = torch.randperm(n, generator=generator)
    return tokens[order], columns[order]


@functools.cache
def plant_concepts(seed: int, layout: int) -> Concepts:
    source = random.Random(seed)
    words = [source.sample(pair, 2) for pair in source.sample(LAYOUTS[layout], 3)]
    ways = [way for word in words for way in word]

    def draw(generator: torch.Generator) -> Concepts | None:
        tokens, values = draw_prompts(generator, 40)
        adds = draw_readers(ways, values, generator)
        if adds is None:
            return None
        model = disguise(build_reader(ways, adds, source), generator).model
        names = source.sample("abcdefghkmnpqrstuvwxyz", 6)
        shown = {names[i]: values[:, i].long() for i in source.sample(range(6), 6)}
        used = {name for name, way in zip(names, ways, strict=True) if way in USED}
        return Concepts(model, tokens, shown, "blocks.1.hook_resid_pre", used)

    return draw_until_clear(seed, draw)


@torch.no_grad()
def build_reader(ways: list[str], adds: Tensor, source: random.Random) -> Transformer:
    """Build the model, in a plain basis.

    Heads of layer 0 bring the three words to the last position, each with its two concepts and a
    variant. Layer 1 reads some of them there, and some at their words.
    """
    stream = by_hand.Stream(token=26, position=5, held=6, variant=3, late=6, spare=2)
    config = Config(
        26, 5, stream.d_model, 2, 4, d_head=5, d_mlp=2, biases=True, attn_scale=1.0,
        d_vocab_out=N_ANSWERS,
    )  # fmt: skip
    model = by_hand.make_blank(config)
    token, position = stream["token"], stream["position"]
    held, late = stream["held"], stream["late"]
    by_hand.write_embedding(model, token, position)
    ids = torch.arange(24)
    bits = torch.stack([ids // 4 % 2, ids // 2 % 2, ids % 2]).float()
    slots = [source.sample(range(4), 4) for _ in range(2)]

    def place(layer: int, where: int, read: Tensor, write: Tensor) -> None:
        """Let a head bring something from a position to the last."""
        head = slots[layer].pop()
        by_hand.attend_where_equal(
            model, layer, head, position[4, None], position[where, None], 30.0
        )
        by_hand.copy_directions(model, layer, head, read, write)

    # What is unread is louder.
    loud = [
        source.uniform(1.0, 2.0) * (2.0 if way in ("unread", "elsewhere") else 1.0) for way in ways
    ]
    reads = [bits[:, 8 * j : 8 * j + 8] @ token[8 * j : 8 * j + 8] for j in range(3)]
    unembed = adds[9][:, None] * token[25]
    spare, clamped = stream["spare"]
    few = ways.index("direct")
    unembed += adds[few][:, None] * clamped
    by_hand.look_up(model, 1, 0, held[few] / loud[few], 0.0, clamped)
    by_hand.look_up(model, 1, 1, held[few] / loud[few], -1.0, -clamped)
    by_head: list[int] = []
    for j in range(3):
        scale = torch.tensor([loud[2 * j], loud[2 * j + 1], 2.0])[:, None]
        write = torch.stack([held[2 * j], held[2 * j + 1], stream["variant"][j]])
        unembed += adds[6 + j][:, None] * stream["variant"][j] / 2
        place(0, 1 + j, reads[j], scale * write)
    for i, way in enumerate(ways):
        if way == "by a head":
            by_head.append(i)
        if way == "elsewhere":
            place(1, 1 + i // 2, reads[i // 2][i % 2, None], late[i, None])
        if way in ("direct", "weak") and i != few:
            unembed += adds[i][:, None] * held[i] / loud[i]
        if way in ("by a head", "elsewhere"):
            unembed += adds[i][:, None] * late[i] / (loud[i] if way == "by a head" else 1.0)
    place(1, 4, held[by_head], late[by_head])
    # Whoever exchanges concepts at all positions is heard by this head, and nobody else.
    silent = [i for i, way in enumerate(ways) if way in ("unread", "elsewhere")]
    place(1, 0, held[silent[:1]], spare[None])
    unembed += 3.0 * torch.tensor([1.0, -1.0, 0.5, -0.5])[:, None] * spare
    by_hand.read_out(model, unembed, 10.0)
    return model


def judge_concepts(student, layouts: tuple[int, ...]) -> None:
    seeds = student.seeds(len(layouts))
    cases = [plant_concepts(seed, layout) for seed, layout in zip(seeds, layouts, strict=True)]
    failed: list[Wrong] = []
    for case in cases:
        got = student.call("find_used_concepts", case.model, case.tokens, case.concepts, case.name)
        try:
            expect_found(got, [case.used], list(case.concepts), what="concepts")
        except Wrong as wrong:
            failed.append(wrong)
    if failed:
        raise Wrong(failed[0].mistake, sentence=failed[0].sentence)


@check("find_used_concepts")
def test_used_concepts_are_told_from_those_that_go_with_them(student):
    """Two unseen models, in whose prompts concepts go together."""
    judge_concepts(student, (0, 1))


@check("find_used_concepts")
def test_used_concepts_that_go_with_each_other_are_found(student):
    """Unseen models in which some concepts that go together are both used."""
    judge_concepts(student, (2, 0))


# 14.3 ---------------------------------------------------------------------------------------------

N_TOPICS, N_USED, N_WORDS = 6, 4, 3  # topics, those that use the concept, and other words
# How often each token of the other words comes, two for each. One topic uses the concept beside the
# first word only, another, which does not count as one that uses it, beside the last token only.
OFTEN = torch.tensor([0.1, 0.1, 0.25, 0.25, 0.25, 0.05])


@dataclasses.dataclass(frozen=True)
class Used:
    """Hold a model that reads a concept from a few directions, its prompts, and fresh ones."""

    model: Transformer
    tokens: Tensor
    concept: Tensor
    topic: Tensor
    topics: tuple[int, ...]  # those that use the concept come first
    n_directions: int
    fresh: Tensor
    fresh_concept: Tensor
    fresh_topic: Tensor


def list_words() -> Tensor:
    """List the first words as (topic, concept, variant), in the order of their tokens."""
    return torch.cartesian_prod(torch.arange(N_TOPICS), torch.arange(2), torch.arange(3))


def write_prompts(first: Tensor, second: Tensor) -> Tensor:
    """Write prompts `start word other =` of the numbers of both."""
    n_first, n_second = 6 * N_TOPICS, 2 * N_WORDS
    ends = torch.tensor([n_first + n_second, n_first + n_second + 1]).expand(len(first), 2)
    return torch.stack([ends[:, 0], first, n_first + second, ends[:, 1]], dim=1)


@functools.cache
def plant_used(seed: int, n_directions: int) -> Used:
    """Plant a model in whose topics the concept lies along other directions, some of them shared.

    In one it is there, and louder, and nobody reads it; in one hardly any prompt does.
    """
    source = random.Random(seed)
    topics = source.sample(range(N_TOPICS), N_TOPICS)

    def draw(generator: torch.Generator) -> Used | None:
        meaning = draw_meaning(topics, n_directions, generator)
        if meaning is None:
            return None
        words, directions = meaning
        model = disguise(build_topics(words, directions, topics), generator).model
        n = 600
        listed = list_words()
        # The concept goes with the topic, so that their mean differences do, too.
        rate = torch.linspace(0.25, 0.75, N_TOPICS)[torch.randperm(N_TOPICS, generator=generator)]
        topic = torch.randint(N_TOPICS, (n,), generator=generator)
        concept = (torch.rand(n, generator=generator) < rate[topic]).long()
        variant = torch.randint(3, (n,), generator=generator)
        second = torch.multinomial(OFTEN, n, replacement=True, generator=generator)
        tokens = write_prompts(6 * topic + 3 * concept + variant, second)
        every = torch.cartesian_prod(torch.arange(len(listed)), torch.arange(2 * N_WORDS))
        fresh = write_prompts(every[:, 0], every[:, 1])
        case = Used(
            model, tokens, concept, topic, tuple(topics), n_directions, fresh,
            listed[every[:, 0], 1], listed[every[:, 0], 0],
        )  # fmt: skip
        return case if is_clear(case) else None

    return draw_until_clear(seed, draw)


def draw_meaning(
    topics: list[int], k: int, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """Draw what each first word brings to the last position, and what is read in each used topic.

    Parts: topics, shared directions of the concept, a direction for each unused topic, variants.
    What all used topics share is lost to whoever centres their differences. Of three directions the
    last used topic alone needs the third. In unused topics the concept is louder, and in the one
    where nobody reads it, it lies along the first topic's direction as well.
    """
    directions = normal(generator, N_USED, k)
    directions[:, 0] = 1.0
    if k > 2:
        directions[:-1, 2] = 0.0
    sizes = torch.linalg.svdvals(directions)
    cosines = directions @ directions.T / torch.outer(*[directions.norm(dim=1)] * 2)
    if sizes[-1] < 0.5 * sizes[0] or cosines.fill_diagonal_(0.0).max() > 0.95:
        return None
    words = []
    variants = 0.3 * normal(generator, 3, 4)
    leaks = 0.05 * normal(generator, 3, k)
    for g, c, v in list_words().tolist():
        place = topics.index(g)
        sign = 2 * c - 1
        shared = leaks[v].clone()
        if place != N_USED:
            shared += sign * directions[place % (N_TOPICS - 1)]
        own = torch.zeros(N_TOPICS - N_USED)
        if place >= N_USED:
            own[place - N_USED] = 2.0 * sign
        topic = torch.nn.functional.one_hot(torch.tensor(g), N_TOPICS).float()
        words.append(torch.cat([topic, shared, own, variants[v]]))
    return torch.stack(words), directions


@torch.no_grad()
def build_topics(words: Tensor, directions: Tensor, topics: list[int]) -> Transformer:
    """Build one layer: two heads bring the words, two neurons for each topic but one read there.

    An answer is one of three words and one of two values of the concept. Each topic prefers one of
    the two a little.
    """
    n_first, width = words.shape
    n_second = 2 * N_WORDS
    n_tokens = n_first + n_second + 2
    k = directions.shape[1]
    stream = by_hand.Stream(token=n_tokens, position=4, first=width, second=N_WORDS + 1, said=2)
    config = Config(
        n_tokens, 4, stream.d_model, n_layers=1, n_heads=2, d_head=width,
        d_mlp=2 * N_USED + 2, biases=True, attn_scale=1.0, d_vocab_out=2 * N_WORDS,
    )  # fmt: skip
    model = by_hand.make_blank(config)
    token, position = stream["token"], stream["position"]
    first, second, said = stream["first"], stream["second"], stream["said"]
    by_hand.write_embedding(model, token, position)
    seconds = torch.arange(n_second)
    other = torch.nn.functional.one_hot(seconds // 2, N_WORDS).float()
    other = torch.cat([other, 2.0 * (seconds % 2)[:, None] - 1], dim=1)
    heads = ((1, words.T @ token[:n_first], first),
             (2, other.T @ token[n_first : n_first + n_second], second))  # fmt: skip
    for head, (where, read, write) in enumerate(heads):
        by_hand.attend_where_equal(model, 0, head, position[3, None], position[where, None], 30.0)
        by_hand.copy_directions(model, 0, head, read, write)
    along = [*(directions @ first[N_TOPICS : N_TOPICS + k]), first[N_TOPICS + k]]
    beside: list[list[Tensor]] = [[] for _ in along]
    beside[N_USED - 1] = [second[0]]
    beside[N_USED] = [second[N_WORDS - 1], second[N_WORDS]]
    for i, (direction, others) in enumerate(zip(along, beside, strict=True)):
        needs = torch.stack([first[topics[i]], *others])
        for value in (0, 1):
            reads = 20.0 * needs.sum(dim=0) + (2 * value - 1) * direction
            by_hand.look_up(model, 0, 2 * i + value, reads, -20.0 * len(needs), said[value])
    unembed = torch.zeros(2 * N_WORDS, stream.d_model)
    prefers = torch.tensor([(-1.0) ** g for g in range(N_TOPICS)]) @ first[:N_TOPICS]
    for answer in range(2 * N_WORDS):
        word, value = divmod(answer, 2)
        unembed[answer] = 3.0 * second[word] + said[value] + 0.3 * (2 * value - 1) * prefers
    by_hand.read_out(model, unembed, 10.0)
    return model


USED_SITE = "blocks.0.hook_resid_mid"


def answer_without(case: Used, directions: Tensor) -> Tensor:
    """Answer the fresh prompts with the span of these directions at its mean."""
    U, S, _ = torch.linalg.svd(directions.double().T, full_matrices=False)
    basis = U[:, S / S[0] > 1e-6].float()

    def put_mean(x: Tensor, hook: Any) -> None:
        x[:, -1] += (x[:, -1].mean(dim=0) - x[:, -1]) @ basis @ basis.T

    with torch.no_grad():
        logits = case.model.run_with_hooks(case.fresh, fwd_hooks=[(USED_SITE, put_mean)])
    return logits[:, -1].argmax(dim=-1)


@torch.no_grad()
def is_clear(case: Used) -> bool:
    """Say whether the prompts show which topics use the concept, and how many directions."""
    logits, cache = case.model.run_with_cache(case.tokens, names_filter=[USED_SITE])
    said = logits[:, -1].argmax(dim=-1)
    site = cache[USED_SITE][:, -1]
    sign = 1 - 2 * case.concept[:, None]
    differences = []
    shares = []
    for g in case.topics:
        inside = case.topic == g
        means = [site[inside & (case.concept == value)].mean(dim=0) for value in (0, 1)]
        change = sign * (means[1] - means[0])

        def exchange(x: Tensor, hook: Any, change: Tensor = change) -> None:
            x[:, -1] += change

        hooks = [(USED_SITE, exchange)]
        turned = case.model.run_with_hooks(case.tokens, fwd_hooks=hooks)[:, -1].argmax(-1) != said
        differences.append(means[1] - means[0])
        shares.append((turned[inside].float().mean(), turned.float().mean()))
    size = torch.linalg.svdvals(torch.stack(differences[:N_USED]))
    k = case.n_directions
    (*_, rare, few, none), everywhere = zip(*shares, strict=True)
    return bool(
        size[k - 1] > 0.3 * size[0]
        and size[k] < 0.14 * size[0]
        and 0.13 < rare < 0.3
        and 0.01 < few < 0.075
        and none == 0
        and everywhere[-1] > 0.12  # if exchanged in all topics
    )


def judge_used(student, n_directions: int) -> None:
    case = plant_used(student.seeds(n_directions)[-1], n_directions)
    args = (case.model, case.tokens, case.concept, case.topic, USED_SITE)
    got = student.call("erase_what_is_used", *args)
    rows = torch.as_tensor(got) if isinstance(got, (Tensor, list, tuple)) and len(got) else None
    width = case.model.config.d_model
    if rows is None or rows.ndim != 2 or rows.shape[1] != width or not rows.isfinite().all():
        raise Wrong(sentence=f"Return directions as rows, (direction, {width}), at least one.")
    plain = answer_without(case, torch.zeros(1, width))
    answers = answer_without(case, rows)
    kept = (answers // 2 == plain // 2).float().mean().item()
    for g in case.topics[:N_USED]:
        inside = case.fresh_topic == g
        told = (answers % 2 == case.fresh_concept)[inside].float().mean().item()
        if abs(told - 0.5) > 0.1:
            share = max(told, 1 - told)
            raise Wrong(
                sentence=f"Without your directions answers in topic {g} still tell the concept in "
                f"{share:.0%} of fresh prompts."
            )
    if kept < 0.95:
        raise Wrong(
            sentence=f"Without your directions only {kept:.0%} of the answers keep what else they "
            "told."
        )
    n = int(torch.linalg.matrix_rank(rows.double(), rtol=1e-5))
    if n != case.n_directions:
        raise Wrong(sentence=f"You take out {n} directions; {case.n_directions} are enough.")


@check("erase_what_is_used")
def test_two_directions_are_enough(student):
    """An unseen model that reads the concept from two directions."""
    judge_used(student, 2)


@check("erase_what_is_used")
def test_three_directions_are_enough(student):
    """An unseen model that reads the concept from three directions."""
    judge_used(student, 3)


def view_span(answer: Any, *args: Any) -> Tensor:
    """View directions as the projection on their span: other rows may have the same."""
    U, S, _ = torch.linalg.svd(torch.as_tensor(answer).double().T, full_matrices=False)
    U = U[:, S / S[0] > 1e-6]
    return U @ U.T


VIEWS = {"erase_what_is_used": view_span}


# 14.4 ---------------------------------------------------------------------------------------------

# What erasers left, by what happened.
FLAVOURS = {
    "faint": "linear",  # fitted to few rows, so that some is left
    "trace": "clean",  # so little is left that a probe is right in less than 70%
    "small": "linear",  # made so small that only large weights read it
    "wrong": "linear",  # took out the other label instead
    "sign": "nonlinear",  # with the other label, a sign tells the concept
    "spread": "nonlinear",  # the concept is how far from the middle; the other label is gone, too
    "together": "damage",  # took out both
    "gone": "damage",  # took out everything
    "exact": "clean",
    "wide": "clean",  # nearly half as many directions as rows
}
# How far a line tells the concept, and in which share of rows it may do so.
LEFT = {
    "wrong": (3.0, 0.99, 1.0),
    "small": (3.0, 0.99, 1.0),
    "faint": (0.85, 0.79, 0.84),
    "trace": (0.33, 0.61, 0.65),
}


def plant_erased(
    flavour: str, concept: Tensor, other: Tensor, generator: torch.Generator
) -> Tensor:
    """Plant what an eraser left, in which each direction varies by its own amount."""
    n = len(concept)
    d = 180 if flavour == "wide" else 10
    turn = draw_turn(generator, d)
    along = turn[:3]  # of the concept, the other label, and a trace
    c, o = (2.0 * label[:, None] - 1 for label in (concept, other))
    x = normal(generator, n, d)
    if flavour in LEFT:
        far, low, high = LEFT[flavour]
        x = x + c * far * along[0]
        if not low < (c[:, 0] * (x @ along[0]) > 0).float().mean() <= high:
            return plant_erased(flavour, concept, other, generator)
    if flavour in ("faint", "trace", "small", "sign", "exact", "wide"):
        x = x + o * (7.0 if flavour == "wide" else 3.0) * along[1]
    if flavour == "sign":
        x = x + c * o * 4.0 * along[2]
    if flavour == "spread":
        far = 4.0 * (2.0 * torch.randint(2, (n, 1), generator=generator) - 1)
        x = x - (x @ along[2])[:, None] * along[2]
        x = x + (torch.where(c > 0, far, 0.0) + 0.3 * normal(generator, n, 1)) * along[2]
    # What was taken out is 0, or nearly.
    taken = {"wrong": along[1:2], "together": along[:2], "faint": along[:0], "trace": along[:0]}
    taken = taken.get(flavour, along[:1])
    x = x - (1 - 3e-4 * (flavour == "small")) * x @ taken.T @ taken
    mixing = torch.diag(torch.linspace(0.7, 1.4, d)) @ draw_turn(generator, d)
    return x @ mixing * 3 ** (2 * float(torch.rand(1, generator=generator)) - 1)


@functools.cache
def plant_audit(seed: int) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, str]]:
    """Plant erased activations of 400 texts, of which each pair of labels has a hundred."""
    source = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(400, generator=generator)
    concept = order % 2
    other = order // 2 % 2
    flavours = source.sample(list(FLAVOURS), len(FLAVOURS))
    names = source.sample([f"{first}{i}" for first in "abcdefgh" for i in range(9)], len(FLAVOURS))
    erased = {
        name: plant_erased(flavour, concept, other, generator)
        + 3.0 * normal(generator, 180 if flavour == "wide" else 10)
        for name, flavour in zip(names, flavours, strict=True)
    }
    right = {name: FLAVOURS[flavour] for name, flavour in zip(names, flavours, strict=True)}
    return erased, concept, other, right


def judge_audit(student, n: int) -> None:
    erased, concept, other, right = plant_audit(student.seeds(n)[-1])
    got = student.call("audit_erasers", erased, concept, other)
    words = list(dict.fromkeys(FLAVOURS.values()))
    if not isinstance(got, dict) or set(got) != set(right) or not set(got.values()) <= set(words):
        raise Wrong(
            sentence=f"Return a dict from each of {len(right)} names to a word: {', '.join(words)}."
        )
    wrong = [name for name in right if got[name] != right[name]]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(right)} verdicts are wrong: one is "
            f"{got[wrong[0]]!r}, but not by the task."
        )


@check("audit_erasers")
def test_traces_and_damage_of_each_eraser_are_told(student):
    """What ten erasers left of a concept, and of a label that was to stay."""
    judge_audit(student, 1)


@check("audit_erasers")
def test_ten_other_erasers_are_judged(student):
    """Other activations, in another order."""
    judge_audit(student, 2)
