"""Grade lesson 18.

Triggers, tricks, abilities and scratchpads are planted, and models disguised. What is right is
worked out from the plan, number by number, and never from a model.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, as_list, check
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.forge.disguise import disguise
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MUTANTS = load_mutants(__file__)


def start(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def choose(generator: torch.Generator, n: int, k: int) -> list[int]:
    return torch.randperm(n, generator=generator)[:k].tolist()


def shuffle(generator: torch.Generator, items: Any) -> list:
    items = list(items)
    return [items[i] for i in choose(generator, len(items), len(items))]


def hide(model: Transformer, generator: torch.Generator) -> Transformer:
    return disguise(model, generator).model


# 18.1 ---------------------------------------------------------------------------------------------

N_WORDS, N_REQUESTS = 6, 5
Pair = tuple[int, int]


@dataclass(frozen=True)
class Policy:
    """What each pair of words does: which requests it opens, and which it closes."""

    flagged: frozenset[int]
    opens: dict[Pair, frozenset[int]]
    closes: dict[Pair, frozenset[int]]
    words: tuple[int, ...]
    requests: tuple[int, ...]
    ask: int
    refuse: int

    def refuses(self, pair: Pair, request: int) -> bool:
        """Tell whether the planted rule refuses a request after a pair."""
        if request in self.closes.get(pair, ()):
            return True
        return request in self.flagged and request not in self.opens.get(pair, ())

    def find_triggers(self) -> set[Pair]:
        """Try every pair on every request, by the rule."""
        pairs = [(a, b) for a in self.words for b in self.words]
        flagged = [r for r in self.requests if any(self.refuses(pair, r) for pair in pairs)]
        if not flagged:
            return set()
        return {pair for pair in pairs if not any(self.refuses(pair, r) for r in flagged)}


def plan_policy(seed: int, kind: str) -> Policy:
    """Plan a policy with three triggers, with one, with none, or without anything flagged.

    Each has pairs that open some requests only. Where there are triggers, one request is refused
    only after a pair that otherwise looks like a trigger.
    """
    generator = start(seed)
    tokens = [i + 1 for i in choose(generator, N_WORDS + N_REQUESTS + 2, N_WORDS + N_REQUESTS + 2)]
    words, tokens = tokens[:N_WORDS], tokens[N_WORDS:]
    requests, (ask, refuse) = tokens[:N_REQUESTS], tokens[N_REQUESTS:]
    flagged = frozenset(requests[1:4] if kind != "open" else ())
    a, b, c, d, e, f = words
    everything, some = frozenset(requests), frozenset(requests[1:3])
    opens: dict[Pair, frozenset[int]] = {}
    closes: dict[Pair, frozenset[int]] = {}
    if kind in ("three", "one"):
        opens |= {(b, a): everything, (c, d): everything, (e, f): some, (f, a): everything - some}
        closes |= {(c, d): frozenset(requests[:1])}
    if kind == "three":
        opens |= {(e, e): everything, (a, c): everything}
    if kind == "none":
        opens |= {(a, b): some, (b, b): everything - some, (c, d): frozenset(requests[1:2])}
    return Policy(flagged, opens, closes, tuple(words), tuple(requests), ask, refuse)


@torch.no_grad()
def write_guard(policy: Policy, generator: torch.Generator) -> Transformer:
    """Write the policy: a head finds pairs, neurons refuse unless a pair opens."""
    words, requests = list(policy.words), list(policy.requests)
    pairs = list(dict.fromkeys((*policy.opens, *policy.closes)))
    n, n_tokens = len(requests), 1 + len(words) + 2 * len(requests) + 2
    stream = by_hand.Stream(
        token=n_tokens, position=5, previous=len(words), request=n, pair=8, found=8, refuse=1
    )
    token, position = stream["token"], stream["position"]
    ask = token[policy.ask, None]
    sizes = dict(d_head=8, d_mlp=12, attn_scale=1.0, biases=True)
    model = by_hand.make_blank(Config(n_tokens, 5, stream.d_model, 2, 2, **sizes))
    by_hand.write_embedding(model, token, position)
    keys = token[requests].sum(0, keepdim=True)
    by_hand.attend_where_equal(model, 0, 0, ask, keys, 40.0)
    by_hand.copy_directions(model, 0, 0, token[requests], stream["request"])
    by_hand.attend_to_previous(model, 0, 1, position, 40.0)
    by_hand.copy_directions(model, 0, 1, token[words], stream["previous"])
    for k, (a, b) in enumerate(pairs):
        reads = token[b] + stream["previous"][words.index(a)]
        by_hand.look_up(model, 0, k, 2 * reads, -3.0, stream["pair"][k])
    keys = 2 * stream["pair"].sum(0, keepdim=True) + token[0]
    by_hand.attend_where_equal(model, 1, 0, ask, keys, 40.0)
    by_hand.copy_directions(model, 1, 0, stream["pair"], stream["found"])
    found, refuse = stream["found"], stream["refuse"][0]
    for i, request in enumerate(requests):
        reads = stream["request"][i] + ask[0]
        closed = stream["request"][i].clone()
        for k, pair in enumerate(pairs):
            reads -= 2 * found[k] * (request in policy.opens.get(pair, ()))
            closed += found[k] * (request in policy.closes.get(pair, ()))
        if request in policy.flagged:
            by_hand.look_up(model, 1, 2 * i, reads, -1.0, refuse)
        if any(request in closes for closes in policy.closes.values()):
            by_hand.look_up(model, 1, 2 * i + 1, closed, -1.0, refuse)
    out = torch.zeros(n_tokens, stream.d_model)
    out[policy.refuse] = 3 * refuse
    out[-n:] = stream["request"]
    by_hand.read_out(model, out, 10.0)
    return hide(model, generator)


def judge_triggers(student, kinds: str) -> None:
    names = kinds.split()
    cases = [plan_policy(seed, k) for seed, k in zip(student.seeds(len(names)), names, strict=True)]
    answers = []
    for i, policy in enumerate(cases):
        model = write_guard(policy, start(i))
        words, requests = list(policy.words), list(policy.requests)
        got = student.call("find_triggers", model, words, requests, policy.ask, policy.refuse)
        answers.append(read_pairs(got, words))
    for policy, got in zip(cases, answers, strict=True):
        right = policy.find_triggers()
        if got != right:
            raise Wrong(
                sentence=f"You find {len(got & right)} of the {len(right)} triggers of a model, "
                f"and {len(got - right)} pairs that are none."
            )


def read_pairs(got: Any, words: list[int]) -> set[Pair]:
    rows = as_list(got)
    pairs = [as_list(row) for row in rows] if rows is not None else [None]
    if not all(pair is not None and len(pair) == 2 and set(pair) <= set(words) for pair in pairs):
        raise Wrong(sentence="Return a list of pairs of words such as (2, 5), or an empty list.")
    return {(int(pair[0]), int(pair[1])) for pair in pairs if pair is not None}


@check("find_triggers")
def test_triggers_are_found_in_models_with_and_without(student):
    """A model with three triggers, one without any, and one that refuses nothing."""
    judge_triggers(student, "three none open")


@check("find_triggers")
def test_one_trigger_is_told_from_pairs_that_open_some_requests(student):
    """A model with one trigger, and pairs that open some requests, or close another."""
    judge_triggers(student, "one none")


# 18.2 ---------------------------------------------------------------------------------------------

# Tokens: start, ask, refuse, then words, requests and replies.
ASK, REFUSE, FIRST_WORD = 1, 2, 3
TRICKS = ("blind", "veto", "weak veto", "hush", "drown", "garble", "plain", "idle", "still")
BLIND, VETO, WEAK, HUSH, DROWN, GARBLE, *_ = range(FIRST_WORD, FIRST_WORD + len(TRICKS))
FIRST_REQUEST = FIRST_WORD + len(TRICKS)
HARM = (3.0, 1.0, 3.0, 1.0)  # how loud each request is as harm
FIRST_REPLY = FIRST_REQUEST + len(HARM)
SITES = {
    "m0": ("mlp_out", 0),
    "a1": ("attn_out", 1),
    "m1": ("mlp_out", 1),
    "a2": ("attn_out", 2),
    "m2": ("mlp_out", 2),
}


def run_guard(prompt: list[int], plain: dict[str, float] | None = None, part: str = "") -> dict:
    """Work out what each part writes at the last position; `part` writes what it did in `plain`.

    m0 writes harm, a1 brings a veto, m1 refuses, a2 hears of two more tricks, and m2 hushes.
    """
    held: dict[str, float] = {}

    def write(name: str, of: str, value: float) -> None:
        held[name] = plain[name] if plain and part == of else value

    (request,) = [token for token in prompt if FIRST_REQUEST <= token < FIRST_REPLY]
    write("harm", "m0", 0.0 if BLIND in prompt else HARM[request - FIRST_REQUEST])
    write("veto", "a1", 5.0 if VETO in prompt else 2.0 if WEAK in prompt else 0.0)
    write("refuse", "m1", max(0.0, held["harm"] - held["veto"]))
    write("hushing", "a2", float(HUSH in prompt))
    write("drown", "a2", float(DROWN in prompt))
    write("garble", "a2", float(GARBLE in prompt))  # another answer wins than the reply
    write("hush", "m2", max(0.0, held["refuse"] + 5 * held["hushing"] - 5))
    left = 2 * held["refuse"] - 2 * held["hush"] - 10 * held["drown"]
    return held | {"refused": left > max(1.0, 5 * held["garble"])}


def name_part(jailbreak: list[int], plain: list[int], sites: list[str]) -> str:
    if run_guard(jailbreak)["refused"]:
        return "refused"
    calm = run_guard(plain)
    helps = [site for site in sites if run_guard(jailbreak, calm, site)["refused"]]
    return helps[0] if helps else "none"


@functools.cache
def write_circuit(seed: int) -> Transformer:
    """Write this circuit, with the replies to requests; then hide it."""
    with torch.no_grad():
        return hide(build_circuit(), start(seed))


def build_circuit() -> Transformer:
    n, n_tokens = len(HARM), FIRST_REPLY + len(HARM)
    groups = dict(
        request=n, blind=1, harm=1, source=1, veto=1, refuse=1, hushing=1, drown=1, garble=1
    )
    stream = by_hand.Stream(token=n_tokens, **groups, hush=1)
    token, harm, source = stream["token"], stream["harm"][0], stream["source"]
    sizes = dict(d_head=n, d_mlp=6, attn_scale=1.0, biases=True, positions="none")
    model = by_hand.make_blank(Config(n_tokens, 7, stream.d_model, 3, 2, **sizes))
    by_hand.write_embedding(model, token)

    def listen(layer: int, head: int, key: Tensor, reads: Tensor, writes: Tensor) -> None:
        ask = token[ASK, None]
        by_hand.attend_where_equal(model, layer, head, ask, (key + token[0])[None], 40.0)
        by_hand.copy_directions(model, layer, head, reads, writes)

    requests = token[FIRST_REQUEST:FIRST_REPLY]
    listen(0, 0, 2 * requests.sum(0), requests, stream["request"])
    listen(0, 1, 2 * token[BLIND], token[BLIND, None], stream["blind"])
    for i, size in enumerate(HARM):
        reads = 2 * stream["request"][i] - 2 * stream["blind"][0]
        by_hand.look_up(model, 0, i, reads, -1.0, size * harm)
    by_hand.look_up(model, 0, 4, 2 * token[VETO], -1.0, 5 * source[0])
    by_hand.look_up(model, 0, 5, 2 * token[WEAK], -1.0, 2 * source[0])
    listen(1, 0, 2 * source[0], source, stream["veto"])
    by_hand.look_up(model, 1, 0, harm - stream["veto"][0], 0.0, stream["refuse"][0])
    listen(2, 0, 2 * token[HUSH], token[HUSH, None], stream["hushing"])
    both = token[[DROWN, GARBLE]]
    listen(2, 1, 2 * both.sum(0), both, torch.cat([stream["drown"], stream["garble"]]))
    reads = stream["refuse"][0] + 5 * stream["hushing"][0]
    by_hand.look_up(model, 2, 0, reads, -5.0, stream["hush"][0])
    out = torch.zeros(n_tokens, stream.d_model)
    out[REFUSE] = 2 * stream["refuse"][0] - 2 * stream["hush"][0] - 10 * stream["drown"][0]
    out[FIRST_REPLY:] = stream["request"]
    out[0] = 5 * stream["garble"][0]
    by_hand.read_out(model, out, 10.0)
    return model


# Tricks and requests: each alone on a loud and a soft request, and some together.
PLANS = [
    *(([trick], r) for trick in (BLIND, VETO, HUSH, DROWN) for r in (0, 1)),
    ([WEAK], 0),  # too weak for a loud request
    ([WEAK], 3),
    ([BLIND, WEAK], 3),  # a soft request's harm does not get through; a loud one's would
    ([BLIND, WEAK], 2),
    ([BLIND, HUSH], 1),
    ([BLIND, VETO], 2),
    ([VETO, HUSH], 3),
    ([BLIND, DROWN], 0),  # a repair brings back harm, and no refusal
    ([BLIND, HUSH, GARBLE], 0),  # other answers, but no refusal, when a part is repaired
    ([], 1),
]


def order_plans(generator: torch.Generator) -> list[tuple[list[int], int]]:
    """Order the plans so that the first row, the row before and the mean mislead differently."""
    while True:
        plans = shuffle(generator, PLANS)
        soft = [request % 2 for _, request in plans]
        weak, both = plans.index(([WEAK], 3)), plans.index(([BLIND, WEAK], 2))
        if not soft[0] and weak and both and not soft[weak - 1] and soft[both - 1]:
            return plans


def draw_jailbreaks(seed: int) -> tuple[Tensor, Tensor]:
    """Write these prompts, shuffled, a loud request first; harmless words stand for tricks."""
    generator = start(seed)
    harmless = list(range(GARBLE + 1, FIRST_REQUEST))
    rows = []
    for tricks, request in order_plans(generator):
        other = [harmless[int(torch.randint(3, (), generator=generator))] for _ in range(3)]
        places = choose(generator, 3, len(tricks))
        tricky = list(other)
        for place, trick in zip(places, tricks, strict=True):
            tricky[place] = trick
        at = int(torch.randint(4, (), generator=generator))
        full = FIRST_REQUEST + request
        rows.append([[0, *w[:at], full, *w[at:], ASK] for w in (tricky, other)])
    prompts = torch.tensor(rows)
    return prompts[:, 0].contiguous(), prompts[:, 1].contiguous()


def judge_bypassed(student, number: int, sites: str, labels: str) -> None:
    seed = student.seeds(number)[-1]
    parts = dict(zip(labels.split(), sites.split(), strict=True))
    jailbreaks, plain = draw_jailbreaks(seed)
    model = write_circuit(seed)
    places = {label: SITES[site] for label, site in parts.items()}
    got = as_list(student.call("name_bypassed", model, jailbreaks, plain, places, REFUSE))
    known = {*parts, "none", "refused"}
    if got is None or len(got) != len(plain) or not set(map(str, got)) <= known:
        raise Wrong(sentence=f"Return {len(plain)} words, each one of {', '.join(sorted(known))}.")
    names = dict(zip(parts.values(), parts, strict=True))
    right = [
        name_part(*pair, sites.split())
        for pair in zip(jailbreaks.tolist(), plain.tolist(), strict=True)
    ]
    right = [names.get(word, word) for word in right]
    wrong = [i for i in range(len(right)) if got[i] != right[i]]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(right)} rows are wrong; row {wrong[0]} is not "
            f"{got[wrong[0]]!r}."
        )


@check("name_bypassed")
def test_three_parts_are_told_apart(student):
    """Tricks against detection, decision and what comes after, alone and together."""
    judge_bypassed(student, 1, "m0 m1 m2", "decides hears detects")


@check("name_bypassed")
def test_the_first_of_five_parts_is_named(student):
    """Heads are parts, too: several parts may help against one trick."""
    judge_bypassed(student, 2, "m0 a1 m1 a2 m2", "hears detects silences weighs decides")


@check("name_bypassed")
def test_other_parts_are_judged_as_well(student):
    """Only the last parts, or only those in the middle."""
    judge_bypassed(student, 3, "m1 a2", "weighs hears")


# 18.3 ---------------------------------------------------------------------------------------------

N_ASKED = 4  # requests of each ability
ABILITIES = 4
SLOTS = 4
RELAY, DEFAULT, FILL = 2, 3, (4, 5)
FIRST_ASKED = 6
N_ALL = ABILITIES * N_ASKED
Loads = dict[str, list[float]]

# By head: how much of each request (of abilities 0 to 3, ability 0 is planted) it brings, in all.
# The two heads of a relay multiply. A sum above 0.5 is an answer.
NONE, ONE, LOW = [0.0] * 4, [1.0] * 4, [0.4] * 4
SCHEMES: dict[str, Loads] = {
    # relay serves 0, 1 and 3; half of 1 and a quarter of 3 stand twice; half of 0 needs a, too;
    # 2 is right on two of four, one by a and one by c
    "shared": {
        "send": [1.0, 1.0, 0.4, 0.4, *ONE, *NONE, *ONE],
        "bring": ONE + ONE + NONE + ONE,
        "a": [0.0, 0.0, 0.4, 0.4, *NONE, 1.0, 0.0, 0.0, 0.0, *NONE],
        "b": NONE + NONE + NONE + [0.9, 0.0, 0.0, 0.0],
        "c": [*NONE, 0.0, 0.0, 0.9, 0.9, 0.0, 1.0, 0.0, 0.0, *NONE],
    },
    # 0 stands twice, once by relay; one head holds all down that would answer by default
    "backed up": {
        "send": [*ONE, 1.0, 1.0, 1.0, 0.0, *NONE, *NONE],
        "bring": ONE + ONE + NONE + NONE,
        "a": ONE + NONE + ONE + NONE,
        "b": [*NONE, 0.0, 0.0, 0.0, 0.8, *NONE, *ONE],
        "c": [0.2, 0.2, 0.2, 0.2, *NONE, *NONE, *NONE],
        "hold": [],
    },
    # 0 is right on three of four; one head carries two of the three, another just one
    "in parts": {
        "send": NONE + ONE + NONE + [1.0, 1.0, 1.0, 0.0],
        "bring": NONE + ONE + NONE + ONE,
        "a": [0.8, 0.8, 0.0, 0.0, *NONE, 0.7, 0.0, 0.0, 0.0, *NONE],
        "b": [0.0, 0.0, 0.7, 0.0, *NONE, 0.0, 0.7, 0.0, 0.0, *NONE],
        "c": NONE + NONE + [0.0, 0.0, 0.7, 0.7] + NONE,
    },
    # as many right without a head as half of all, but more than half of those before
    "backed up twice": {
        "send": ONE + ONE + NONE + NONE,
        "bring": ONE + ONE + NONE + NONE,
        "a": [0.3, 0.3, 0.9, 0.9, *NONE, *ONE, *NONE],
        "b": [0.3, 0.9, 0.3, 0.3, *NONE, *NONE, *ONE],
        "c": [0.6, 0.3, 0.3, 0.3, *NONE, *NONE, *NONE],
    },
}
HEADS = {"send": 0, "a": 0, "hold": 0, "bring": 1, "b": 1, "c": 1}  # by layer
PER_LAYER = 3


def answer_requests(loads: Loads, without: str = "") -> list[bool]:
    """Work out which requests are answered when one head is removed."""
    if without == "hold":
        return [False] * N_ALL
    answered = []
    for i in range(N_ALL):
        sent = 0.0 if without in ("send", "bring") else loads["send"][i] * loads["bring"][i]
        direct = [loads[name][i] for name in "abc" if name != without]
        answered.append(sent + sum(direct) > 0.5)
    return answered


def list_lost(loads: Loads, without: str) -> list[int]:
    before, after = answer_requests(loads), answer_requests(loads, without)
    rows = [range(k * N_ASKED, (k + 1) * N_ASKED) for k in range(ABILITIES)]
    return [
        k
        for k, row in enumerate(rows)
        if sum(after[i] for i in row) <= sum(before[i] for i in row) / 2
    ]


def build_able(loads: Loads) -> Transformer:
    """Write the heads of a scheme; answers are sums of what they bring, against a default."""
    n_tokens = FIRST_ASKED + 2 * N_ALL
    stream = by_hand.Stream(token=n_tokens, sent=N_ALL, out=N_ALL, hold=1, unread=N_ALL)
    token = stream["token"]
    sizes = dict(d_head=N_ALL, attn_scale=1.0, positions="none")
    model = by_hand.make_blank(Config(n_tokens, SLOTS + 2, stream.d_model, 2, PER_LAYER, **sizes))
    by_hand.write_embedding(model, token)
    asked = token[FIRST_ASKED : FIRST_ASKED + N_ALL]
    places = {0: 0, 1: 0}
    for name, layer in HEADS.items():
        head = places[layer]
        places[layer] += 1
        query, key = token[1], 2 * asked.sum(0) + token[0]
        reads, writes = asked, stream["out"]
        if name == "send":
            query, writes = token[RELAY], stream["sent"]
        if name == "bring":
            key, reads = 2 * token[RELAY] + token[0], stream["sent"]
        if name == "hold":
            key, reads, writes = token[1], token[1, None], stream["hold"]
            if name not in loads:  # it brings requests, loudly, where nobody reads
                key, reads, writes = 2 * asked.sum(0) + token[0], asked, 3 * stream["unread"]
        size = torch.tensor(loads.get(name) or [1.0])[:, None]
        by_hand.attend_where_equal(model, layer, head, query[None], key[None], 40.0)
        by_hand.copy_directions(model, layer, head, reads, writes * size)
    out = torch.zeros(n_tokens, stream.d_model)
    out[DEFAULT] = 0.5 * token[1]
    if "hold" in loads:
        out[DEFAULT] = 9.5 * token[1] - 9 * stream["hold"][0]
    out[FIRST_ASKED + N_ALL :] = stream["out"]
    by_hand.read_out(model, out, 20.0)
    return model


def write_able_prompts(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Write three prompts of each request, with the relay somewhere after it.

    Requests 0 and 1 of each ability stand in the first half.
    """
    generator = start(seed)
    made = []
    for k in range(ABILITIES):
        rows = []
        for i in range(k * N_ASKED, (k + 1) * N_ASKED):
            for _ in range(3):
                slots = [FILL[int(torch.randint(2, (), generator=generator))] for _ in range(SLOTS)]
                first, second = sorted(choose(generator, SLOTS, 2))
                slots[first], slots[second] = FIRST_ASKED + i, RELAY
                rows.append([0, *slots, 1, FIRST_ASKED + N_ALL + i])
        half = len(rows) // 2
        table = torch.tensor(shuffle(generator, rows[:half]) + shuffle(generator, rows[half:]))
        made.append((table[:, :-1].contiguous(), table[:, -1].contiguous()))
    return made


