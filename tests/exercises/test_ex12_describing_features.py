"""Grade lesson 12.

Topics, descriptions, gates and scores are planted. What is right comes from the definitions, in
loops, or from the plan of a model, never from its weights.
"""

import functools
import itertools
import math
from collections import Counter
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


def read_numbers(got: Any, n: int, what: str) -> list[str]:
    """Read numbers from 0 to n - 1, in whatever container, as names."""
    numbers = as_list(got)
    if numbers is None or not all(type(i) is int and 0 <= i < n for i in numbers):
        raise Wrong(sentence=f"Return a list of numbers of {what}s, 0 to {n - 1}.")
    return [f"{what} {i}" for i in numbers]


def sort_numbers(got: Any, *args: Any) -> Any:
    """Sort a list of numbers, whose order tells no mistake."""
    numbers = as_list(got)
    return got if numbers is None else sorted(set(numbers))


def join_words(got: Any, *args: Any) -> Any:
    """Join words in their order, which tells a mistake."""
    words = as_list(got)
    return got if words is None else " ".join(map(str, words))


VIEWS = {
    "find_illusions": sort_numbers,
    "find_additive": sort_numbers,
    "tell_gates": join_words,
}

# 12.1 ---------------------------------------------------------------------------------------------

N_TOPICS, N_WORDS, LENGTH = 6, 30, 5
# What a neuron gets from words of its own topic, how much more from one of them, and from how many
# other words it gets how much.
NEURONS = (
    {"own": 2.0, "others": 0, "less": 0.0},
    {"own": 2.0, "others": 2, "less": 0.5},
    {"own": 2.0, "others": 8, "less": 0.6},
    {"own": 1.6, "others": 14, "less": 0.4},
    {"own": 2.2, "others": 9, "less": 0.1, "topic": 0},
    {"own": 2.2, "others": 11, "less": 0.08, "topic": 0},
    {"own": 2.2, "others": 10, "less": 0.3, "topic": 0},
    {"own": 1.5, "others": 9, "less": 1.62},
    {"own": 1.5, "others": 12, "less": 1.58},
    {"own": 1.5, "others": 6, "less": 1.62},
    {"own": 0.6, "others": 15, "less": 0.3, "topic": 0},
    {"own": 2.0, "others": 12, "less": 0.9, "topic": 1, "rank": 10},
    {"own": 2.0, "others": 12, "less": 0.9, "topic": 2, "rank": 11},
    {"own": 1.0, "others": 12, "less": 0.9, "more": 2.0},
    {"own": 0.8, "others": 9, "less": 0.5, "more": 2.0},
    {"own": -0.8, "others": 0, "less": 0.0},  # never active
)


def plant_topics(generator: torch.Generator) -> tuple[Transformer, Tensor, Tensor]:
    """Plant a model with neurons for topics, prompts, and the topic of each word."""
    n_neurons = len(NEURONS)
    topics = torch.cat([torch.zeros(10).long(), torch.arange(N_WORDS - 10) % (N_TOPICS - 1) + 1])
    topics = topics[choose(generator, N_WORDS, N_WORDS)]
    drive = -0.8 * torch.ones(N_WORDS, n_neurons)
    rivals = []
    for i, plan in enumerate(NEURONS):
        topic = int(torch.randint(N_TOPICS, (1,), generator=generator))
        topic = plan.get("topic", topic)
        own = (topics == topic).nonzero().flatten()
        others = (topics != topic).nonzero().flatten()
        picked = others[choose(generator, len(others), plan["others"])]
        drive[own, i] = plan["own"] * uniform(generator, 0.96, 1.04, len(own))
        drive[own[0], i] += plan.get("more", 0.0)
        drive[picked, i] = plan["less"] * uniform(generator, 0.8, 1.0, len(picked))
        if "rank" in plan:
            rivals.append((i, int(picked[0]), topic, plan["rank"]))
    order = choose(generator, n_neurons, n_neurons)
    by_place = 0.08 * normal(generator, LENGTH, n_neurons)
    by_place[-1] += 0.35 * normal(generator, n_neurons)

    width = N_WORDS + LENGTH + 20
    directions = normal(generator, N_WORDS + LENGTH, width)
    config = Config(N_WORDS, LENGTH, width, 1, d_head=4, d_mlp=n_neurons)
    model = by_hand.make_blank(config)
    with torch.no_grad():
        model.W_E.copy_(directions[:N_WORDS])
        model.W_pos.copy_(directions[N_WORDS:])
        table = torch.cat([drive, by_place])[:, order]
        model.blocks[0].mlp.W_in.copy_(torch.linalg.pinv(directions) @ table)
        model.blocks[0].mlp.W_out.copy_(normal(generator, n_neurons, width))
        attn = model.blocks[0].attn
        for weight in (attn.W_Q, attn.W_K, attn.W_V):
            weight.copy_(0.3 * normal(generator, *weight.shape) / width**0.5)
        attn.W_O.copy_(0.02 * normal(generator, *attn.W_O.shape))
        model.W_U.copy_(normal(generator, *model.W_U.shape))
    often = 0.15 + torch.rand(N_WORDS, generator=generator) ** 3
    tokens = torch.multinomial(often.expand(120, -1), LENGTH, True, generator=generator)
    for i, word, topic, rank in rivals:
        lift_rival(model, tokens, topics, (order.index(i), word, topic, rank))
    return model, tokens, topics


