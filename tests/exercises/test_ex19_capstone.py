"""Grade lesson 19.

Models are forged. What their components carry, and what changes if it is exchanged, says the
program that they run; no check runs a model.
"""

import dataclasses
import functools
import itertools
import math
import random
from typing import Any

import torch
from torch import Tensor

from mini_transformer import forge
from mini_transformer.course.grading.checks import Wrong, as_list, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.edges import Edge, Switch, list_writers
from mini_transformer.forge.program import Program, draw_layout, draw_program, refuse
from mini_transformer.model import Transformer

MUTANTS = load_mutants(__file__)


def start(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def choose(generator: torch.Generator, n: int, k: int) -> list[int]:
    return torch.randperm(n, generator=generator)[:k].tolist()


# Planted models -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Planted:
    """Hold a forged model and, for each component and position of its circuit, what it carries.

    `carries` maps a name such as "m2 @4" to a step of the program. Row i of `prompts`, as the model
    sees them, is row i of the program's prompts.
    """

    case: forge.ForgedCase
    prompts: Tensor
    answers: Tensor
    carries: dict[str, str]

    @property
    def model(self) -> Transformer:
        return self.case.model

    @functools.cached_property
    def names(self) -> list[str]:
        """Name every component at every position."""
        nodes = [node for node in list_writers(self.model) if node != "input"]
        return [f"{node} @{at}" for node in nodes for at in range(self.prompts.shape[1])]

    @functools.cached_property
    def exchanges(self) -> dict[str, Tensor]:
        """Compute what is answered, (base, source), if a step's value is exchanged."""
        return compute_exchanges(self.case.program)

    def exchange(self, name: str) -> Tensor:
        """Return what is answered, (base, source), if a component's variable is exchanged."""
        return self.exchanges[self.carries.get(name, "")]


def compute_exchanges(program: Program) -> dict[str, Tensor]:
    prompts = program.prompts
    own = program.run(prompts)
    found = {"": own[program.answer][:, None].expand(-1, len(prompts))}
    for step in program.steps:
        given = range(program.layout.n)
        answers = [
            program.run(prompts, {step: torch.full_like(own[step], value)})[program.answer]
            for value in given
        ]
        found[step] = torch.stack(answers, dim=1)[:, own[step]]
    return found


KNOBS: dict[str, Any] = {
    "tasks": 0,
    "decoys": 0,
    "redundancy": "none",
    "positions": "fixed",
}


def draw_first(seed: int) -> Program:
    """Draw the program that `forge.make` builds first, in a hundredth of its time."""
    rng = random.Random(f"forge {seed}")
    while True:
        program = draw_program(rng, draw_layout(rng, 2, "fixed", 1, 3), 2)
        if not refuse(program):
            return program


def is_rich(program: Program) -> bool:
    """Say whether a table and a fetched variable do not matter for some of 27 prompts."""
    if len(program.prompts) != 27:
        return False
    exchanges = compute_exchanges(program)
    own = exchanges[""]
    idle = [name for name in program.steps if (exchanges[name] == own).all(dim=1).sum() > 2]
    return {bool(program.steps[name].table) for name in idle} == {True, False}


@functools.cache
def plant(seed: int) -> Planted:
    """Forge a small model of a rich program, in which each step has a component of its own."""
    for attempt in range(1000):
        own = seed % 2**24 + attempt
        if not is_rich(draw_first(own)):
            continue
        case = forge.make(own, 2, **KNOBS)
        config, program = case.model.config, case.program
        if config.n_layers > 5 or config.n_heads > 3 or not is_rich(program):
            continue
        carries = match_steps(case)
        if len(carries) == len(program.steps):
            batch = case.task.everything().distinct()
            return Planted(case, batch.clean, batch.answer, carries)
    raise AssertionError(f"no model of 1000 has the size that is needed, from seed {seed} on")


def match_steps(case: forge.ForgedCase) -> dict[str, str]:
    """Match the circuit's components, where they write, to the program's steps."""
    (circuit,) = case.truth.by_position["resample"].edges
    writers = {
        (str(writer), switch.position)
        for switch in map(Switch.parse, circuit)
        if (writer := Edge.parse(switch.edge).writer).kind != "input"
    }
    sites = {
        name: (variable.site, variable.position) for name, variable in case.truth.variables.items()
    }
    found = {}
    for node, position in writers:
        layer = node[1:].split(".")[0]
        site = f"blocks.{layer}.hook_resid_{'mid' if node.startswith('a') else 'post'}"
        steps = [name for name, place in sites.items() if place == (site, position)]
        found[f"{node} @{position}"] = steps[0] if len(steps) == 1 else case.program.answer
    if len(set(found.values())) < len(found):
        return {}
    return found


# 19.1 ---------------------------------------------------------------------------------------------


def list_hits(planted: Planted, base: list[int], source: list[int]) -> dict[str, Tensor]:
    """List for each component of the circuit in which pairs it changes the answer."""
    own = planted.exchange("")[base, base]
    return {name: planted.exchange(name)[base, source] != own for name in planted.carries}


def name_hits(planted: Planted, base: list[int], source: list[int]) -> set[str]:
    return {name for name, hits in list_hits(planted, base, source).items() if hits.any()}


@functools.cache
def draw_pairs(seed: int, is_whole: bool) -> tuple[Planted, Tensor, Tensor, set[str]]:
    """Draw pairs of prompts that show the whole circuit, or a part of it.

    Other pairs of the same prompts, or fewer, show something else.
    """
    planted = plant(seed)
    generator = start(seed + is_whole)
    own = planted.exchange("")[:, 0]
    for _ in range(3000):
        if is_whole:
            base, source = choose(generator, 27, 5), choose(generator, 27, 5)
        else:
            base, source = draw_neighbours(planted.prompts, generator)
        hits = list_hits(planted, base, source)
        right = {name for name, hit in hits.items() if hit.any()}
        if (right == set(planted.carries)) != is_whole or len(right) < 2:
            continue
        others = [(base[:1], source[:1])]
        if is_whole:
            got = {name: planted.exchange(name)[base, source] for name in right}
            is_telling = any(
                (got[name][hits[name]] != own[source][hits[name]]).all() for name in right
            )
        else:
            others += [(base, source[1:] + source[:1]), (base, source[:1] * len(base))]
            is_telling = any(hits[name].float().mean() < 0.5 for name in right)
            is_telling &= name_hits(planted, *others[1]) != name_hits(planted, *others[2])
        if is_telling and all(name_hits(planted, *pair) != right for pair in others):
            return planted, planted.prompts[base], planted.prompts[source], right
    raise AssertionError(f"no pairs of 3000 will do, from seed {seed} on")


def draw_neighbours(prompts: Tensor, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Draw 8 pairs that differ at one position only, the same in all."""
    varying = (prompts != prompts[0]).any(dim=0).nonzero()[:, 0].tolist()
    at = varying[choose(generator, len(varying), 1)[0]]
    base = choose(generator, len(prompts), 8)
    rest = [i for i in range(prompts.shape[1]) if i != at]
    source = []
    for row in base:
        near = (prompts[:, rest] == prompts[row, rest]).all(dim=1).nonzero()[:, 0].tolist()
        source.append(near[choose(generator, len(near), 1)[0]])
    return base, source


def judge_traces(student, is_whole: bool) -> None:
    cases = [draw_pairs(seed, is_whole) for seed in student.seeds(2)]
    answers = [student.call("trace_components", case[0].model, *case[1:3]) for case in cases]
    for got, (planted, _, _, right) in zip(answers, cases, strict=True):
        expect_found(got, [right], planted.names, what="components with their positions")


@check("trace_components", weight=2)
def test_what_carries_the_answer_is_found(student):
    """In two models made for you alone, with pairs that show all that decides."""
    judge_traces(student, is_whole=True)


@check("trace_components")
def test_what_decides_for_few_prompts_is_found(student):
    """In two models, with pairs that need a part only."""
    judge_traces(student, is_whole=False)


# 19.2 ---------------------------------------------------------------------------------------------


def number(values: Any) -> list[int]:
    """Number values by when each stands first."""
    seen: dict = {}
    return [seen.setdefault(value, len(seen)) for value in values]


def number_rows(rows: Tensor) -> list[int]:
    return number(tuple(row) for row in rows.tolist())


def view_numbers(answer: Any, *args: Any) -> list[int]:
    return number(as_list(answer) or [])


VIEWS = {"read_variable": view_numbers}


def share_values(planted: Planted, name: str, rows: list[int]) -> list[int]:
    """Number the rows by what their variable does in all of the rows."""
    return number_rows(planted.exchange(name)[rows][:, rows].T)


def is_misread(planted: Planted, name: str, rows: list[int], merges: bool) -> bool:
    """Say whether other ways to sort the prompts, and in part the variable's values, fail."""
    right = share_values(planted, name, rows)
    answers = planted.exchange(name)[rows][:, rows]
    own = answers.diagonal()
    step = planted.case.program.run(planted.case.program.prompts)[planted.carries[name]][rows]
    others = [number(own.tolist()), number_rows(answers)]
    if merges:
        others += [number(step.tolist()), number(answers[0].tolist())]
    return len(set(right)) > 1 and right not in others


@functools.cache
def draw_variables(seed: int, kind: str, merges: bool) -> tuple[Planted, str, list[int], list[int]]:
    """Draw a component of a kind, and prompts in which some of its values may do the same."""
    generator = start(seed + merges)
    for trial in range(6000):
        planted = plant(seed + 1000 * (trial // 600))  # if this model will not do, another
        names = sorted(name for name in planted.carries if name[0] == kind)
        name = names[choose(generator, len(names), 1)[0]]
        rows = choose(generator, 27, 27)
        if merges:
            answers = planted.exchange(name)
            one, other = choose(generator, 27, 2)
            rows = [row for row in rows if answers[row, one] == answers[row, other]]
            rows = rows[: 6 + choose(generator, 21, 1)[0]]
        if len(rows) > 5 and is_misread(planted, name, rows, merges):
            return planted, name, rows, share_values(planted, name, rows)
    raise AssertionError(f"no component will do, from seed {seed} on")


def judge_variables(student, merges: bool) -> None:
    for seed, kind in zip(student.seeds(2), "ma", strict=True):
        planted, name, rows, right = draw_variables(seed, kind, merges)
        component, position = name.split(" @")
        prompts = planted.prompts[rows]
        got = as_list(
            student.call("read_variable", planted.model, prompts, component, int(position))
        )
        if got is None or len(got) != len(rows) or not all(is_whole_number(x) for x in got):
            raise Wrong(sentence=f"Return {len(rows)} whole numbers, one for each prompt.")
        if number(got) != right:
            raise Wrong(
                sentence=f"You tell {len(set(got))} values of {component} at position {position} "
                f"apart, and there are {len(set(right))}; or you sort the prompts otherwise."
            )


def is_whole_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and x == int(x)


@check("read_variable")
def test_a_variable_is_read_in_all_prompts(student):
    """An MLP of one model and a head of another, all prompts."""
    judge_variables(student, merges=False)


@check("read_variable", weight=2)
def test_values_that_do_the_same_are_one(student):
    """In some of the prompts, where several values do the same."""
    judge_variables(student, merges=True)


# 19.3 ---------------------------------------------------------------------------------------------


def write_explanations(planted: Planted, generator: torch.Generator, n: int) -> Tensor:
    """Write what programs with other tables say, the right one among them."""
    program = planted.case.program
    values = program.compute(program.prompts).tolist()
    token_of = dict(zip(values, planted.answers.tolist(), strict=True))
    rows = [planted.answers]
    tables = [name for name, step in program.steps.items() if step.table]
    while len(rows) < n:
        name = tables[choose(generator, len(tables), 1)[0]]
        table = list(program.steps[name].table)
        for place in choose(generator, len(table), 1 + len(rows) % 3):
            table[place] = choose(generator, program.layout.n, 1)[0]
        step = dataclasses.replace(program.steps[name], table=tuple(table))
        other = dataclasses.replace(program, steps=program.steps | {name: step})
        values = other.compute(program.prompts).tolist()
        if set(values) <= set(token_of):
            rows.append(torch.tensor([token_of[value] for value in values]))
    order = choose(generator, n, n)
    return torch.stack(rows)[order]


def weigh_explanations(
    explanations: list, seen: list, answers: list, asked: list, doubt: float, n_tokens: int
) -> list[list[float]]:
    """Count by loops what each token of each prompt gets."""
    kept: list = []
    for explanation in explanations:
        if explanation in kept:
            continue
        if all(explanation[p] == answer for p, answer in zip(seen, answers, strict=True)):
            kept.append(explanation)
    rows = []
    for p in asked:
        row = []
        for token in range(n_tokens):
            share = sum(one[p] == token for one in kept) / len(kept) if kept else 1 / n_tokens
            row.append((1 - doubt) * share + doubt / n_tokens if kept else share)
        rows.append(row)
    return rows


def draw_prediction(seed: int, n_seen: int, doubt: float, is_known: bool) -> tuple:
    """Draw explanations of a model, some refuted, some said twice, and 20 questions."""
    planted = plant(seed)
    generator = start(seed + n_seen)
    n_tokens = planted.model.config.d_vocab
    for _ in range(1000):
        explanations = write_explanations(planted, generator, 30)
        if not is_known:  # the right one and all that agree with it are not among them
            differs = (explanations != planted.answers).any(dim=1)
            explanations = explanations[differs]
        seen, asked = choose(generator, 27, n_seen), choose(generator, 27, 20)
        answers = planted.answers[seen]
        fits = (explanations[:, seen] == answers).all(dim=1)
        left = explanations[fits]
        if not is_known:
            explanations, n_left = explanations[~fits], 0
        else:
            distinct, counts = left.unique(dim=0, return_counts=True)
            n_left = len(distinct)
            spread = [row.unique(return_counts=True)[1] for row in distinct[:, asked].T]
            is_open = sum(len(row) > 1 for row in spread) > 2
            if not (3 <= n_left < len(left) and counts.unique().numel() > 1 and is_open):
                continue
        if len(explanations) > n_left:
            return explanations, seen, answers, asked, doubt, n_tokens
    raise AssertionError(f"no explanations of 1000 will do, from seed {seed} on")


def judge_predictions(student, cases: list[tuple[int, float, bool]]) -> None:
    questions = [
        draw_prediction(seed, *case)
        for seed, case in zip(student.seeds(2) * 2, cases, strict=False)
    ]
    answers = [student.call("predict_answers", *question) for question in questions]
    for got, (explanations, seen, told, *rest) in zip(answers, questions, strict=True):
        want = weigh_explanations(explanations.tolist(), seen, told.tolist(), *rest)
        expect(got, torch.tensor(want), what="the probabilities")


@check("predict_answers", weight=2)
def test_explanations_that_fit_share_the_probability(student):
    """Of explanations of forged models, some are refuted, and some say the same."""
    judge_predictions(student, [(6, 0.1, True), (4, 0.35, True), (5, 0.0, True)])


@check("predict_answers")
def test_what_to_say_if_all_explanations_are_refuted(student):
    """All refuted, and some left."""
    judge_predictions(student, [(8, 0.2, False), (5, 0.5, True), (12, 0.05, False)])


# 19.4 ---------------------------------------------------------------------------------------------


def describe(prompts: Tensor, pairs: Any) -> Tensor:
    """Say which prompts a description describes."""
    described = torch.ones(len(prompts), dtype=torch.bool)
    for at, token in pairs:
        described &= prompts[:, at] == token
    return described


@functools.cache
def list_descriptions(planted: Planted, most: int) -> Tensor:
    """List which of all prompts are described by tokens at up to so many positions."""
    prompts = planted.prompts
    found = set()
    for places in itertools.combinations(range(prompts.shape[1]), most):
        values = [sorted(set(prompts[:, at].tolist())) for at in places]
        for tokens in itertools.product(*values):
            for size in range(most + 1):
                pairs = list(zip(places, tokens, strict=True))[:size]
                found.add(tuple(describe(prompts, pairs).tolist()))
    return torch.tensor(sorted(found))


def measure_width(described: Tensor, is_true: Tensor) -> int:
    """Measure how many prompts the widest description describes, of (description, prompt)."""
    counts = ~(described & ~is_true).any(dim=1)
    return int((described.sum(dim=1) * counts).max())


def measure_widths(planted: Planted, rows: list[int], same: Tensor) -> dict[str, int]:
    """Measure how wide a description each reading of the claim finds, the right one first."""
    described = list_descriptions(planted, 2)[:, rows]
    right = measure_width(described, same.all(dim=1))
    inside = ((described.float() @ (~same).float()) * described).sum(dim=1) == 0
    return {
        "right": right,
        "nowhere": 0,
        "one position": measure_width(list_descriptions(planted, 1)[:, rows], same.all(dim=1)),
        "sources inside": int((described.sum(dim=1) * inside).max()),
        "first source": measure_width(described, same[:, 0]),
        "the source's claim": measure_width(described, same.all(dim=0)),
        "most prompts": int(
            (described.sum(1) * (2 * (described & same.all(1)).sum(1) >= described.sum(1))).max()
        ),
        "most sources": measure_width(described, same.float().mean(dim=1) > 0.5),
    }


@functools.cache
def draw_claims(seeds: tuple[int, ...]) -> list[tuple[Planted, str, list[int], int]]:
    """Draw components and prompts so that each misreading is caught by one of them."""
    generator = start(seeds[0])
    found: list = []
    histories: dict[str, list[int]] = {}  # widths by reading, claim by claim
    for trial in range(6000):
        seed = seeds[trial % len(seeds)] + 1000 * (trial // 600)  # these models may not do
        planted = plant(seed)
        names = sorted(planted.carries)
        name = names[choose(generator, len(names), 1)[0]]
        rows = choose(generator, 27, 27 - choose(generator, 14, 1)[0])
        answers = planted.exchange(name)[rows][:, rows]
        widths = measure_widths(planted, rows, answers == answers.diagonal()[:, None])
        longer = {words: [*histories.get(words, []), width] for words, width in widths.items()}
        known = len(set(map(tuple, histories.values()))) if histories else 1
        gain = len(set(map(tuple, longer.values()))) - known
        # At first a claim must tell several readings apart.
        if widths["right"] > 1 and gain > (2 if trial < 100 else 0):
            found.append((planted, name, rows, widths["right"]))
            histories = longer
        is_told = known + gain == len(widths) and histories == longer
        if is_told and len({claim[3] for claim in found}) > 1:
            return found
    raise AssertionError(f"claims do not tell all readings apart, from seeds {seeds} on")


Claim = tuple[Planted, str, list[int], int]


def judge_claims(student, claims: list[Claim]) -> None:
    answers = []
    for planted, name, rows, _ in claims:
        component, position = name.split(" @")
        inputs = planted.model, planted.prompts[rows], component, int(position)
        answers.append(student.call("widen_claim", *inputs))
    for got, claim in zip(answers, claims, strict=True):
        judge_claim(got, *claim)


def judge_claim(got: Any, planted: Planted, name: str, rows: list[int], right: int) -> None:
    component, position = name.split(" @")
    prompts = planted.prompts[rows]
    what = f"of {component} at position {position}"
    if isinstance(got, str):
        if got != "nowhere":
            raise Wrong(sentence='Return a dict from positions to tokens, or the word "nowhere".')
        if right:
            raise Wrong(sentence=f'You say "nowhere" {what}; it is true of {right} prompts.')
        return
    pairs = list(got.items()) if isinstance(got, dict) else [("", "")]
    if not all(is_whole_number(x) for pair in pairs for x in pair):
        raise Wrong(sentence='Return a dict from positions to tokens, or the word "nowhere".')
    if len(pairs) > 2 or not all(0 <= at < prompts.shape[1] for at, _ in pairs):
        raise Wrong(sentence=f"{got} fixes more than two positions, or one that does not exist.")
    described = describe(prompts, pairs)
    answers = planted.exchange(name)[rows][:, rows]
    false = int((answers != answers.diagonal()[:, None]).any(dim=1)[described].sum())
    n = int(described.sum())
    if false or n < right or not n:
        raise Wrong(
            sentence=f"{got} describes {n} prompts, and the claim {what} is false of {false} of "
            f"them; the widest that is true describes {right}."
        )


@check("widen_claim", weight=3)
def test_the_widest_true_description_is_found(student):
    """Components that matter for some prompts, in models made for you alone."""
    judge_claims(student, draw_claims(tuple(student.seeds(2))))


@check("widen_claim")
def test_claims_that_are_true_everywhere_or_nowhere(student):
    """A component that nothing depends on, and one on which everything does."""
    planted = plant(student.seeds(1)[0])
    rows = choose(start(27), 27, 27)
    last = next(n for n, step in planted.carries.items() if step == planted.case.program.answer)
    places = {name.split(" @")[0] for name in planted.carries}
    idle = next(name for name in planted.names if name.split(" @")[0] not in places)
    judge_claims(student, [(planted, idle, rows, 27), (planted, last, rows, 0)])


# 19.5 ---------------------------------------------------------------------------------------------

N_MODELS = 34
CRITICAL = 2.0345  # Student's t, 33 degrees of freedom, 95%


def measure_interval(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))
    half = CRITICAL * spread / math.sqrt(len(values))
    return mean - half, mean + half


def name_verdict(low: float, high: float) -> str:
    return "first" if low > 0 else "second" if high < 0 else "undecided"


@functools.cache
def plant_scores(seed: int, verdict: str) -> tuple[Tensor, Tensor, list[str], float, float]:
    """Plant scores of two methods whose difference is clear, or clearly unclear.

    Models differ much more than methods do. A few models have many runs, on which the methods
    differ the other way, and a few answers are missing.
    """
    generator = start(seed)
    effect = {"first": 0.09, "second": -0.09, "undecided": 0.0}[verdict]
    sign = -1 if verdict == "second" else 1
    for _ in range(500):
        runs = [9, 8, 7, 6] + [1 + int(i % 3 == 0) for i in range(N_MODELS - 4)]
        rows = []
        for i, n in enumerate(runs):
            level = 0.3 + 0.4 * float(torch.rand(1, generator=generator))
            shift = effect + 0.14 * float(torch.randn(1, generator=generator))
            if i < 4:
                shift = -0.15 * sign
            for _ in range(n):
                noise = 0.02 * torch.randn(2, generator=generator)
                rows.append((i, level + shift / 2 + noise[0], level - shift / 2 + noise[1]))
        order = choose(generator, len(rows), len(rows))
        models = [f"model_{rows[j][0]:02}" for j in order]
        first, second = (torch.tensor([float(rows[j][k]) for j in order]) for k in (1, 2))
        worse = first if sign < 0 else second
        single = [i for i, model in enumerate(models) if models.count(model) == 1]
        for i in sorted(single, key=lambda i: float(worse[i]))[4:8]:
            worse[i] = torch.nan
        differences: dict[str, list[float]] = {}
        for model, a, b in zip(models, first.tolist(), second.tolist(), strict=True):
            a, b = (0.0 if math.isnan(x) else x for x in (a, b))
            differences.setdefault(model, []).append(a - b)
        low, high = measure_interval([sum(x) / len(x) for x in differences.values()])
        room = 0.12 * (high - low)
        is_clear = min(abs(low), abs(high)) > room
        if name_verdict(low, high) == verdict and is_clear:
            return first, second, models, low, high
    raise AssertionError(f"no scores of 500 will do, from seed {seed} on")


def judge_comparison(student, verdicts: tuple[str, ...]) -> None:
    for seed, verdict in zip(student.seeds(len(verdicts)), verdicts, strict=True):
        first, second, models, low, high = plant_scores(seed, verdict)
        got = as_list(student.call("compare_methods", first, second, models))
        if got is None or len(got) != 3 or not isinstance(got[2], str):
            raise Wrong(sentence="Return two numbers and a word: (low, high, verdict).")
        if not all(isinstance(x, (int, float)) for x in got[:2]):
            raise Wrong(sentence="The ends of the interval must be numbers.")
        off = max(abs(got[0] - low), abs(got[1] - high)) / (high - low)
        if not off < 0.07:
            raise Wrong(
                sentence=f"Your interval is {got[0]:.4f} to {got[1]:.4f}, Student's t gives "
                f"{low:.4f} to {high:.4f}."
            )
        if got[2] != verdict:
            raise Wrong(sentence=f"The interval is right, but you say {got[2]!r}.")


@check("compare_methods", weight=2)
def test_planted_differences_are_seen(student):
    """Scores in which one method is better, and the other."""
    judge_comparison(student, ("first", "second"))


@check("compare_methods")
def test_nothing_is_claimed_where_nothing_is_planted(student):
    """Scores that do not decide, and some that do."""
    judge_comparison(student, ("undecided", "second", "first"))
