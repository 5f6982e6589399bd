"""Grade lesson 07.

What is right comes from runs block by block, with one place of one activation exchanged, or was
planted.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mini_transformer import forge
from mini_transformer.course.grading.checks import Wrong, as_list, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.model import Config, Norm, Transformer
from mini_transformer.toys import by_hand

MUTANTS = load_mutants(__file__)

SHAPES = (
    dict(d_vocab=11, n_ctx=8, d_model=12, n_layers=3, n_heads=2, d_head=5, d_mlp=6),
    dict(d_vocab=7, n_ctx=9, d_model=10, n_layers=2, n_heads=5, d_mlp=13, norm="layer"),
    dict(d_vocab=9, n_ctx=5, d_model=8, n_layers=2, n_heads=3, d_head=4, d_mlp=7, biases=True),
)
SITES = ("attn_out", "mlp_out", "resid_pre")
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


@torch.no_grad()
def draw_case(
    seed: int, shape: dict, rows: int, length: int = 5
) -> tuple[NamedModel, Transformer, Tensor, Tensor]:
    """Draw a random model, and two batches of prompts that differ in about half their tokens."""
    named = NamedModel("random", seed=seed, **shape)
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randint(shape["d_vocab"], (2, rows, length), generator=generator)
    kept = torch.randint(2, (rows, length), generator=generator).bool()
    kept[:, [0, -1]] = False
    return named, named.build(), one, torch.where(kept, one, two)


def normalize(norm: Norm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm.normalize(x)


@torch.no_grad()
def walk(
    model: Transformer,
    tokens: Tensor,
    place: tuple[int, str, int] | None = None,
    new: Tensor | None = None,
    noise: Tensor | float = 0.0,
) -> tuple[Tensor, dict[tuple[int, str], Tensor]]:
    """Run block by block; return the logits, and what stood at every (layer, site).

    At `place`, a layer, a site and a position, stands `new` (b, d).
    """
    seen = {}

    def keep(layer: int, site: str, x: Tensor) -> Tensor:
        if place and place[:2] == (layer, site):
            at = place[2]
            x = torch.cat([x[:, :at], new.unsqueeze(1), x[:, at + 1 :]], dim=1)
        seen[layer, site] = x
        return x

    stream = model.embed(tokens) + noise
    for layer, block in enumerate(model.blocks):
        stream = keep(layer, "resid_pre", stream)
        read = normalize(block.ln1, stream)
        stream = stream + keep(layer, "attn_out", block.attn(read, read, read))
        if block.mlp is not None:
            stream = stream + keep(layer, "mlp_out", block.mlp(normalize(block.ln2, stream)))
    return model.unembed(stream), seen


# 7.1 ----------------------------------------------------------------------------------------------


def judge_patch(student, cases: slice) -> None:
    for seed, shape, site in list(zip(student.seeds(3), SHAPES, SITES, strict=True))[cases]:
        named, model, base, source = draw_case(seed, shape, rows=4)
        position = torch.tensor([3, 1, 0, 1]).roll(seed % 4)
        layer = 1 if site == "attn_out" else 1 - seed % 2
        name = f"blocks.{layer}.hook_{site}"
        got = student.call("patch_positions", named, base, source, name, position)
        want = []
        for one, other, at in zip(base.split(1), source.split(1), position.tolist(), strict=True):
            new = walk(model, other)[1][layer, site][:, at]
            want.append(walk(model, one, (layer, site, at), new)[0])
        expect(got, torch.cat(want), what="the tensor of logits", **ROUNDING)


@check("patch_positions", weight=2)
def test_what_a_layer_writes_is_patched(student):
    """What a layer writes: each prompt gets its own, at its own position, and nowhere else."""
    judge_patch(student, slice(0, 2))


@check("patch_positions")
def test_what_enters_a_layer_is_patched(student):
    """What enters a layer."""
    judge_patch(student, slice(2, 3))


# 7.2 ----------------------------------------------------------------------------------------------


def make_map(
    model: Transformer, length: int, start: float, end: float, measure: Callable
) -> Tensor:
    """Make the map (l, t) of how far measure(l, t) is on its way from start to end."""
    values = [[measure(i, t) for t in range(length)] for i in range(model.config.n_layers)]
    return (torch.tensor(values) - start) / (end - start)


def judge_map(student, direction: str) -> None:
    for seed, shape, site in zip(student.seeds(3), SHAPES, SITES, strict=True):
        named, model, clean, corrupt = draw_case(seed, shape, rows=3)
        gain = (walk(model, clean)[0] - walk(model, corrupt)[0])[:, -1]
        answer, wrong = gain.argmax(dim=-1), gain.argmin(dim=-1)  # which best tell the runs apart
        got = student.call("patching_map", named, clean, corrupt, answer, wrong, site, direction)

        def measure(logits: Tensor, answer=answer, wrong=wrong) -> float:
            rows = zip(logits, answer, wrong, strict=True)
            return float(sum(row[-1, a] - row[-1, w] for row, a, w in rows)) / len(logits)

        base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
        end, new = walk(model, source)

        def patch(
            i: int, t: int, model=model, base=base, site=site, new=new, measure=measure
        ) -> float:
            return measure(walk(model, base, (i, site, t), new[i, site][:, t])[0])

        start = measure(walk(model, base)[0])
        want = make_map(model, base.shape[1], start, measure(end), patch)
        expect(got, want, what="the map", **ROUNDING)


@check("patching_map", weight=2)
def test_denoising_moves_the_corrupt_run_towards_the_clean_one(student):
    """Denoising: how far each patch moves the corrupt run towards the clean one."""
    judge_map(student, "denoise")


@check("patching_map", weight=2)
def test_noising_moves_the_clean_run_towards_the_corrupt_one(student):
    """Noising: how far each patch moves the clean run towards the corrupt one."""
    judge_map(student, "noise")


# 7.3 ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Hold prompts to choose pairs from, the answers they call for, and what the model says."""

    model: Transformer
    prompts: Tensor
    answer: Tensor
    position: int

    @functools.cached_property
    def last(self) -> list[list[float]]:
        return walk(self.model, self.prompts)[0][:, -1].tolist()

    @functools.cached_property
    def rows(self) -> list[list[int]]:
        return self.prompts.tolist()

    @functools.cached_property
    def called(self) -> list[int]:
        return self.answer.tolist()

    def says(self, i: int) -> int:
        return max(range(len(self.last[i])), key=self.last[i].__getitem__)

    def list_broken(self, i: int, j: int) -> dict[str, str]:
        """Map the rules that a pair breaks to the rest of a sentence."""
        one, two = self.rows[i], self.rows[j]
        differs = [p for p in range(len(one)) if one[p] != two[p]]
        where = ", ".join(map(str, differs)) or "none"
        broken = {
            "moved": (
                differs[1:] == [] and differs != [self.position],
                f"it differs at {where} only",
            ),
            "elsewhere": (len(differs) > 1, f"it differs at positions {where}"),
            "answer": (self.called[i] == self.called[j], "it has the same answer"),
            "own": (self.says(i) != self.called[i], f"the model does not answer prompt {i} so"),
            "partner": (self.says(j) != self.called[j], f"the model does not answer prompt {j} so"),
        }
        return {rule: words for rule, (is_broken, words) in broken.items() if is_broken}

    def beats(self, i: int, j: int) -> bool:
        """Say whether the answer of i has a higher logit there than that of j."""
        return self.last[i][self.called[i]] > self.last[i][self.called[j]]

    @functools.cached_property
    def partners(self) -> list[list[int]]:
        n = len(self.prompts)
        return [[j for j in range(n) if not self.list_broken(i, j)] for i in range(n)]

    def is_telling(self) -> bool:
        """Say whether each rule alone rules out pairs, and no two logits come close."""
        n = len(self.prompts)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        broken = {pair: set(self.list_broken(*pair)) for pair in pairs}
        alone = Counter(rule for rules in broken.values() if len(rules) == 1 for rule in rules)
        tempting = {  # each answer is likelier than the other, but another is likelier than both
            i
            for i, j in pairs
            if broken[i, j] <= {"own", "partner"} and self.beats(i, j) and self.beats(j, i)
        } - {i for i in range(n) if self.partners[i]}
        lead = self.model(self.prompts)[:, -1].topk(2).values.diff().abs().min()
        n_found = sum(map(bool, self.partners))
        is_each = len(alone) == 5 and min(alone.values()) >= 6 and len(tempting) >= 2
        return bool(is_each and lead > 1e-3 and 8 <= n_found <= n - 8)