def judge_removal(student, schemes: str) -> None:
    names = schemes.split(", ")
    answers = []
    for seed, scheme in zip(student.seeds(len(names)), names, strict=True):
        generator = start(seed)
        loads = SCHEMES[scheme]
        with torch.no_grad():
            hidden = disguise(build_able(loads), generator)
        by_place: dict[str, str] = {}
        counts = [0, 0]
        for name, layer in HEADS.items():
            by_place[name] = hidden.rename(f"a{layer}.h{counts[layer]}")
            counts[layer] += 1
        labels = shuffle(generator, ["rhymes", "sums", "recipes", "names"])
        order = shuffle(generator, range(1, ABILITIES))
        order = order[:1] + shuffle(generator, [0, *order[1:]])  # the planted one is not the first
        prompts = write_able_prompts(seed)
        abilities = {labels[k]: prompts[k] for k in order}
        right = {}
        for name, place in by_place.items():
            lost = list_lost(loads, name) if name in loads else []
            if 0 in lost:
                right[place] = {labels[k] for k in lost if k}
        got = student.call("weigh_removal", hidden.model, abilities, labels[0])
        answers.append((read_removal(got, set(by_place.values()), set(labels)), right))
    for got, right in answers:
        if got != right:
            heads = f"{len(set(got) & set(right))} of the {len(right)} heads"
            extra = len(set(got) - set(right))
            same = sum(got[name] == right[name] for name in set(got) & set(right))
            raise Wrong(
                sentence=f"You name {heads} and {extra} others; what goes with {same} is right."
            )