@torch.no_grad()
def lift_rival(
    model: Transformer, tokens: Tensor, topics: Tensor, plan: tuple[int, int, int, int]
) -> None:
    """Lift a word of another topic to where its best place has just this rank."""
    neuron, word, topic, rank = plan
    reads = torch.linalg.pinv(torch.cat([model.W_E, model.W_pos]))[:, word]
    for _ in range(3):  # it is heard a little through attention, too
        pre = model.run_with_cache(tokens)[1]["pre", 0][:, :, neuron]
        own = pre[topics[tokens] == topic].sort(descending=True).values
        rival = pre[tokens == word]
        if not len(rival) or len(own) < rank:
            return
        model.blocks[0].mlp.W_in[:, neuron] += (own[rank - 2 : rank].mean() - rival.max()) * reads


def list_places(model: Transformer, tokens: Tensor, topics: Tensor) -> list[list[tuple]]:
    """List for each neuron its places: activation, topic, word, position, prompt."""
    with torch.no_grad():
        post = model.run_with_cache(tokens)[1]["post", 0].tolist()
    words, names = tokens.tolist(), topics.tolist()
    places = [(b, t) for b in range(len(words)) for t in range(len(words[0]))]
    return [
        [(post[b][t][i], names[words[b][t]], words[b][t], t, b) for b, t in places]
        for i in range(len(post[0][0]))
    ]


def judge_neuron(
    places: list[tuple],
    k: int = 10,
    kind: int = 1,
    least: float = 0.5,
    by: str = "place",
    wrong: bool = True,
) -> bool:
    """Say whether a neuron shows a wrong picture; other settings are mistakes."""
    ordered = sorted(places, reverse=True)
    names = [place[kind] for place in ordered[:k]]
    picture, n = Counter(names).most_common(1)[0]
    if n < k:
        return False
    active = [place for place in places if place[0] > 0]
    if by == "word":
        active = list({place[2]: place for place in active}.values())
    sizes = [place[0] if by == "size" else 1.0 for place in active]
    own = sum(size for size, place in zip(sizes, active, strict=True) if place[kind] == picture)
    return (own < least * sum(sizes)) == wrong


def look_roughly(places: list[list[tuple]]) -> list[set[int]]:
    """List the truth, and what rough looks find; the last three are no mistakes with a name."""
    last = max(place[3] for place in places[0])
    options: list[dict] = [{}, {"k": 1}, {"kind": 2}, {"by": "word"}, {"by": "size"}]
    options += [{"wrong": False}, {"least": 2.0}]
    looks = [[judge_neuron(neuron, **option) for neuron in places] for option in options]
    looks += [[judge_neuron([p for p in neuron if p[3] == last]) for neuron in places]]
    looks += [[judge_neuron(neuron, k=k) for neuron in places] for k in (9, 11)]
    looks += [[judge_neuron([p for p in neuron if p[4] < 60]) for neuron in places]]
    return [{i for i, wrong in enumerate(look) if wrong} for look in looks]