@functools.cache
@torch.no_grad()
def draw_pool(seed: int, length: int) -> Pool:
    """Draw a random model, and prompts beside others with one or two tokens changed.

    A quarter of the answers are what the model finds second best.
    """
    for attempt in itertools.count():
        generator = torch.Generator().manual_seed(seed + attempt)
        model = Transformer(
            Config(d_vocab=6, n_ctx=length, d_model=16, n_layers=2, n_heads=2), seed=seed + attempt
        )
        for block in model.blocks:
            block.attn.W_O.mul_(3)  # so that what the model says depends on all tokens
        position = int(torch.randint(length, (1,), generator=generator))
        prompts = set()
        for context in torch.randint(6, (6, length), generator=generator):
            other = (position + int(torch.randint(1, length, (1,), generator=generator))) % length
            changes = [[]] + 3 * [[position]] + 2 * [[other]] + [[position, other]]
            for places in changes:
                prompt = context.clone()
                prompt[places] = torch.randint(6, (len(places),), generator=generator)
                prompts.add(tuple(prompt.tolist()))
        rows = torch.tensor(sorted(prompts))[torch.randperm(len(prompts), generator=generator)]
        rank = (torch.rand(len(rows), generator=generator) < 0.25).long()
        answer = model(rows)[:, -1].topk(2).indices[torch.arange(len(rows)), rank]
        pool = Pool(model, rows, answer, position)
        if pool.is_telling():
            return pool
    raise AssertionError