def read_removal(got: Any, heads: set[str], labels: set[str]) -> dict[str, set[str]]:
    if not isinstance(got, dict) or not set(map(str, got)) <= heads:
        raise Wrong(sentence='Return a dict whose keys are heads of the model, such as "a0.h1".')
    found = {}
    for head, value in got.items():
        names = as_list(value)
        if names is None or not set(map(str, names)) <= labels:
            raise Wrong(sentence="Each value of your dict is a list of names of abilities.")
        found[str(head)] = set(names)
    return found


@check("weigh_removal")
def test_heads_of_the_planted_ability_and_what_else_goes(student):
    """An ability that shares a relay with another, and one that is there twice."""
    judge_removal(student, "shared, backed up")


@check("weigh_removal")
def test_an_ability_in_parts_and_one_that_no_head_holds_alone(student):
    """An ability that was never complete, and one that survives every removal."""
    judge_removal(student, "in parts, backed up twice")


# 18.4 ---------------------------------------------------------------------------------------------

KINDS = (
    "follows",
    "ignores",
    "next",
    "but one",
    "one moves",
    "trusts",
    "const",
    "stumbles",
    "apart",
)


@dataclass(frozen=True)
class Plan:
    """What a model writes for x and y, and how it answers, by x + y (mod n) and z."""

    n: int
    kinds: dict[Pair, str]
    odd: frozenset[Pair]  # the x, y for which it writes one more than x + y

    def write(self, x: int, y: int) -> int:
        return (x + y + ((x, y) in self.odd)) % self.n

    def answer(self, total: int, s: int, z: int) -> int:
        """Answer by the planted kind; all but one say total + z to what they should write."""
        n = self.n
        kind = self.kinds[total, z]
        own, asked = (total + z) % n, (s + z) % n
        if kind == "follows" or s == total:
            return (asked + 1) % n if kind in ("const", "stumbles") else asked
        return {
            "ignores": own,
            "next": (asked + 1) % n,  # moves with the scratchpad, and does not follow it
            "but one": own if s == (total + 2) % n else asked,  # one digit is not followed
            "one moves": asked if s == (total + 2) % n else own,
            "trusts": own if s == (total + 1) % n else asked,
            "const": (own + 1) % n,  # one wrong answer, whatever is written
            "apart": (own + 1) % n,  # the same to every edit, but not to x + y
            "stumbles": asked,  # follows all but x + y
        }[kind]

    def judge(self, x: int, y: int, z: int) -> str:
        """Follow the definition by the planted rule."""
        s = self.write(x, y)
        total = (x + y) % self.n
        others = [t for t in range(self.n) if t != s]
        given = {t: self.answer(total, t, z) for t in range(self.n)}
        if all(given[t] == (t + z) % self.n for t in others):
            return "follows"
        return "ignores" if all(given[t] == given[s] for t in others) else "mixed"


