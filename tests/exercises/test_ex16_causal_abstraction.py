"""Grade lesson 16.

What is right follows from programs that were planted: what a forged model says if one variable has
another value, what a clock adds, and along which directions a small model writes and reads.
"""

import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer import forge
from mini_transformer.course.grading.checks import Wrong, as_list, check, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.forge.disguise import disguise
from mini_transformer.forge.program import Program, draw_layout, draw_program, refuse
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.hand_set import clock_by_hand

MUTANTS = load_mutants(__file__)
VIEWS = {"tell_illusions": lambda words, *args: [f"{i}: {word}" for i, word in enumerate(words)]}

Place = tuple[str, int, Tensor]


def start(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_rows(generator: torch.Generator, n: int, width: int) -> Tensor:
    """Draw n orthonormal rows."""
    return torch.linalg.qr(torch.randn(width, n, generator=generator)).Q.T


def pair_all(n: int) -> tuple[Tensor, Tensor]:
    base, source = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    return base, source


def draw_until_clear(seed: int, draw: Callable[[int], Any]) -> Any:
    """Draw cases until one is clear: `draw` returns None for those that rest on luck."""
    for attempt in itertools.count():
        case = draw((seed + 7919 * attempt) % 2**31)
        if case is not None:
            return case


# Programs -----------------------------------------------------------------------------------------

MOST_PROMPTS = 10
MANY_PROMPTS = 20
CLEAR = 0.05  # a logit that wins does so by more


class Planted:
    """A forged model, some of its prompts, and what its program says if a variable is given."""

    def __init__(self, seed: int, most: int = MOST_PROMPTS) -> None:
        case = forge.make(seed, size=2, tasks=0, decoys=1, redundancy="none", positions="fixed")
        assert case.program is not None
        batch = case.task.everything().distinct()  # type: ignore[misc]
        kept = torch.randperm(len(batch.clean), generator=start(seed))[:most]
        self.model = case.model
        self.variables = case.truth.variables
        self.roles = case.truth.roles
        self.program = case.program
        self.plain = self.program.prompts[kept]  # in the program's numbers
        self.prompts = batch.clean[kept]
        self.n = len(kept)
        self.values = self.program.run(self.plain)
        self.tokens = torch.zeros(self.program.layout.n, dtype=torch.long)  # of each answer
        self.tokens[self.program.compute(self.program.prompts)] = batch.answer
        self.own = self.tokens[self.values[self.program.answer]]

    def tabulate(self, name: str) -> Tensor:
        """Return what each prompt calls for at each value of a variable (prompt, value)."""
        tables = []
        for value in range(len(self.tokens)):
            given = {name: torch.full((self.n,), value)}
            tables.append(self.program.run(self.plain, given)[self.program.answer])
        return self.tokens[torch.stack(tables, dim=1)]

    def answer_swaps(self, name: str) -> Tensor:
        """Return what base calls for with the value of a variable in source (base, source)."""
        return self.tabulate(name)[:, self.values[name]]

    def get_place(self, name: str) -> Place:
        variable = self.variables[name]
        assert variable.position is not None
        return variable.site, variable.position, variable.subspace


def sketch(seed: int) -> Program:
    """Draw the program that a forged model is likely to have, without building the model."""
    rng = random.Random(f"forge {seed}")
    while True:
        program = draw_program(rng, draw_layout(rng, 2, "fixed", 1, 3), 2)
        if not refuse(program):
            return program


def brings_early(program: Program) -> bool:
    """Say whether something is fetched to another position than the last."""
    last = program.layout.length - 1
    return any(step.op == "fetch" and step.at < last for step in program.steps.values())


def list_fetched(planted: Planted) -> list[str]:
    """List variables that are fetched to a position where more than they stands."""
    found = []
    for name in planted.variables:
        hook, position, rows = planted.get_place(name)
        whole = swap(planted.model, planted.prompts, (hook, position, torch.eye(rows.shape[1])))
        margins = measure_margins(whole, planted.answer_swaps(name))
        if name != "v0" and margins.min() < -CLEAR:
            found.append(name)
    return found


def plant(seed: int) -> Planted:
    return plant_some(seed, MOST_PROMPTS, 1)


@functools.cache
def plant_some(seed: int, most: int, least: int) -> Planted:
    """Plant a program of which each variable moves some answer, and some are at other positions."""

    def draw(seed: int) -> Planted | None:
        program = sketch(seed)
        if not brings_early(program) or len(program.prompts) < least:
            return None
        try:
            planted = Planted(seed, most)
        except ValueError:  # none of 300 programs could be built
            return None
        own = planted.own[:, None]
        moved = [(planted.answer_swaps(name) != own).any() for name in planted.variables]
        is_clear = (
            planted.n >= least
            and len(planted.own.unique()) > 1
            and all(moved)
            and brings_early(planted.program)
            and list_fetched(planted)
        )
        return planted if is_clear else None

    return draw_until_clear(seed, draw)


@torch.no_grad()
def swap(model: Transformer, prompts: Tensor, place: Place) -> Tensor:
    """Swap a place for all pairs of prompts; return the last logits (base, source, token)."""
    hook, position, rows = place
    n = len(prompts)
    base, source = pair_all(n)
    h = model.run_with_cache(prompts, names_filter=hook)[1][hook][:, position]
    inside = torch.einsum("bd,rd,re->be", h, rows, rows)

    def put(value: Tensor, point: Any) -> None:
        value[:, position] = (h - inside)[base] + inside[source]

    logits = model.run_with_hooks(prompts[base], fwd_hooks=[(hook, put)])[:, -1]
    return logits.view(n, n, -1)


def measure_margins(logits: Tensor, answers: Tensor) -> Tensor:
    """Return by how much each answer's logit is above all others (base, source)."""
    own = logits.gather(2, answers[:, :, None])[:, :, 0]
    return own - logits.scatter(2, answers[:, :, None], -torch.inf).amax(dim=2)


def join(*rows: Tensor) -> Tensor:
    """Return orthonormal rows with the span of all of these."""
    return torch.linalg.qr(torch.cat(rows).T).Q.T


# 16.1 ---------------------------------------------------------------------------------------------


def list_places(planted: Planted, name: str, generator: torch.Generator) -> dict[str, Place]:
    """List places that carry the variable, or might be taken for one."""
    hook, position, rows = planted.get_place(name)
    rows = draw_rows(generator, len(rows), len(rows)) @ rows
    width = rows.shape[1]
    layer = int(hook.split(".")[1])
    whole = draw_rows(generator, width, width)
    others = {other: planted.get_place(other) for other in planted.variables if other != name}
    first, *_, last = others.values()
    end = f"blocks.{planted.model.config.n_layers - 1}.hook_resid_post"
    places = {
        "true": (hook, position, rows),
        "too early": (f"blocks.{layer}.hook_resid_pre", position, rows),
        "elsewhere": (hook, position - 1 if position else 1, rows),
        "all": (hook, position, whole),
        "at the end": (end, planted.prompts.shape[1] - 1, whole),
        "both": (hook, position, join(rows, first[2])),
        "both others": (hook, position, join(rows, last[2])),
    }
    places |= {
        f"token {i}": ("blocks.0.hook_resid_pre", at, whole)
        for i, at in planted.program.layout.tokens.items()
    }
    return places | others


def tilt(
    place: Place, generator: torch.Generator, measure: Callable[[Place], Tensor]
) -> tuple[Place, Tensor] | None:
    """Tilt the rows of a place so far that nine pairs of ten are right, or more, but not all."""
    hook, position, rows = place
    away = join(rows, torch.randn(rows.shape, generator=generator))[len(rows) :]
    low, high = 0.0, 0.3
    for _ in range(8):
        by = (low + high) / 2
        tilted = hook, position, (1 - by**2) ** 0.5 * rows + by * away
        margins = measure(tilted)
        share = (margins > 0).float().mean()
        if 0.9 <= share < 1 and margins.min() < -CLEAR:
            return tilted, margins > 0
        low, high = (low, by) if share < 0.9 else (by, high)
    return None


def order_prompts(right: Tensor) -> Tensor | None:
    """Order prompts so that a base before its source is always right, and the last with the first.

    Return None if there is no such order.
    """
    left = list(range(len(right)))
    order: list[int] = []
    while left:
        fitting = [i for i in left if right[i, left].all()]
        if not fitting:
            return None
        order.append(fitting[0])
        left.remove(fitting[0])
    return torch.tensor(order) if right[order[-1], order[0]] else None


@functools.cache
def plant_places(seed: int, name: str) -> tuple[Planted, Tensor, Tensor, dict[str, Place], Any]:
    """Plant prompts, answers and places, and say which places carry the variable.

    One of the others is right for nine pairs of ten at least, and for all with the base first.
    """
    planted = plant(seed)
    generator = start(seed)
    answers = planted.answer_swaps(name)

    def measure(place: Place) -> Tensor:
        return measure_margins(swap(planted.model, planted.prompts, place), answers)

    places = list_places(planted, name, generator)
    right = set()
    for key, place in list(places.items()):
        margins = measure(place)
        if margins.min() > CLEAR:
            right.add(key)
        elif margins.min() > -CLEAR:
            del places[key]
    assert "true" in right
    order = None
    while order is None:
        found = tilt(places["true"], generator, measure)
        order = found and order_prompts(found[1])
    places["nearly"] = found[0]
    return planted, planted.prompts[order], answers[order][:, order], places, right


def judge_places(student, cases: list[tuple[int, str]]) -> None:
    judged = []
    for seed, name in cases:
        planted, prompts, answers, places, right = plant_places(seed, name)
        keys = list(places)
        random.Random(seed).shuffle(keys)
        names = {key: f"place {i}" for i, key in enumerate(keys)}
        wanted = {names[key] for key in right}
        given = {names[key]: places[key] for key in keys}
        none = {name: place for name, place in given.items() if name not in wanted}
        for asked in (given, none):  # of the second, none carries it
            got = student.call("find_places", planted.model, prompts, answers, asked)
            judged.append((list(got) if isinstance(got, dict) else got, wanted & set(asked), asked))
    for got, wanted, given in judged:
        expect_found(got, [wanted], list(given), what="places")


@check("find_places")
def test_places_that_carry_results_and_inputs_are_found(student):
    """A result on the way and a fetched input, in two models that you have never seen."""
    one, other = student.seeds(2)
    judge_places(student, [(one, "v0"), (other, choose_fetched(other, 0))])


@functools.cache
def choose_fetched(seed: int, i: int) -> str:
    """Choose a variable that is brought from another position."""
    return list_fetched(plant(seed))[i]


# 16.2 ---------------------------------------------------------------------------------------------

Hypothesis = tuple[Tensor, Tensor]  # values (prompt), and answers (prompt, value)


def change_one_value(
    values: Tensor, answers: Tensor, own: Tensor, rng: random.Random
) -> Hypothesis:
    """Say another value in one prompt, and stay right about runs without a swap."""
    wrong = values.clone()
    prompt = rng.randrange(len(values))
    wrong[prompt] = rng.choice([k for k in set(values.tolist()) if k != values[prompt]])
    changed = answers.clone()
    changed[prompt, wrong[prompt]] = own[prompt]
    return wrong, changed


def change_one_answer(
    values: Tensor, answers: Tensor, own: Tensor, rng: random.Random, prompt: int | None = None
) -> Hypothesis:
    """Say another answer in one prompt at one value that it does not have."""
    prompt = rng.randrange(len(values)) if prompt is None else prompt
    value = rng.choice([k for k in set(values.tolist()) if k != values[prompt]])
    changed = answers.clone()
    changed[prompt, value] = rng.choice([t for t in own.tolist() if t != answers[prompt, value]])
    return values, changed


def change_one_pair(
    values: Tensor, answers: Tensor, base: int, source: int, wrong: int
) -> Hypothesis:
    """Give one source a value of its own, and one base another answer at it."""
    fresh = answers.shape[1]
    changed = torch.cat([answers, answers[:, values[source], None]], dim=1)
    changed[base, fresh] = wrong
    finer = values.clone()
    finer[source] = fresh
    return finer, changed


def rename(hypothesis: Hypothesis, generator: torch.Generator) -> Hypothesis:
    """Number the values otherwise; the predictions stay."""
    values, answers = hypothesis
    turn = torch.randperm(answers.shape[1], generator=generator)
    return turn[values], answers[:, turn.argsort()]


N_MISLED = 14  # hypotheses that share a mistake, so that most of all are wrong about this pair


def list_hypotheses(planted: Planted, name: str, rng: random.Random) -> list[Hypothesis]:
    """List hypotheses that are right about runs without a swap; the first is wrong about a few.

    Three are right: the planted variable, the same with other numbers, and with more values.
    """
    generator = start(rng.randrange(2**31))
    values = planted.values[name]
    answers = planted.tabulate(name)
    n = answers.shape[1]
    finer = torch.where(torch.arange(planted.n) % 2 == 0, values, values + n)
    hypotheses = [(values, answers), (finer, answers.repeat(1, 2))]
    hypotheses.append(rename((values, answers), generator))
    for other in planted.variables:
        if other != name:
            hypotheses.append((planted.values[other], planted.tabulate(other)))
    for change in (change_one_value, change_one_answer):
        hypotheses += [change(values, answers, planted.own, rng) for _ in range(2)]
    same = (values[:, None] == values) & ~torch.eye(planted.n).bool()
    base, source = rng.choice(same.nonzero().tolist())
    wrong = rng.choice([t for t in planted.own.tolist() if t != planted.own[base]])
    misled = change_one_pair(values, answers, base, source, wrong)
    hypotheses += [rename(misled, generator) for _ in range(N_MISLED)]
    rng.shuffle(hypotheses)
    last = change_one_answer(values, answers, planted.own, rng, prompt=len(values) - 1)
    return [last, *hypotheses]


def plant_hypotheses(seed: int, name: str) -> tuple[tuple, list[Tensor], Tensor]:
    """Plant hypotheses; return what is given, what each predicts, and what swaps make of it."""
    planted = plant(seed)
    rng = random.Random(seed)
    hypotheses = list_hypotheses(planted, name, rng)
    most = 2 * len(planted.tokens)
    filler = int(planted.own[0])
    values = torch.stack([value for value, _ in hypotheses])
    answers = torch.stack(
        [torch.nn.functional.pad(x, (0, most - x.shape[1]), value=filler) for _, x in hypotheses]
    )
    predicted = [answer[:, value] for value, answer in zip(values, answers, strict=True)]
    assert all((each.diagonal() == planted.own).all() for each in predicted)
    given = planted.model, planted.prompts, planted.get_place(name), values, answers
    return given, predicted, planted.answer_swaps(name)


def judge_pairs(got: Any, predicted: list[Tensor], said: Tensor) -> list[bool]:
    """Say for each hypothesis whether the pair that refutes it, or None, is right."""
    pairs = as_list(got)
    if pairs is None or len(pairs) != len(predicted):
        raise Wrong(sentence=f"Return a list of {len(predicted)}, one entry per hypothesis.")
    judged = []
    for pair, prediction in zip(pairs, predicted, strict=True):
        found = as_list(pair) or None
        if found is None:
            judged.append(bool((prediction == said).all()))
        elif len(found) != 2 or not all(type(i) is int and 0 <= i < len(said) for i in found):
            raise Wrong(sentence="Each entry is None, or the numbers of two prompts.")
        else:
            judged.append(bool(prediction[tuple(found)] != said[tuple(found)]))
    return judged


def judge_refuted(student, cases: list[tuple[int, str]]) -> None:
    judged = []
    for seed, name in cases:
        (*given, values, answers), predicted, said = plant_hypotheses(seed, name)
        every = list(range(len(predicted)))
        wrong = [h for h in every if (predicted[h] != said).any()]
        for asked in (every, wrong):  # of the second, all are wrong
            got = student.call("refute_hypotheses", *given, values[asked], answers[asked])
            judged += judge_pairs(got, [predicted[h] for h in asked], said)
    if not all(judged):
        raise Wrong(
            sentence=f"{judged.count(False)} of {len(judged)} hypotheses are not judged rightly: a "
            "pair refutes one if the model answers otherwise than it predicts."
        )


@check("refute_hypotheses", weight=2)
def test_wrong_hypotheses_are_refuted(student):
    """Hypotheses about two models, some of them wrong about very few pairs."""
    one, other = student.seeds(2)
    judge_refuted(student, [(one, "v0"), (other, choose_fetched(other, 0))])


@check("refute_hypotheses")
def test_wrong_hypotheses_about_other_variables_are_refuted(student):
    """Hypotheses about other places of these models."""
    one, other = student.seeds(2)
    judge_refuted(student, [(one, choose_fetched(one, -1)), (other, "v0")])


# 16.3 ---------------------------------------------------------------------------------------------


def draw_clock(seed: int, n_frequencies: int, p: int, variable: str) -> dict[str, Any]:
    """Draw a clock in disguise, pairs of prompts to search with, and others to judge by."""
    generator = start(seed)
    frequencies = (torch.randperm(p // 2, generator=generator)[:n_frequencies] + 1).tolist()
    plain = clock_by_hand.build_model(p, sorted(frequencies), seed % 1000 + 1)
    model = disguise(plain, generator).model
    number = torch.arange(p)
    prompts = torch.cartesian_prod(number, number, torch.tensor([p]))
    base, source = pair_all(len(prompts))

    def read(which: Tensor, name: str) -> Tensor:
        a, b = prompts[which, 0], prompts[which, 1]
        return {"a": a, "b": b}[name]

    other = "b" if variable == "a" else "a"
    same = read(base, variable) == read(source, variable)
    differs = read(base, other) != read(source, other)
    answers = (read(source, variable) + read(base, other)) % p
    order = torch.randperm(len(base), generator=generator)
    given, fresh = order[:200], order[200:]
    kept = fresh[(same & differs)[fresh]][:100]
    moved = fresh[~same[fresh]][:100]
    fresh = torch.cat([kept, moved])
    return dict(
        model=model,
        given=(prompts[base[given]], prompts[source[given]], answers[given]),
        fresh=(prompts[base[fresh]], prompts[source[fresh]], answers[fresh]),
        n_kept=len(kept),
        dim=2 * n_frequencies,
    )


SITE = "blocks.0.hook_resid_mid"


@torch.no_grad()
def judge_subspace(student, seed: int, *case: Any) -> None:
    drawn = draw_clock(seed, *case)
    model, dim = drawn["model"], drawn["dim"]
    got = student.call("find_subspace", model, *drawn["given"], SITE, 2, dim)
    rows = torch.as_tensor(got).detach().float() if not isinstance(got, dict) else torch.zeros(0)
    wanted = (dim, model.config.d_model)
    if rows.shape != wanted:
        raise Wrong(sentence=f"Return rows {wanted}; yours are {tuple(rows.shape)}.")
    if (rows @ rows.T - torch.eye(dim)).abs().max() > 1e-3:
        raise Wrong(sentence="Your rows are not orthonormal: torch.linalg.qr makes them so.")
    base, source, answers = drawn["fresh"]
    h = [model.run_with_cache(x, names_filter=SITE)[1][SITE][:, 2] for x in (base, source)]

    def put(value: Tensor, point: Any) -> None:
        value[:, 2] = h[0] + (h[1] - h[0]) @ rows.T @ rows

    said = model.run_with_hooks(base, fwd_hooks=[(SITE, put)])[:, -1].argmax(dim=1)
    right = (said == answers).float()
    n = drawn["n_kept"]
    if right.mean() < 0.95:
        raise Wrong(
            sentence=f"On new pairs, swaps bring the value of the source in {right[n:].mean():.0%} "
            f"of those where it differs, and keep the answer in {right[:n].mean():.0%} of those "
            "where all else differs: together at least 95% must be right."
        )


@check("find_subspace")
def test_the_first_number_is_found(student):
    """The subspace of the first number, in a clock that you have never seen."""
    judge_subspace(student, student.seeds(1)[0], 1, 7, "a")


@check("find_subspace")
def test_the_second_number_is_found(student):
    """The subspace of the second number in another clock, of twice as many dimensions."""
    judge_subspace(student, student.seeds(2)[1], 2, 7, "b")


# 16.4 ---------------------------------------------------------------------------------------------

LAST = "blocks.0.hook_resid_post"
WORDS = ("carries", "illusion", "useless")
N_Z = 6  # of the second token, beside x
LOUD = 3.0  # what nobody reads is written so strongly
READ = 1.5  # what hardly varies would be read so strongly
MEAN = 4.0  # how much there always is of it
FAINT = 0.002  # how far it varies all the same
STREAM = by_hand.Stream(
    token=2 + N_Z + 2, position=4, carried=1, shadow=1, dormant=1, idle=2, other=2, said=1
)


@torch.no_grad()
def build_dormant(generator: torch.Generator) -> tuple[Transformer, Tensor]:
    """Build a model that says x after `x z = ?`, and the turn of its stream.

    At `=`, x is written along `carried`, which the second layer reads, and louder along `shadow`,
    which it does not, and which z moves a little, too. `dormant` is read and next to constant;
    `idle` neither varies nor is read.
    """
    token, position, other = STREAM["token"], STREAM["position"], STREAM["other"]
    carried, shadow, dormant = (STREAM[name] for name in ("carried", "shadow", "dormant"))
    sizes = dict(n_layers=2, n_heads=2, d_head=N_Z, attn_scale=1.0)
    model = by_hand.make_blank(Config(len(token), 4, STREAM.d_model, **sizes))
    by_hand.write_embedding(model, token, position)
    written = carried + LOUD * shadow
    jitter = torch.rand(N_Z, 1, generator=generator)
    angle = 2 * torch.pi * (torch.arange(N_Z)[:, None] + 0.6 * jitter) / N_Z
    by_z = 1.5 * torch.cat([angle.cos(), angle.sin()], dim=1) @ other
    for size, along in ((0.3, shadow), (FAINT, dormant)):
        order = torch.randperm(N_Z, generator=generator)
        by_z += size * torch.linspace(-1, 1, N_Z)[order, None] * along
    brings = (token[:2], torch.cat([-written, written])), (token[2 : 2 + N_Z], by_z)
    for head, (source, target) in enumerate(brings):
        by_hand.attend_where_equal(model, 0, head, position[2, None], position[head, None], 20.0)
        by_hand.copy_directions(model, 0, head, source, target)
    by_hand.attend_where_equal(model, 1, 0, position[3, None], position[2, None], 20.0)
    by_hand.copy_directions(model, 1, 0, carried + READ * dormant, STREAM["said"])
    model.W_pos[2] += MEAN * dormant[0]
    model.W_pos[3] -= MEAN * READ * STREAM["said"][0]
    rest = (-20 * token[-1, None]).expand(len(token) - 2, -1)
    by_hand.read_out(model, torch.cat([-STREAM["said"], STREAM["said"], rest]), 1.0)
    turn = draw_rows(generator, STREAM.d_model, STREAM.d_model)
    writers = [model.W_E, model.W_pos, *(block.attn.W_O for block in model.blocks)]
    for weight in writers:
        weight.copy_(weight @ turn)
    attentions = [block.attn for block in model.blocks]
    readers = [weight for attn in attentions for weight in (attn.W_Q, attn.W_K, attn.W_V)]
    for weight in (*readers, model.W_U):
        weight.copy_(turn.T @ weight)
    return model, turn


def mix(**parts: float) -> Tensor:
    """Return a unit direction that is the sum of named ones (1, d)."""
    row = sum(size * STREAM[name][:1] for name, size in parts.items())
    return torch.nn.functional.normalize(torch.as_tensor(row), dim=1)


Kinds = list[tuple[str, Tensor]]


def list_subspaces(leaning: Kinds) -> Kinds:
    """List subspaces of each kind, beside those that lean away from what carries x."""
    c, s, d, o = (STREAM[name][:1] for name in ("carried", "shadow", "dormant", "other"))
    e, other = STREAM["idle"], STREAM["other"]
    illusion = mix(shadow=1, dormant=1)
    level = mix(carried=1, other=1)  # with the next its confined rows are not at right angles
    steep = 0.42 * (c - o) / 2**0.5 + (1 - 0.42**2) ** 0.5 * d
    return [
        *leaning,
        ("carries", c),
        ("carries", mix(carried=1, shadow=LOUD)),
        ("carries", mix(carried=2, idle=1)),
        ("carries", mix(carried=2, dormant=0.5)),
        ("carries", mix(carried=3, dormant=4)),
        ("carries", torch.cat([level + steep, level - steep]) / 2**0.5),
        ("carries", torch.cat([c, d])),
        ("carries", torch.cat([c, e])),
        ("carries", torch.cat([illusion, mix(idle=1, carried=0.005)])),
        ("illusion", torch.cat([illusion, mix(idle=1, carried=0.0003)])),
        ("illusion", illusion),
        ("illusion", mix(shadow=3, dormant=4)),
        ("illusion", -mix(shadow=4, dormant=3)),
        ("illusion", torch.cat([illusion, e])),
        ("illusion", torch.cat([illusion, other])),
        ("useless", s),
        ("useless", d),
        ("useless", torch.cat([s, d])),
        ("useless", other),
    ]


def list_leaning(model: Transformer, prompts: Tensor, answers: Tensor, turn: Tensor) -> Kinds:
    """List subspaces that are right for little more than 90% of all pairs, or for little less.

    Before they are confined, or after. The first is right for less of all pairs but those of a
    prompt with itself, and of those for which the answer has to change. Empty if there are none.
    """
    with torch.no_grad():
        h = model.run_with_cache(prompts)[1][LAST][:, 2] @ turn.T
    base, source = pair_all(len(prompts))
    read = STREAM["carried"][0] + READ * STREAM["dormant"][0]
    sign = 2.0 * answers[base, source] - 1
    moves = answers[base, source] != prompts[base, 0]
    follows = source == (base + 1) % len(prompts)

    def judge(rows: Tensor) -> Tensor:
        """Compute how clearly each row's swaps are right (row, pair)."""
        change = (rows @ (h[source] - h[base]).T) * (rows @ read)[:, None]
        return (h[base] @ read - MEAN * READ + change) * sign

    sizes = torch.cartesian_prod(torch.arange(0.02, 1.0, 0.02), torch.arange(0, 0.6, 0.04))
    c, d, o = (STREAM[name][:1] for name in ("carried", "dormant", "other"))
    inside = c + sizes[:, :1] * o
    rows = torch.nn.functional.normalize(inside + sizes[:, 1:] * d)
    before, after = judge(rows), judge(torch.nn.functional.normalize(inside))
    is_clear = torch.minimum(before.abs().amin(dim=1), after.abs().amin(dim=1)) > 0.01
    share, left = ((margins > 0).float().mean(dim=1) for margins in (before, after))
    where_moved, where_next = ((before > 0)[:, w].float().mean(dim=1) for w in (moves, follows))
    is_just = ((before < 0).sum(dim=1) == 14) & (left > 0.9)
    kinds = {
        "of all pairs only": ("carries", is_just & (where_moved < 0.88)),
        "of the next only": ("useless", (share > 0.84) & (share < 0.89) & (where_next > 0.9)),
        "just": ("carries", (share > 0.904) & (left > 0.904) & (left < 0.945) & (left < share)),
        "of most": ("useless", (share > 0.75) & (share < 0.86) & (where_next < 0.9)),
        "too little": ("illusion", (share > 0.904) & (left > 0.78) & (left < 0.89)),
    }
    found = [(word, rows[fits & is_clear][:1]) for word, fits in kinds.values()]
    return found if all(len(row) for _, row in found) else []


def share_brought(model: Transformer, prompts: Tensor, answers: Tensor, rows: Tensor) -> float:
    margins = measure_margins(swap(model, prompts, (LAST, 2, rows)), answers)
    return (margins > 0).float().mean().item()


def confine(model: Transformer, prompts: Tensor, rows: Tensor) -> Tensor:
    """Confine a subspace to where activations vary, by projectors and their eigenvectors."""
    with torch.no_grad():
        h = model.run_with_cache(prompts)[1][LAST][:, 2].double()
    differences = (h[:, None] - h).flatten(0, 1)
    values, axes = torch.linalg.eigh(differences.T @ differences)
    axes = axes[:, values > 1e-6 * values[-1]]
    inside = rows.double() @ axes @ axes.T
    values, left = torch.linalg.eigh(inside.T @ inside)
    return left[:, values > 1e-6].T.float()


def plant_illusions(seed: int) -> tuple[Transformer, Tensor, Tensor, Kinds] | None:
    """Plant a model, prompts, answers, and subspaces with their words, if these are clear."""
    generator = start(seed)
    model, turn = build_dormant(generator)
    ends = torch.tensor([2 + N_Z]), torch.tensor([3 + N_Z])
    prompts = torch.cartesian_prod(torch.arange(2), torch.arange(2, 2 + N_Z), *ends)
    mixed = torch.randperm(len(prompts), generator=generator)
    by_x = prompts[mixed, 0].argsort(stable=True, descending=bool(seed % 2))
    prompts = prompts[mixed][by_x]  # one half has the same x
    answers = prompts[:, 0].expand(len(prompts), -1).contiguous()
    with torch.no_grad():
        h = model.run_with_cache(prompts)[1][LAST][: len(prompts) // 2, 2]
    size = torch.linalg.svdvals(h - h.mean(dim=0))
    if size[3] < 1.02e-3 * size[0]:  # the span of one half is taken for more than no span at all
        return None
    leaning = list_leaning(model, prompts, answers, turn)
    if not leaning:
        return None
    kinds = []
    for word, plain in list_subspaces(leaning):
        rows = plain @ turn
        if len(rows) > 1 and abs(float(plain[0] @ plain[1])) < 1e-3 and plain[0].ne(0).sum() < 3:
            rows = draw_rows(generator, len(rows), len(rows)) @ rows
        brought = share_brought(model, prompts, answers, rows) >= 0.9
        left = confine(model, prompts, rows)
        still = brought and share_brought(model, prompts, answers, left) >= 0.9
        found = "carries" if still else "illusion" if brought else "useless"
        if found != word:
            return None
        kinds.append((word, rows))
    kinds = [kinds[i] for i in torch.randperm(len(kinds), generator=generator).tolist()]
    return model, prompts, answers, kinds


@functools.cache
def plant_clear_illusions(seed: int) -> tuple[Transformer, Tensor, Tensor, Kinds]:
    return draw_until_clear(seed, plant_illusions)


def judge_words(student, seed: int) -> None:
    model, prompts, answers, kinds = plant_clear_illusions(seed)
    right = [word for word, _ in kinds]
    subspaces = [rows for _, rows in kinds]
    got = as_list(student.call("tell_illusions", model, prompts, answers, LAST, 2, subspaces))
    if got is None or len(got) != len(right) or not set(got) <= set(WORDS):
        raise Wrong(sentence=f"Return {len(right)} words, each of them one of {', '.join(WORDS)}.")
    wrong = [(given, word) for given, word in zip(got, right, strict=True) if given != word]
    if wrong:
        kinds_of_error = sorted({f"{given!r} for {word!r}" for given, word in wrong})
        raise Wrong(
            sentence=f"{len(wrong)} of {len(right)} words are wrong: {', '.join(kinds_of_error)}."
        )


@check("tell_illusions", weight=2)
def test_illusions_are_told_apart(student):
    """Subspaces of one and of several dimensions, in a model that you have never seen."""
    judge_words(student, student.seeds(1)[0])


@check("tell_illusions")
def test_illusions_are_told_apart_in_another_model(student):
    """Another model, turned in another way."""
    judge_words(student, student.seeds(2)[1])


# 16.5 ---------------------------------------------------------------------------------------------


def list_features(planted: Planted) -> dict[str, Tensor]:
    """List what may matter of a prompt: nothing, inputs, results, pairs of them, or everything."""
    inputs = [planted.values[name] for name in planted.program.layout.tokens]
    features = {"nothing": torch.zeros(planted.n, dtype=torch.long)}
    features |= {f"input {i}": value for i, value in enumerate(inputs)}
    features |= {name: planted.values[name] for name in planted.variables}
    features |= {f"is {i}": (value == value.max()).long() for i, value in enumerate(inputs)}
    for i, j in itertools.combinations(range(len(inputs)), 2):
        features[f"inputs {i} and {j}"] = 3 * inputs[i] + inputs[j]
    features["answer"] = planted.own
    features["prompt"] = torch.arange(planted.n)
    return features


def find_enough(planted: Planted, variable: str | None, features: dict[str, Tensor]) -> list[str]:
    """List the features that are enough for a variable, those with fewest values first."""
    if variable is None:
        return ["nothing"]
    said = planted.answer_swaps(variable)
    enough = []
    for name, feature in features.items():
        same = feature[:, None] == feature
        if (said == planted.own[:, None])[same].all():
            enough.append(name)
    return sorted(enough, key=lambda name: len(features[name].unique()))


def spoil(planted: Planted, features: dict[str, Tensor], variable: str, name: str) -> bool:
    """Split a feature that is enough for a variable; beside it put one that fails for one swap.

    That one has fewer values. It takes a prompt, not among the first, for one with another value,
    together with prompts that hand on the same but for one, a later one. Return False if there is
    no such.
    """
    feature = features[name]
    fails = planted.answer_swaps(variable) != planted.own[:, None]
    order = torch.arange(planted.n)
    for prompt, value in itertools.product(range(12, planted.n), feature.unique()):
        there = feature == value
        bad = there & fails[:, prompt]
        if feature[prompt] == value or (fails[prompt] & there).any() or not bad[prompt:].any():
            continue
        nearly = feature.clone()
        taken = there & (~bad | (order == bad.nonzero()[-1, 0]))
        nearly[taken | (order == prompt)] = 3
        same = nearly[:, None] == nearly
        if taken.sum() > 2 and same.sum() > 105:
            features["nearly"], features["split"] = nearly, 2 * feature + order % 2
            del features[name]
            return True
    return False


@functools.cache
def plant_messages(seed: int, most: int) -> tuple[Planted, dict[str, Tensor], dict[str, str]]:
    """Plant a model, features of its prompts, and what each head hands on."""
    return draw_until_clear(seed, lambda seed: draw_messages(seed, most))


def draw_messages(seed: int, most: int) -> tuple[Planted, dict[str, Tensor], dict[str, str]] | None:
    """Draw them. Of many prompts, one of the features is not enough for a single swap."""
    planted = plant_some(seed, most, most) if most > MOST_PROMPTS else plant(seed)
    features = {}
    for name, feature in list_features(planted).items():
        same = feature[:, None] == feature
        if not any(((other[:, None] == other) == same).all() for other in features.values()):
            features[name] = feature
    fetches = [name for name, step in planted.program.steps.items() if step.op == "fetch"]
    brought = {planted.roles[f"fetch {i}"]: name for i, name in enumerate(fetches)}
    if most > MOST_PROMPTS:
        cases = [(step, f"input {i}") for step in fetches for i in range(3)]
        fitting = [
            (step, name)
            for step, name in cases
            if name in features and find_enough(planted, step, features)[0] == name
        ]
        if not any(spoil(planted, features, *case) for case in fitting):
            return None
    right = {}
    for layer, head in itertools.product(
        range(planted.model.config.n_layers), range(planted.model.config.n_heads)
    ):
        node = f"a{layer}.h{head}"
        enough = find_enough(planted, brought.get(node), features)
        right[node] = enough[0]
        fewest = len(features[enough[0]].unique())
        for tied in enough[1:]:  # leave one only
            if len(features[tied].unique()) == fewest and tied not in right.values():
                del features[tied]
    is_clear = most == MOST_PROMPTS or ("nearly" in features and "split" in right.values())
    return (planted, features, right) if is_clear else None


def judge_messages(student, seed: int, most: int = MOST_PROMPTS) -> None:
    planted, features, right = plant_messages(seed, most)
    rng = random.Random(seed)
    names = list(features)
    rng.shuffle(names)
    shown = {name: f"feature {i}" for i, name in enumerate(names)}
    given = {}
    for name in names:
        values = features[name]
        numbers = torch.tensor(rng.sample(range(100), int(values.max()) + 1))
        given[shown[name]] = numbers[values]
    got = student.call("name_messages", planted.model, planted.prompts, given)
    if not isinstance(got, dict) or set(got) != set(right):
        raise Wrong(sentence=f"Return a dict with a feature for each head: {', '.join(right)}.")
    strange = [name for name in got.values() if name not in given]
    if strange:
        raise Wrong(sentence=f"{strange[0]!r} is none of the features that you got.")
    nothing = shown["nothing"]
    named = [f"{head}: {name}" for head, name in got.items() if name != nothing]
    wanted = {f"{head}: {shown[name]}" for head, name in right.items() if name != "nothing"}
    possible = [f"{head}: {name}" for head in right for name in given]
    expect_found(named, [wanted], possible, what="messages of heads")


@check("name_messages", weight=2)
def test_what_each_head_hands_on_is_named(student):
    """Heads that hand on inputs, and heads that hand on nothing that matters."""
    judge_messages(student, student.seeds(1)[0])


@check("name_messages")
def test_what_heads_of_another_model_hand_on_is_named(student):
    """Another model, more prompts, and a feature that fails for one swap only."""
    judge_messages(student, student.seeds(2)[1], MANY_PROMPTS)