@functools.lru_cache(maxsize=1)
def ask_pairs(student) -> list[tuple[list[int], Pool]]:
    """Ask for the learner's partners in three pools, once for both checks."""
    found = []
    for seed, length in zip(student.seeds(3), (4, 5, 3), strict=True):
        pool = draw_pool(seed, length)
        got = as_list(
            student.call("choose_corruptions", pool.model, pool.prompts, pool.answer, pool.position)
        )
        n = len(pool.prompts)
        if got is None or len(got) != n or not all(type(j) is int and -1 <= j < n for j in got):
            raise Wrong(
                sentence=f"Return a list with one number per prompt, {n} here, "
                f"each from -1 to {n - 1}."
            )
        found.append((got, pool))
    return found


def judge_pairs(student, fit: bool) -> None:
    """Judge the prompts that have a partner, or those that have none."""
    chosen = [(i, j, pool) for got, pool in ask_pairs(student) for i, j in enumerate(got)]
    right = {True: [], False: []}
    for i, j, pool in chosen:
        right[bool(pool.partners[i])].append(j in (pool.partners[i] or [-1]))
    shares = {kind: sum(hits) / len(hits) for kind, hits in right.items()}
    if shares[fit] == 1.0 and (fit or shares[True] > 0.5):
        return
    broken = [(i, j, pool.list_broken(i, j)) for i, j, pool in chosen if j >= 0]
    unasked = sum({"own", "partner"} & {*rules} != set() for *_, rules in broken)
    is_asked = 2 * unasked < len(broken)  # what a guess is worth if the model is not
    earned = max(0.0, shares[True] + shares[False] - 1) * is_asked
    worst = [each for each in broken if each[2]]
    if worst:
        i, j, rules = min(worst, key=lambda each: len(each[2]))
        words = f"Prompt {i} gets partner {j}, but {' and '.join(rules.values())}"
        raise Wrong(sentence=f"{words}. So it is for {len(worst)} of your pairs.", earned=earned)
    i, j = next((i, pool.partners[i][0]) for i, j, pool in chosen if j < 0 and pool.partners[i])
    words = f"Prompt {i} gets no partner, but {j} is one"
    share = f"{shares[True]:.0%} of the prompts that have a partner get one"
    raise Wrong(sentence=f"{words}: {share}.", earned=earned)


@check("choose_corruptions", weight=2)
def test_a_partner_is_found_wherever_there_is_one(student):
    """Wherever a fit partner exists, one is found, in three unknown models."""
    judge_pairs(student, fit=True)


@check("choose_corruptions")
def test_where_no_prompt_fits_none_is_named(student):
    """Where no prompt fits, none is named."""
    judge_pairs(student, fit=False)


# 7.4 ----------------------------------------------------------------------------------------------