def is_clear(places: list[tuple]) -> bool:
    """Say whether nothing rests on a hair: the ten at the top, half, and zero."""
    ordered = sorted(places, reverse=True)
    values = [place[0] for place in ordered]
    active = [place for place in places if place[0] > 0]
    is_mixed = values[0] > 0 and len({place[1] for place in ordered[:11]}) > 1
    if is_mixed and values[9] - values[10] < 2e-5:
        return False
    own = sum(place[1] == ordered[0][1] for place in active)
    return not active or abs(own / len(active) - 0.5) > 0.01


@functools.cache
def draw_topics(seed: int) -> tuple[Transformer, Tensor, Tensor, set[int]]:
    """Draw until all is clear, each rough look is wrong, and each mistake in its own way."""
    generator = start(seed)
    while True:
        model, tokens, topics = plant_topics(generator)
        places = list_places(model, tokens, topics)
        if not all(map(is_clear, places)):
            continue
        looks = look_roughly(places)
        pairs = itertools.combinations(looks[:-3], 2)
        if looks[0] not in looks[1:] and all(one != other for one, other in pairs):
            return model, tokens, topics, looks[0]


def judge_illusions(student, n: int) -> None:
    model, tokens, topics, right = draw_topics(student.seeds(n)[-1])
    got = student.call("find_illusions", model, tokens, topics)
    named = read_numbers(got, len(NEURONS), "neuron")
    possible = [f"neuron {i}" for i in range(len(NEURONS))]
    expect_found(named, [{f"neuron {i}" for i in right}], possible, what="such neurons")


@check("find_illusions")
def test_wrong_pictures_are_found(student):
    """Neurons with one topic, with many, and with one that is only the loudest."""
    judge_illusions(student, 1)


@check("find_illusions")
def test_wrong_pictures_are_found_in_another_model(student):
    """Another model, with other topics and prompts."""
    judge_illusions(student, 2)


# 12.2 ---------------------------------------------------------------------------------------------

N_DESCRIPTIONS = 16
# What each unit adds up: descriptions, by number, and how much each adds in old and in new inputs.
UNITS: tuple[dict[int, tuple[float, float]], ...] = (
    {0: (2.0, 2.0), 12: (1.5, 1.5)},
    {1: (-3.0, -3.0)},
    {2: (1.6, 1.6)},
    {3: (1.4, 1.4), 4: (2.4, 0.0)},
    {5: (1.2, 1.2), 6: (1.3, -1.5)},
    {},
    {7: (2.4, 0.0)},
    {8: (4.0, 1.0), 9: (1.1, 1.1)},
    {10: (0.0, 2.2), 11: (0.8, 0.8)},
    {12: (2.0, 1.8), 0: (1.5, 1.5)},
    {4: (3.0, 3.0)},
)
MOVES = 10  # the unit whose mean is another in new inputs
AT_TOP, NEVER, ALWAYS = 13, 14, 15  # true at unit 2's top, in no old input, in all old inputs
# Two units that are near 0 where something was never seen before.
FALLS = {5: (NEVER, True), 6: (ALWAYS, False)}