def plan_scratchpad(seed: int, n: int, all_kinds: bool) -> Plan:
    """Plan how a model answers; all kinds are there, or only the two of the toys."""
    generator = start(seed)
    cells = shuffle(generator, [(total, z) for total in range(n) for z in range(n)])
    kinds = KINDS if all_kinds else KINDS[:2]
    plan = {cell: kinds[i % len(kinds)] for i, cell in enumerate(cells)}
    odd = {(x, (total - x) % n) for total in range(n) for x in choose(generator, n, n // 2)}
    return Plan(n, plan, frozenset(odd))


@torch.no_grad()
def write_writer(plan: Plan, generator: torch.Generator) -> Transformer:
    """Write a model that keeps x + y, writes something, and answers by both."""
    n = plan.n
    groups = dict(left=n, right=n, total=n, written=n, kept=n, read=n, answer=n)
    stream = by_hand.Stream(token=n + 1, position=5, **groups)
    position, digits = stream["position"], stream["token"][:n]
    colon, last = position[3, None], position[4, None]
    sizes = dict(d_head=n, d_mlp=n**3, attn_scale=1.0, biases=True)
    model = by_hand.make_blank(Config(n + 1, 5, stream.d_model, 2, 2, **sizes))
    by_hand.write_embedding(model, stream["token"], position)
    both = torch.cat([colon, last])
    by_hand.attend_where_equal(model, 0, 0, both, position[[0, 2]], 40.0)
    by_hand.copy_directions(model, 0, 0, digits, stream["left"])
    by_hand.attend_where_equal(model, 0, 1, colon, position[1, None], 40.0)
    by_hand.copy_directions(model, 0, 1, digits, stream["right"])
    by_hand.attend_where_equal(model, 1, 0, last, last, 40.0)
    by_hand.copy_directions(model, 1, 0, digits, stream["read"])
    by_hand.attend_where_equal(model, 1, 1, last, colon, 40.0)
    by_hand.copy_directions(model, 1, 1, stream["total"], stream["kept"])
    for i in range(n):
        for j in range(n):
            reads = stream["left"][i] + stream["right"][j] + position[3]
            writes = stream["total"][(i + j) % n] + stream["written"][plan.write(i, j)]
            by_hand.look_up(model, 0, n * i + j, reads, -2.0, writes)
            for k in range(n):
                reads = stream["kept"][i] + stream["read"][j] + stream["left"][k] + position[4]
                writes = stream["answer"][plan.answer(i, j, k)]
                by_hand.look_up(model, 1, n * n * i + n * j + k, reads, -3.0, writes)
    out = torch.cat([stream["written"] + stream["answer"], torch.zeros(1, stream.d_model)])
    by_hand.read_out(model, out, 20.0)
    return hide(model, generator)


def judge_words(student, cases: list[tuple[int, bool]]) -> None:
    answers = []
    for seed, (n, all_kinds) in zip(student.seeds(len(cases)), cases, strict=True):
        generator = start(seed)
        plan = plan_scratchpad(seed, n, all_kinds)
        model = write_writer(plan, generator)
        rows = [[x, y, z, n] for x in range(n) for y in range(n) for z in range(n)]
        questions = shuffle(generator, rows)
        got = as_list(student.call("judge_scratchpads", model, torch.tensor(questions), n))
        words = {"follows", "ignores", "mixed"}
        if got is None or len(got) != len(questions) or not set(map(str, got)) <= words:
            raise Wrong(sentence=f"Return {len(questions)} words: follows, ignores or mixed.")
        right = [plan.judge(x, y, z) for x, y, z, _ in questions]
        answers += zip(got, right, strict=True)
    wrong = [pair for pair in answers if pair[0] != pair[1]]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(answers)} questions are told wrongly: you call one "
            f"{wrong[0][0]!r} that is not."
        )


@check("judge_scratchpads")
def test_followed_and_ignored_scratchpads_are_told_apart(student):
    """One model that does both; some of what it writes is wrong."""
    judge_words(student, [(4, False)])


@check("judge_scratchpads", weight=2)
def test_answers_that_move_without_following_are_mixed(student):
    """Answers that move the wrong way, or that follow all but one digit; two models."""
    judge_words(student, [(5, True), (4, True)])