def judge_tracing(student, n_draws: int) -> None:
    for seed, shape, site in zip(student.seeds(3), SHAPES, SITES, strict=True):
        named, model, tokens, _ = draw_case(seed, shape, rows=2, length=4)
        noise = torch.zeros(n_draws, *tokens.shape, model.config.d_model)
        generator = torch.Generator().manual_seed(seed)
        for i in range(len(tokens)):  # on one token of each prompt, strong enough to be felt
            noise[:, i, i % 2] = 2 * torch.randn(noise[:, i, 0].shape, generator=generator)

        def read(place=None, model=model, tokens=tokens, noise=noise, site=site) -> Tensor:
            """Return the mean last probabilities of noisy runs with one place restored, (b, v)."""
            clean = walk(model, tokens)[1]
            new = clean[place[0], site][:, place[1]] if place else None
            where = (place[0], site, place[1]) if place else None
            runs = [walk(model, tokens, where, new, each)[0] for each in noise]
            return torch.stack([logits[:, -1].softmax(dim=-1) for logits in runs]).mean(dim=0)

        clean, noisy = walk(model, tokens)[0][:, -1].softmax(dim=-1), read()
        felt = clean - noisy
        felt[1, clean[1].argmax()] = -1.0  # one answer is not what the model says
        answer = felt.argmax(dim=-1)
        got = student.call("trace_noise", named, tokens, answer, noise, site)

        def metric(probabilities: Tensor, answer: Tensor = answer) -> float:
            return float(probabilities.gather(1, answer.unsqueeze(1)).mean())

        def restore(i: int, t: int, read=read, metric=metric) -> float:
            return metric(read((i, t)))

        want = make_map(model, 4, metric(noisy), metric(clean), restore)
        expect(got, want, what="the map", **ROUNDING)


@check("trace_noise", weight=2)
def test_one_draw_of_noise(student):
    """With one draw of noise, the share that each restored entry brings back."""
    judge_tracing(student, 1)


@check("trace_noise", weight=2)
def test_several_draws_of_noise(student):
    """With several draws, each run by itself."""
    judge_tracing(student, 3)


# 7.5 ----------------------------------------------------------------------------------------------

YES, NO, MARK, N_TOKENS, N_LAYERS, N_CTX, N_PROMPTS = 0, 1, 2, 7, 5, 9, 16
CLOSED, OPEN = 3, 4  # fillers where the copies meet; the first of them closes the gate


@dataclass(frozen=True)
class Route:
    """Hold a model, its prompts, and the places that are enough and needed."""

    model: Transformer
    clean: Tensor
    corrupt: Tensor
    enough: set[str]
    needed: set[str]

    @property
    def inputs(self) -> tuple:
        yes, no = (torch.full((N_PROMPTS,), token) for token in (YES, NO))
        return self.model, self.clean, self.corrupt, yes, no