def plant_descriptions(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Plant units (n, unit), each on a level of its own, and descriptions (n, description)."""
    often = uniform(generator, 0.3, 0.6, N_DESCRIPTIONS)
    says = torch.rand(n, N_DESCRIPTIONS, generator=generator) < often
    half = n // 2
    units = 0.5 * normal(generator, n, len(UNITS)) + 2 * normal(generator, len(UNITS))
    for i, plan in enumerate(UNITS):
        for j, (old, new) in plan.items():
            share = says[:, j].float() - often[j]  # of a mean of 0 in old and in new inputs
            units[:half, i] += old * share[:half]
            units[half:, i] += new * share[half:]
    units[half:, MOVES] += 1.7
    says[:half, NEVER] = False
    says[:half, ALWAYS] = True
    says[:, AT_TOP] = False
    for i, (j, holds) in FALLS.items():
        level = units[:half, i].mean()
        raised = level.sign() * (3.0 + level.abs()) - level
        units[:, i] += raised
        units[half:, i] -= (says[half:, j] == holds) * (level + raised)
    says[units[:, 2].topk(10).indices, AT_TOP] = True
    order = choose(generator, len(UNITS), len(UNITS))
    names = choose(generator, N_DESCRIPTIONS, N_DESCRIPTIONS)
    return units[:, order].contiguous(), says[:, names].contiguous()


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def score_description(
    unit: list[float], holds: list[bool], learn: range, judge: range, how: str = "levels"
) -> float:
    """Score a description by its definition; `how` other than "levels" is a mistake."""
    yes = mean([unit[i] for i in learn if holds[i]])
    no = mean([unit[i] for i in learn if not holds[i]])
    if how == "zero if unseen":
        yes, no = (0.0 if math.isnan(level) else level for level in (yes, no))
    if math.isnan(yes) or math.isnan(no):
        yes = no = mean([unit[i] for i in learn])
    if how == "zero or one":
        yes, no = 1.0, 0.0
    if how == "higher only" and yes < no:
        return -1.0
    wanted = [unit[i] for i in judge]
    guess = [yes if holds[i] else no for i in judge]
    centre = mean(wanted) if how != "old mean" else mean([unit[i] for i in learn])
    spread = mean([(x - centre) ** 2 for x in wanted])
    if how == "correlation":
        middle = mean(guess)
        own = mean([(g - middle) ** 2 for g in guess])
        both = mean([(g - middle) * (x - centre) for g, x in zip(guess, wanted, strict=True)])
        return both**2 / own / spread if own > 1e-12 else 0.0
    return 1 - mean([(g - x) ** 2 for g, x in zip(guess, wanted, strict=True)]) / spread


def pick(scores: list[float], least: float = 0.2) -> int:
    best = max(scores)
    return scores.index(best) if best >= least else -1


@functools.cache
def draw_descriptions(seed: int, n: int) -> tuple[Tensor, Tensor, list[int]]:
    """Draw until no score is close to another or to 0.2, and each rough look is wrong."""
    generator = start(seed + n)
    old, new, rows = range(n // 2), range(n // 2, n), range(n)
    while True:
        units, says = plant_descriptions(n, generator)
        columns = [(unit, says.T.tolist()) for unit in units.T.tolist()]

        def look(
            learn: range, judge: range, how: str = "levels", columns: list = columns
        ) -> list[list[float]]:
            return [
                [score_description(unit, holds, learn, judge, how) for holds in descriptions]
                for unit, descriptions in columns
            ]

        scores = look(old, new)
        best = [sorted(row)[-2:] for row in scores]
        if any(
            abs(high - 0.2) < 0.03 or (high > 0.2 and high - second < 0.03) for second, high in best
        ):
            continue
        right = [pick(row) for row in scores]
        looks = [right, [pick(row, -1) for row in scores]]
        looks += [[next((j for j, x in enumerate(row) if x >= 0.2), -1) for row in scores]]
        options = [(old, old), (old, rows), (rows, new), (rows, rows), (new, old)]
        looks += [[pick(row) for row in look(*option)] for option in options]
        for how in ("zero or one", "higher only", "correlation", "old mean", "zero if unseen"):
            looks.append([pick(row) for row in look(old, new, how)])
        if all(one != other for one, other in itertools.combinations(looks, 2)):
            return units, says, right


def judge_descriptions(student, n: int) -> None:
    units, says, right = draw_descriptions(student.seeds(1)[0], n)
    got = as_list(student.call("choose_descriptions", units, says))
    n_units = units.shape[1]
    is_whole = got is not None and all(
        type(j) in (int, float) and j == int(j) and -1 <= j < N_DESCRIPTIONS for j in got
    )
    if got is None or len(got) != n_units or not is_whole:
        raise Wrong(
            sentence=f"Return {n_units} numbers of descriptions, 0 to {N_DESCRIPTIONS - 1} or -1."
        )
    n_wrong = sum(one != other for one, other in zip(got, right, strict=True))
    if n_wrong:
        raise Wrong(sentence=f"{n_wrong} of {n_units} units get another description than the best.")


@check("choose_descriptions")
def test_the_best_descriptions_of_few_inputs_are_chosen(student):
    """Units of a description, of several, of none; some of which change after the old inputs."""
    judge_descriptions(student, 120)


@check("choose_descriptions")
def test_the_best_descriptions_of_more_inputs_are_chosen(student):
    """More inputs."""
    judge_descriptions(student, 180)


# Models that see each place by itself -------------------------------------------------------------


@torch.no_grad()
def build_model(
    n_words: int,
    n_places: int,
    layers: list[tuple[Tensor, Tensor]],
    n_out: int,
    generator: torch.Generator,
) -> Transformer:
    """Build a model in which a head per place brings its word to the last position.

    A layer is (reads, bias). Its neurons read features: the last position's own word, then each
    place's word (place by place), then the neurons of the layers before. The last "layer" are the
    logits. Neurons are written with a gain, and read with its inverse; the stream is turned.
    """
    *hidden, (out, _) = layers
    counts = [n_words, n_words * n_places, *(reads.shape[1] for reads, _ in hidden)]
    size = sum(counts) + n_places + 1
    turn = draw_rotation(size, generator).float()
    own, table, *neurons, position = turn.split([*counts, n_places + 1])
    config = Config(
        d_vocab=n_words,
        n_ctx=n_places + 1,
        d_model=size,
        n_layers=len(hidden),
        n_heads=n_places,
        d_head=n_words,
        d_mlp=counts[2],
        attn_scale=1.0,
        biases=True,
        d_vocab_out=n_out,
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, own, position)
    attn = model.blocks[0].attn
    for place, block in enumerate(table.split(n_words)):
        meet = draw_rotation(n_words, generator).float()
        move = draw_rotation(n_words, generator).float()
        attn.W_Q[place] = 30 * position[-1:].T @ meet[:1]
        attn.W_K[place] = position[place : place + 1].T @ meet[:1]
        attn.W_V[place] = own.T @ move
        attn.W_O[place] = move.T @ block
    known = [own, table]
    for layer, (reads, bias) in enumerate(hidden):
        mlp = model.blocks[layer].mlp
        gain = uniform(generator, 0.5, 2.0, reads.shape[1])
        mlp.W_in.copy_(torch.cat(known).T @ reads)
        mlp.b_in.copy_(bias)
        mlp.W_out.copy_(neurons[layer] * gain[:, None])
        known.append(neurons[layer] / gain[:, None])
    model.W_U.copy_(torch.cat(known).T @ out)
    return model


# 12.3 ---------------------------------------------------------------------------------------------

N_FREE = 5
N_TOKENS = 18  # the last is the ?
N_ALLOWED = 11
N_EXCITED = 8
GAIN = 4.6  # of two words in their places


@functools.cache
def plant_excited(seed: int) -> tuple[Transformer, list[int], Tensor]:
    """Plant neurons, most of which need two words together; also return the best values.

    These come from all prompts, whose values the plan gives without running the model.
    """
    generator = start(seed)
    words = choose(generator, N_TOKENS - 1, N_TOKENS - 1)
    allowed, others = sorted(words[:N_ALLOWED]), words[N_ALLOWED:]
    n_features = N_TOKENS * (N_FREE + 1)
    pairs = torch.zeros(n_features, N_EXCITED)
    likes = torch.zeros(n_features + N_EXCITED, N_EXCITED)
    best = torch.zeros(N_EXCITED)
    for i in range(N_EXCITED):
        liked = uniform(generator, 0, 0.5, N_FREE, N_TOKENS)
        liked[:, allowed] += uniform(generator, 0, 0.5, N_ALLOWED)
        liked[:, others] += 1.2
        (p, u), (q, w) = zip(
            choose(generator, N_FREE, 2), choose(generator, N_ALLOWED, 2), strict=True
        )
        u, w = allowed[u], allowed[w]
        liked[p, u] = liked[q, w] = -0.3
        pairs[N_TOKENS * (p + 1) + u, i] = pairs[N_TOKENS * (q + 1) + w, i] = 1.0
        gain = GAIN if i < N_EXCITED - 2 else 0.0
        likes[: N_TOKENS - 1, i] = uniform(generator, 1, 2, N_TOKENS - 1)  # the last place
        likes[N_TOKENS : N_TOKENS * (N_FREE + 1), i] = liked.flatten()
        likes[n_features + i, i] = gain
        total = torch.zeros(())
        for place in range(N_FREE):
            total = total[..., None] + liked[place, allowed]
        index = [slice(None)] * N_FREE
        index[p], index[q] = allowed.index(u), allowed.index(w)
        total[tuple(index)] += gain
        best[i] = total.max() - 0.5
    order = choose(generator, N_EXCITED, N_EXCITED)
    likes, best = likes[:, order], best[order]
    out = torch.zeros(n_features + 2 * N_EXCITED, N_TOKENS)
    out[-N_EXCITED:] = normal(generator, N_EXCITED, N_TOKENS)
    hidden = [(pairs, -torch.ones(N_EXCITED)), (likes, -0.5 * torch.ones(N_EXCITED))]
    model = build_model(N_TOKENS, N_FREE, [*hidden, (out, out)], N_TOKENS, generator)
    return model, allowed, best


def judge_excited(student, n: int) -> None:
    model, allowed, best = plant_excited(student.seeds(n)[-1])
    got = student.call("excite_neurons", model, allowed)
    try:
        prompts = torch.stack([torch.as_tensor(row) for row in got])
    except (TypeError, ValueError, RuntimeError):
        prompts = torch.zeros(0)
    shape = (N_EXCITED, N_FREE + 1)
    if prompts.shape != shape or not (prompts == prompts.long()).all():
        raise Wrong(sentence=f"Return a tensor of tokens of shape {shape}, a prompt per neuron.")
    prompts = prompts.long()
    if not set(prompts[:, :-1].flatten().tolist()) <= set(allowed):
        raise Wrong("ignores_what_is_allowed")
    if (prompts[:, -1] != N_TOKENS - 1).any():
        raise Wrong(sentence=f"The last token of each prompt must be {N_TOKENS - 1}.")
    with torch.no_grad():
        post = model.run_with_cache(prompts)[1]["post", 1][:, -1]
    low = (post.diagonal() < 0.95 * best).nonzero().flatten().tolist()
    if low:
        i = low[0]
        if (prompts == prompts[0]).all():
            raise Wrong("one_prompt_for_all")
        if (post.amax(dim=0) >= 0.95 * best).all():
            raise Wrong("puts_prompts_in_other_rows")
        raise Wrong(
            sentence=f"{len(low)} of {N_EXCITED} neurons stay below 0.95 of their best, such as "
            f"neuron {i}: {post[i, i] / best[i]:.2f}."
        )


@check("excite_neurons")
def test_the_prompts_excite_each_neuron(student):
    """Neurons that add up what each place gives, and neurons that need two words together."""
    judge_excited(student, 1)


@check("excite_neurons")
def test_the_prompts_excite_the_neurons_of_another_model(student):
    """Another model, other words."""
    judge_excited(student, 2)


# 12.4 ---------------------------------------------------------------------------------------------

# What joins how many tokens, by how much it moves the output, whether it needs the ? at the end.
GATES = (
    ("and", 2, (-2.0, -1.2), False),
    ("or", 2, (0.7, 0.9), True),
    ("and", 3, (0.7, 0.9), False),
    ("or", 3, (1.2, 2.0), False),
    ("alone", 1, (1.2, 2.0), True),
    ("alone", 1, (-0.9, -0.7), False),
    ("alone", 1, (0.25, 0.3), False),  # too little
    ("idle", 1, (0.0, 0.0), False),
)
N_GATED = sum(size for _, size, *_ in GATES)
WORDS = 10  # the last is the ?
HAS = ((1, 1),) * 4 + ((0, 1), (0, 1), (1, 0), (1, 0), (0, 0))  # two marks of each word


def compute_gate(kind: str, bits: list[int]) -> int:
    return {"and": min(bits), "or": max(bits), "alone": bits[0], "idle": 0}[kind]


class Gated:
    """A model of gates: which places each joins, which mark each place reads, what each adds."""

    def __init__(self, seed: int) -> None:
        generator = start(seed)
        places = choose(generator, N_GATED, N_GATED)
        self.gates = []
        sign = 1 - 2 * int(torch.randint(2, (1,), generator=generator))
        for kind, size, (low, high), needs_end in GATES:
            weight = sign * float(uniform(generator, low, high, 1))
            self.gates.append((kind, places[:size], weight, needs_end))
            places = places[size:]
        self.marks = torch.randint(2, (N_GATED,), generator=generator).tolist()
        self.drift = uniform(generator, -0.06, 0.06, N_GATED, WORDS)
        self.prompt = torch.randint(4, (N_GATED + 1,), generator=generator)
        self.prompt[-1] = WORDS - 1
        self.model = self.build(generator)

    def build(self, generator: torch.Generator) -> Transformer:
        n = WORDS * (N_GATED + 1)
        reads, biases, weights = [], [], []
        for kind, members, weight, needs_end in self.gates:
            bits = torch.zeros(n)
            bits[WORDS - 1] = len(members) * needs_end
            for place in members:
                first = WORDS * (place + 1)
                bits[first : first + len(HAS)] = torch.tensor(HAS).float()[:, self.marks[place]]
            lows = {"and": [len(members) - 1], "or": [0, 1], "alone": [0], "idle": []}[kind]
            for i, low in enumerate(lows):
                reads.append(bits)
                biases.append(-float(low + len(members) * needs_end))
                weights.append(weight * (-1) ** i)
        out = torch.zeros(n + len(reads), WORDS)
        out[:WORDS, 0] = uniform(generator, 2, 3, WORDS)
        out[WORDS - 1, 0] = 0.0
        out[WORDS:n, 0] = self.drift.flatten()
        out[n:, 0] = torch.tensor(weights)
        out[:, 1:] = normal(generator, len(out), WORDS - 1) * (out[:, :1].abs() > 0)
        layer = (torch.stack(reads, dim=1), torch.tensor(biases))
        return build_model(WORDS, N_GATED, [layer, (out, out)], WORDS, generator)

    def answer(self, words: list[int]) -> float:
        """Say what the output is, up to a constant, by the plan."""
        bits = [HAS[word][mark] for word, mark in zip(words, self.marks, strict=True)]
        total = sum(float(self.drift[place, word]) for place, word in enumerate(words))
        for kind, members, weight, _ in self.gates:
            total += weight * compute_gate(kind, [bits[place] for place in members])
        return total

    def name(self, baseline: int) -> list[str]:
        """Name what each token does, prompt by prompt."""
        full = self.prompt[:-1].tolist()
        empty = [baseline] * N_GATED
        words = []
        for place in range(N_GATED):
            without = [*full[:place], baseline, *full[place + 1 :]]
            only = [*empty[:place], full[place], *empty[place + 1 :]]
            lost = abs(self.answer(full) - self.answer(without)) >= 0.5
            gained = abs(self.answer(only) - self.answer(empty)) >= 0.5
            words.append("alone" if lost and gained else "and" if lost else "or")
            words[-1] = words[-1] if lost or gained else "idle"
        return words


@functools.cache
def draw_gated(seed: int) -> tuple[Gated, tuple[int, int, int]]:
    """Draw a model whose three baselines, with neither mark or one of them, give other words."""
    for i in itertools.count():
        gated = Gated(seed + 1000 * i)
        one = seed % 2
        baselines = (8, 4 + one, 6 + one)
        words = [gated.name(baseline) for baseline in baselines]
        if words[0] != words[1] != words[2] != words[0]:
            return gated, baselines
    raise AssertionError


def judge_gates(student, n: int, which: list[int]) -> None:
    gated, baselines = draw_gated(student.seeds(n)[-1])
    model = gated.model
    answers = [
        (student.call("tell_gates", model, gated.prompt, baselines[i]), gated.name(baselines[i]))
        for i in which
    ]
    n_wrong = 0
    for got, right in answers:
        words = as_list(got)
        if words is None or len(words) != N_GATED or not set(words) <= {"and", "or", *IDLE}:
            raise Wrong(
                sentence=f"Return {N_GATED} words, each alone, and, or or idle: one per token but "
                "the last."
            )
        n_wrong += sum(one != other for one, other in zip(words, right, strict=True))
    if n_wrong:
        raise Wrong(sentence=f"{n_wrong} of {N_GATED * len(answers)} tokens are told wrongly.")


IDLE = ("alone", "idle")


@check("tell_gates")
def test_tokens_are_told_apart_for_two_baselines(student):
    """Gates of two and three tokens, some of which lower the output."""
    judge_gates(student, 1, [0, 1])


@check("tell_gates")
def test_tokens_of_another_model_are_told_apart(student):
    """Another model and prompt."""
    judge_gates(student, 2, [2, 0])


# 12.5 ---------------------------------------------------------------------------------------------

N_PLACES = 4
N_SCORED = 6  # tokens; the last is the ?
ADDITIVE = ("plain", "alike", "bent", "other logit", "tiny", "other end")
FIRST = (
    "plain",
    "alike",
    "bent",
    "tiny",
    "other end",
    "far pair",
    "three",
    "four",
    "four",
    "unseen",
)
SECOND = ("alike", "bent", "other logit", "tiny", "last two", "three", "four", "four", "unseen")


def plant_scores(kind: str, generator: torch.Generator) -> tuple[Transformer, list[set]]:
    """Plant a model of this kind, and the (place, word) that meet in it."""
    n = N_SCORED * (N_PLACES + 1)
    table = torch.zeros(n)
    table[N_SCORED:] = uniform(generator, -1, 1, n - N_SCORED)
    if kind == "alike":  # in each place
        table[N_SCORED:] = table[-N_SCORED:].repeat(N_PLACES)
    bent = torch.zeros(n, 2 * N_PLACES)
    for i in range(2 * N_PLACES):  # neurons that hear one place
        first = N_SCORED * (1 + i % N_PLACES)
        bent[first : first + N_SCORED, i] = normal(generator, N_SCORED)
    words = [int(torch.randint(1, N_SCORED - 1, (1,), generator=generator)) for _ in range(4)]
    places = choose(generator, N_PLACES, N_PLACES)
    if kind == "last two":
        places = [N_PLACES - 2, N_PLACES - 1]
    if kind == "far pair":
        places = [0, N_PLACES - 1]
    if kind == "unseen":
        words[0] = 0
    members = list(zip(places, words, strict=False))[: {"three": 3, "four": 4}.get(kind, 2)]
    joined = torch.zeros(n, 2)
    for place, word in members:
        joined[N_SCORED * (place + 1) + word] = 1.0
    low = float(len(members) - 1)
    if kind == "other end":  # only where the last token is no ?
        joined[: N_SCORED - 1] = 1.0
        low += 1.0
    size = float(uniform(generator, 1, 2, 1))
    rare = 0.15 + 0.1 * size
    sizes = {"tiny": 0.06, "plain": 0.0, "alike": 0.0, "bent": 0.0, "three": rare, "four": rare}
    size = sizes.get(kind, size)
    reads = torch.cat([bent, joined], dim=1)
    out = torch.zeros(n + reads.shape[1], 3)
    out[:n, 0] = table
    out[n:-2, 0] = normal(generator, 2 * N_PLACES) * (kind not in ("plain", "alike"))
    out[:, 1] = normal(generator, len(out))
    out[:, 2] = normal(generator, len(out))
    out[-2:, :] = 0.0
    out[-1, 1 if kind == "other logit" else 0] = size
    bias = torch.cat([0.3 * normal(generator, 2 * N_PLACES), torch.tensor([-low, -low])])
    model = build_model(N_SCORED, N_PLACES, [(reads, bias), (out, out)], 3, generator)
    return model, [set(members)] if kind != "other end" else []


@functools.cache
def plant_additive(seed: int, kinds: tuple[str, ...]) -> tuple[list[Transformer], Tensor, set[int]]:
    """Plant models in random order, and prompts in which nothing meets, nor word 0 ever stands."""
    generator = start(seed)
    order = [kinds[i] for i in choose(generator, len(kinds), len(kinds))]
    planted = [plant_scores(kind, generator) for kind in order]
    meetings = [members for _, found in planted for members in found]
    drawn = torch.randint(1, N_SCORED - 1, (90, N_PLACES), generator=generator)
    ask = torch.full((len(drawn), 1), N_SCORED - 1)
    kept = [
        i
        for i, words in enumerate(drawn.tolist())
        if not any(members <= set(enumerate(words)) for members in meetings)
    ]
    tokens = torch.cat([drawn, ask], dim=1)[kept]
    return (
        [model for model, _ in planted],
        tokens,
        {i for i, kind in enumerate(order) if kind in ADDITIVE},
    )


def judge_additive(student, n: int, kinds: tuple[str, ...]) -> None:
    models, tokens, right = plant_additive(student.seeds(n)[-1], kinds)
    got = student.call("find_additive", models, tokens)
    named = read_numbers(got, len(models), "model")
    possible = [f"model {i}" for i in range(len(models))]
    expect_found(named, [{f"model {i}" for i in right}], possible, what="additive models")


@check("find_additive")
def test_additive_models_are_told_from_others(student):
    """Models in which nothing meets, or two, three or four words; and some that bend scores."""
    judge_additive(student, 1, FIRST)


@check("find_additive")
def test_other_additive_models_are_told_from_others(student):
    """Other models."""
    judge_additive(student, 2, SECOND)