@functools.cache
@torch.no_grad()
def plant_route(seed: int, gate: str) -> Route:
    """Plant a model that says whether there is a mark at position `start`.

    Five layers, of which one is idle, carry the answer to the last position. Two heads fetch the
    mark to two positions, two others bring it from both to a third, where an MLP combines the
    copies: "or" is content with one, "and" wants both, "one" reads the first only. Two steps bring
    the result to the end, unless a token closes the gate, as on every fourth prompt.

    Three heads go by without a gate: the start and a copy add .625 each, another copy takes away
    .7. Of all that the mark moves these are .48, .48 and -.54, and the result is .58. Each of the
    first two is enough to turn the answer and most of its probability. On average over the shares
    of single prompts, each of the three is more than half.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = by_hand.Stream(
        token=N_TOKENS, position=N_CTX, fetched=2, met=2, result=1, passed=1, said=1, unread=2
    )
    config = Config(N_TOKENS, N_CTX, stream.d_model, N_LAYERS, 4, d_head=2, d_mlp=2, attn_scale=1.0)
    model = by_hand.make_blank(config)
    place = stream["position"]
    mark = stream["token"][MARK]
    by_hand.write_embedding(model, stream["token"], place)
    start, *others = torch.randperm(N_CTX - 1, generator=generator)[:7].sort().values.tolist()
    helps, hurts = (others.pop(i) for i in torch.randperm(5, generator=generator)[:2].tolist())
    one, two, middle, late = others
    one, two = (one, two) if seed % 2 else (two, one)
    fetch, meet, step, end = sorted(torch.randperm(N_LAYERS, generator=generator)[:4].tolist())
    fetched, met, unread = stream["fetched"], stream["met"], stream["unread"]
    result, passed, said = (stream[name][0] for name in ("result", "passed", "said"))
    last = N_CTX - 1
    moves = [  # layer, from, to, reads, writes
        (fetch, start, one, mark, fetched[0]),
        (fetch, start, two, mark, fetched[1]),
        (fetch, start, helps, mark, unread[0]),
        (fetch, start, hurts, mark, unread[1]),
        (meet, one, middle, fetched[0], met[0]),
        (meet, two, middle, fetched[1], met[1]),
        (step, middle, late, result, passed),
        (end, late, last, passed, said),
        (end, start, last, mark, 0.625 * said),
        (end, helps, last, unread[0], 0.625 * said),
        (end, hurts, last, unread[1], -0.7 * said),
    ]
    heads = [iter(range(4)) for _ in range(N_LAYERS)]
    for layer, source, target, reads, writes in moves:
        head = next(heads[layer])
        by_hand.attend_where_equal(
            model, layer, head, place[target, None], place[source, None], 20.0
        )
        by_hand.copy_directions(model, layer, head, reads[None], writes[None])
    both_are_needed = met.sum(0) - place[middle]
    neurons = {
        "one": [(met[0], 1)],
        "and": [(both_are_needed, 1)],
        "or": [(met.sum(0), 1), (both_are_needed, -1)],
    }
    for neuron, (reads, sign) in enumerate(neurons[gate]):
        reads = reads - 5 * stream["token"][CLOSED]
        by_hand.look_up(model, meet, neuron, reads, 0.0, sign * result)
    says_yes = said - 0.35 * place[last]
    by_hand.read_out(
        model, torch.stack([says_yes, -says_yes, *(0 * said for _ in range(N_TOKENS - 2))]), 8.0
    )

    def stay(position: int, first: int, last: int) -> set[str]:
        return {f"{layer}@{position}" for layer in range(first, last + 1)}

    both = stay(start, 0, fetch) | stay(middle, meet + 1, step) | stay(late, step + 1, end)
    both |= stay(last, end + 1, N_LAYERS - 1)
    first, second = stay(one, fetch + 1, meet), stay(two, fetch + 1, meet)
    enough = {"one": both | first, "and": both, "or": both | first | second}[gate]
    needed = {"one": both | first, "and": both | first | second, "or": both}[gate]
    clean = torch.randint(3, N_TOKENS, (N_PROMPTS, N_CTX), generator=generator)
    clean[:, middle] = torch.where(torch.arange(N_PROMPTS) % 4 == 0, CLOSED, OPEN)
    corrupt = clean.clone()
    clean[:, start] = MARK
    return Route(forge.disguise(model, generator).model, clean, corrupt, enough, needed)


POSSIBLE = [f"{layer}@{position}" for layer in range(N_LAYERS) for position in range(N_CTX)]


@functools.lru_cache(maxsize=1)
def ask_routes(student) -> list[tuple[tuple[set[str], set[str]], Route]]:
    """Ask what the learner names in three models, once for all checks."""
    found = []
    for seed, gate in zip(student.seeds(3), ("or", "and", "one"), strict=True):
        case = plant_route(seed, gate)
        parts = [
            as_list(part) for part in as_list(student.call("find_carriers", *case.inputs)) or []
        ]
        if len(parts) != 2 or None in parts:
            raise Wrong(
                sentence="Return two lists of places: those that are enough, "
                "and those that are needed."
            )
        if odd := [name for part in parts for name in part if name not in POSSIBLE]:
            raise Wrong(
                sentence=f"{odd[0]!r} is no place of this model: {POSSIBLE[0]} to {POSSIBLE[-1]}."
            )
        found.append(((set(parts[0]), set(parts[1])), case))
    return found


def judge_routes(student, kind: Callable[[set, set], set], what: str) -> None:
    """Hold the places of one kind, in three models, to those that were planted."""
    answers = ask_routes(student)

    def spell(lists: Sequence[tuple[set[str], set[str]]]) -> set[str]:
        return {f"{name} (model {i})" for i, pair in enumerate(lists) for name in kind(*pair)}

    got = spell([given for given, _ in answers])
    right = spell([(case.enough, case.needed) for _, case in answers])
    possible = {f"{name} (model {i})" for i in range(3) for name in POSSIBLE}
    expect_found(sorted(got), [right], possible, what=f"places that are {what}")


@check("find_carriers", weight=2)
def test_places_that_are_enough_and_needed_are_found(student):
    """Places that are both enough and needed are found, in three unknown models."""
    judge_routes(student, set.intersection, "enough and needed")


@check("find_carriers", weight=2)
def test_places_that_are_enough_but_not_needed_are_found(student):
    """Places that are enough but not needed are found."""
    judge_routes(student, set.difference, "enough but not needed")


@check("find_carriers", weight=2)
def test_places_that_are_needed_but_not_enough_are_found(student):
    """Places that are needed but not enough are found."""
    judge_routes(student, lambda enough, needed: needed - enough, "needed but not enough")
