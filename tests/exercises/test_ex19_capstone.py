"""Grade lesson 19.

Models are forged, or set by hand from a rule and hidden. What their components carry, and what
changes if it is exchanged, says the program or the rule; no check runs a model.
"""

import dataclasses
import functools
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer import forge
from mini_transformer.course.grading.checks import Wrong, as_list, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.edges import Edge, Switch, list_writers
from mini_transformer.forge.disguise import disguise
from mini_transformer.forge.program import Program, draw_layout, draw_program, refuse
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


# Planted models -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Planted:
    """Hold a model and, for each component and position of its circuit, what it carries.

    `carries` maps a name such as "m2 @4" to a step. `exchanges` says what is answered, (base,
    source), if a step's value is exchanged; by the name "", if nothing is.
    """

    model: Transformer
    prompts: Tensor
    carries: dict[str, str]
    exchanges: dict[str, Tensor]

    @functools.cached_property
    def names(self) -> list[str]:
        """Name every component at every position."""
        nodes = [node for node in list_writers(self.model) if node != "input"]
        return [f"{node} @{at}" for node in nodes for at in range(self.prompts.shape[1])]

    @property
    def own(self) -> Tensor:
        return self.exchanges[""][:, 0]

    def exchange(self, name: str) -> Tensor:
        """Return what is answered, (base, source), if a component's variable is exchanged."""
        return self.exchanges[self.carries.get(name, "")]

    @functools.cached_property
    def changes(self) -> Tensor:
        """Say of each component of the circuit where it changes the answer, (base, source)."""
        return torch.stack([self.exchange(name) != self.own[:, None] for name in self.carries])

    def find(self, step: str) -> str:
        """Return the component and position that carry a step."""
        return next(name for name, carried in self.carries.items() if carried == step)


@dataclasses.dataclass(frozen=True, eq=False)
class Forged(Planted):
    """A forged model. Row i of `prompts`, as the model sees them, is row i of the program's."""

    program: Program
    answers: Tensor  # as the model says them


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
    """Say whether a table and a fetched variable do not matter for some of 27 prompts.

    For one of them there must be rare pairs, too.
    """
    if len(program.prompts) != 27:
        return False
    exchanges = compute_exchanges(program)
    own = exchanges[""]
    idle = [name for name in program.steps if (exchanges[name] == own).all(dim=1).sum() > 2]
    is_mixed = {bool(program.steps[name].table) for name in idle} == {True, False}
    return is_mixed and any(list_rare(exchanges, name) for name in idle)


def list_rare(exchanges: dict[str, Tensor], step: str) -> list[tuple[int, int]]:
    """List pairs (base, source) in which a step changes the answer, but not the other way round.

    The answer is that of neither prompt.
    """
    answers, own = exchanges[step], exchanges[""][:, 0]
    hits = answers != own[:, None]
    return [(i, j) for i, j in (hits & ~hits.T & (answers != own)).nonzero().tolist()]


@functools.cache
def plant(seed: int) -> Forged:
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
            exchanges = compute_exchanges(program)
            return Forged(case.model, batch.clean, carries, exchanges, program, batch.answer)
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


Values = tuple[int, ...]  # of a prompt, position by position
Rule = Callable[[Values], int]
N_ANSWERS = 4


def plant_rule(sizes: Values, rule: Rule, generator: torch.Generator) -> Planted:
    """Set a model by hand that answers by a rule, and hide it.

    A prompt has one of `sizes[i]` tokens at position i; there are all prompts. Heads bring each
    position to the last one, where an MLP looks the answer up.
    """
    prompts = list(itertools.product(*map(range, sizes)))
    hidden = disguise(build_rule(sizes, prompts, rule, generator), generator)
    last = len(sizes) - 1
    carries = {hidden.rename(f"a0.h{i}") + f" @{last}": f"x{i}" for i in range(len(sizes))}
    carries[f"m0 @{last}"] = "answer"
    own = torch.tensor([rule(prompt) for prompt in prompts])
    exchanges = {"": own[:, None].expand(-1, len(own)), "answer": own.expand(len(own), -1)}
    for i in range(len(sizes)):
        rows = [
            [rule((*base[:i], source[i], *base[i + 1 :])) for source in prompts] for base in prompts
        ]
        exchanges[f"x{i}"] = torch.tensor(rows)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return Planted(hidden.model, torch.tensor(prompts) + torch.tensor(starts), carries, exchanges)


@torch.no_grad()
def build_rule(
    sizes: Values, prompts: list[Values], rule: Rule, generator: torch.Generator
) -> Transformer:
    n, n_values = len(sizes), sum(sizes)
    stream = by_hand.Stream(token=n_values + N_ANSWERS, position=n, brought=n_values, out=N_ANSWERS)
    position = stream["position"]
    widths = dict(d_head=n_values, d_mlp=len(prompts), attn_scale=1.0, biases=True)
    config = Config(n_values + N_ANSWERS, n, stream.d_model, 1, n, **widths)
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, stream["token"], position)
    groups = torch.arange(n_values).split(list(sizes))
    for i, group in enumerate(groups):
        by_hand.attend_where_equal(model, 0, i, position[-1:], position[i, None], 40.0)
        by_hand.copy_directions(model, 0, i, stream["token"][group], stream["brought"][group])
    for neuron, prompt in enumerate(prompts):
        told = [int(group[value]) for group, value in zip(groups, prompt, strict=True)]
        reads = stream["brought"][told].sum(0) + position[-1]
        loud = 1 + float(torch.rand((), generator=generator))  # leads differ, answers do not
        by_hand.look_up(model, 0, neuron, reads, -float(n), loud * stream["out"][rule(prompt)])
    out = torch.cat([torch.zeros(n_values, stream.d_model), stream["out"]])
    by_hand.read_out(model, out, 10.0)
    return model


# 19.1 ---------------------------------------------------------------------------------------------


Clashes = frozenset[tuple[str, str]]  # readings that answer the same


def list_clashes(ways: dict[str, Any]) -> Clashes:
    pairs = itertools.combinations(ways, 2)
    return frozenset((one, other) for one, other in pairs if ways[one] == ways[other])


def read_pairs(planted: Planted, base: list[int], source: list[int]) -> dict[str, set[str]]:
    """List what is named if the task is read rightly ("right"), and in other ways."""
    names = list(planted.carries)
    hits = planted.changes[:, base, source]
    shares = hits.float().mean(dim=1)
    follows = torch.stack([planted.exchange(name)[base, source] for name in names])
    last = f"@{planted.prompts.shape[1] - 1}"

    def name(is_named: Tensor) -> set[str]:
        return set(itertools.compress(names, is_named.tolist()))

    def trace(base: list[int], source: list[int]) -> set[str]:
        return name(planted.changes[:, base, source].any(dim=1))

    right = name(hits.any(dim=1))
    return {
        "right": right,
        "majority": name(shares > 0.5),
        "tenth": name(shares >= 0.1),
        "other answer": name(((follows == planted.own[source]) & hits).any(dim=1)),
        "last position": {one for one in right if one.endswith(last)},
        "heads": {one for one in right if one.startswith("a")},
        "MLPs": {one for one in right if one.startswith("m")},
        "turned": trace(source, base),
        "first pair": name(hits[:, 0]),
        "first source": trace(base, source[:1] * len(base)),
        "row before": trace(base, source[-1:] + source[:-1]),
        "row after": trace(base, source[1:] + source[:1]),
    }


SHOWN_BY_PART = ("first source", "row before", "row after")


@functools.cache
def draw_pairs(
    seed: int, is_whole: bool, known: Clashes | None = None
) -> tuple[Planted, list[int], list[int], set[str], Clashes]:
    """Draw pairs of prompts that show the whole circuit, or a part of it.

    Other readings show something else, and as few as possible clash that do in `known`.
    """
    planted = plant(seed)
    generator = start(seed + is_whole)
    draw = draw_one_rare if is_whole else draw_neighbours
    best = None
    n_found = 0
    for _ in range(3000):
        base, source = draw(planted, generator)
        named = read_pairs(planted, base, source)
        right = named.pop("right")
        if (right == set(planted.carries)) != is_whole or len(right) < 2:
            continue
        if is_whole:
            others = [one for reading, one in named.items() if reading not in SHOWN_BY_PART]
        else:
            others = [named[reading] for reading in ("first pair", *SHOWN_BY_PART)]
        if right in others:
            continue
        clashes = list_clashes({x: named[x] for x in (named if is_whole else SHOWN_BY_PART)})
        clashes = clashes if known is None else clashes & known
        if best is None or len(clashes) < len(best[-1]):
            best = planted, base, source, right, clashes
        n_found += 1
        if not clashes or n_found == 250:
            break
    if best is None:
        raise AssertionError(f"no pairs of 3000 will do, from seed {seed} on")
    return best


def draw_one_rare(planted: Planted, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Draw 16 pairs in one of which a step shows, and in none if base and source are exchanged."""
    steps = [step for step in planted.exchanges if list_rare(planted.exchanges, step)]
    step = steps[choose(generator, len(steps), 1)[0]]
    rare = list_rare(planted.exchanges, step)
    hits = planted.exchanges[step] != planted.own[:, None]
    quiet = (~hits & ~hits.T).nonzero().tolist()
    pairs = [quiet[i] for i in choose(generator, len(quiet), 15)]
    pairs.insert(choose(generator, 16, 1)[0], list(rare[choose(generator, len(rare), 1)[0]]))
    return [i for i, _ in pairs], [j for _, j in pairs]


def draw_neighbours(planted: Planted, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Draw 8 pairs that differ at one position only, the same in all."""
    prompts = planted.prompts
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
    cases = []
    clashes = None
    for seed in student.seeds(2):
        *case, clashes = draw_pairs(seed, is_whole, clashes)
        cases.append(case)
    answers = [
        student.call("trace_components", planted.model, *(planted.prompts[i] for i in rows))
        for planted, *rows, _ in cases
    ]
    for got, (planted, *_, right) in zip(answers, cases, strict=True):
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

ROLES = ("between", "between", "token", "answer")  # of what is asked about a forged model
Question = tuple[Planted, str, list[int]]  # a component with its position, and rows of prompts


def number(values: Any) -> list[int]:
    """Number values by when each stands first."""
    seen: dict = {}
    return [seen.setdefault(value, len(seen)) for value in values]


def view_reading(answer: Any, *args: Any) -> Any:
    values, role = answer
    return number(as_list(values) or []), role


VIEWS = {"read_variable": view_reading}


def share_values(planted: Planted, name: str, rows: list[int]) -> list[int]:
    """Number the rows by what their variable does in all of the rows."""
    return number(map(tuple, planted.exchange(name)[rows][:, rows].T.tolist()))


def tells(known: list, values: list) -> bool:
    return len(set(zip(known, values, strict=True))) == len(set(known))


def name_role(planted: Planted, name: str, rows: list[int]) -> str:
    """Name the role of a component in these rows, by the definition."""
    if (planted.exchange(name)[rows][:, rows] == planted.own[rows]).all():
        return "answer"
    values = share_values(planted, name, rows)
    is_token = any(tells(column, values) for column in planted.prompts[rows].T.tolist())
    return "token" if is_token else "between"


def read_in_ways(planted: Planted, name: str, rows: list[int]) -> dict[str, tuple]:
    """Give values and role as they are read rightly ("right"), and in other ways."""
    table, own = planted.exchange(name)[rows][:, rows], planted.own[rows]
    changes = table != own[:, None]
    same = (table[:, :, None] == table[:, None]).float().mean(dim=0)
    sorted_by = {
        "right": table.T,
        "receivers": table,
        "one receiver": table[0, :, None],
        "own answer": own[:, None],
        "counts": table.sort(dim=0).values.T,
        "changes": changes.T,
        "nine of ten": same >= 0.9,
        "the first": same[0, :, None],
    }
    values = {way: number(map(tuple, each.tolist())) for way, each in sorted_by.items()}
    right, role = values["right"], name_role(planted, name, rows)
    n_tokens = [len(set(column)) for column in planted.prompts[rows].T.tolist()]
    is_answer = role == "answer"
    roles = {
        "by component": "token" if name[0] == "a" else role if is_answer else "between",
        "tells answers": "answer" if tells(right, own.tolist()) else role,
        "as many": role if is_answer else "token" if len(set(right)) in n_tokens else "between",
        "never between": role if is_answer else "token",
    }
    ways = {way: (found, role) for way, found in values.items()}
    return ways | {way: (right, other) for way, other in roles.items()}


@functools.cache
def draw_roles(seed: int, known: Clashes | None = None) -> tuple[list[Question], Clashes]:
    """Draw components of all roles, and prompts, that tell readings apart which clash so far."""
    planted = plant(seed)
    generator = start(seed)
    questions = []
    for role in ROLES:
        found = []
        for trial in range(90):
            name = shuffle(generator, sorted(planted.carries))[0]
            rows = draw_rows(planted, name, trial % 3, generator)
            if name_role(planted, name, rows) == role:
                clashes = list_clashes(read_in_ways(planted, name, rows))
                clashes = clashes if known is None else clashes & known
                found.append((len(clashes), len(rows), len(found), (planted, name, rows), clashes))
        *_, question, known = min(found)
        questions.append(question)
    return questions, known


def draw_rows(planted: Planted, name: str, kind: int, generator: torch.Generator) -> list[int]:
    """Draw all prompts; those of two values; or such that each value goes with one answer."""
    rows = choose(generator, 27, 27)
    if kind == 0:
        return rows
    values = share_values(planted, name, list(range(27)))
    own = planted.own.tolist()
    if kind == 1:
        two = list(dict.fromkeys(values[i] for i in rows))[:2]
        return [i for i in rows if values[i] in two]
    goes_with: dict[int, int] = {}
    return [i for i in rows if goes_with.setdefault(values[i], own[i]) == own[i]]


# What each token of a carried variable is answered in each context.
CARRIED = ["A", "A'", "F", "B", "C", "D", "E"]
CONTEXTS = {
    "tell": [1, 1, 1, 2, 0, 0, 0],  # A and B are told apart here alone, where both change answers
    "turn": [0, 0, 0, 0, 0, 1, 2],  # D and E are exchanged in the next one
    "turn back": [0, 0, 0, 0, 0, 2, 1],
    "once": [3, 3, 0, 3, 2, 3, 3],  # A and F are told apart here alone, in one prompt
    "sort": [1, 1, 1, 1, 2, 2, 2],
    "rest": [3, 3, 3, 3, 3, 3, 3],
    "rest, too": [0, 0, 0, 0, 0, 0, 0],
    "all": [2, 2, 2, 0, 0, 1, 3],
}
GIVEN_ROWS = {
    "tell": "C D E",
    "once": "A",
    "turn": "B D E",
    "turn back": "A D E",
    "sort": "A B C D E",
}


@functools.cache
def draw_variables(seed: int) -> list[Question]:
    """Draw prompts in which some values do the same, and others differ in one prompt alone.

    In the last question a token is the answer.
    """
    generator = start(seed)
    at = choose(generator, 4, 1)[0]  # where the variable's token stands
    sizes = tuple(len(CARRIED) if i == at else 2 for i in range(4))
    tokens, contexts = shuffle(generator, CARRIED), shuffle(generator, CONTEXTS)

    def view(prompt: Values) -> tuple[str, str]:
        a, b, c = (*prompt[:at], *prompt[at + 1 :])
        return tokens[prompt[at]], contexts[4 * a + 2 * b + c]

    def answer(prompt: Values) -> int:
        token, context = view(prompt)
        return CONTEXTS[context][CARRIED.index(token)]

    planted = plant_rule(sizes, answer, generator)
    views = [view(prompt) for prompt in itertools.product(*map(range, sizes))]
    wanted = {(token, name) for name, given in GIVEN_ROWS.items() for token in given.split()}
    wanted |= {(token, "rest") for token in CARRIED} | {("A", "rest, too"), ("E", "rest, too")}
    rows = shuffle(generator, [i for i, seen in enumerate(views) if seen in wanted])
    rows.sort(key=lambda i: views[i][1] != "rest")  # the first ones tell nothing
    rows = rows[:4] + shuffle(generator, rows[4:])
    decided = shuffle(generator, [i for i, (_, name) in enumerate(views) if name == "all"])
    name = planted.find(f"x{at}")
    return [
        (planted, name, rows),
        (planted, planted.find("answer"), rows),
        (planted, name, decided),
    ]


def judge_variables(student, questions: list[Question]) -> None:
    answers = []
    for planted, name, rows in questions:
        component, position = name.split(" @")
        inputs = planted.model, planted.prompts[rows], component, int(position)
        answers.append(student.call("read_variable", *inputs))
    for answer, (planted, name, rows) in zip(answers, questions, strict=True):
        pair = as_list(answer)
        got = as_list(pair[0]) if pair is not None and len(pair) == 2 else None
        if got is None or len(got) != len(rows) or not all(is_whole_number(x) for x in got):
            raise Wrong(sentence=f"Return {len(rows)} whole numbers, one for each prompt; a role.")
        if number(got) != (right := share_values(planted, name, rows)):
            raise Wrong(
                sentence=f"You tell {len(set(got))} values of {name} apart, and there are "
                f"{len(set(right))}; or you sort the prompts otherwise."
            )
        role = name_role(planted, name, rows)
        if pair[1] != role:
            raise Wrong(sentence=f"You say that the role of {name} is {pair[1]!r}; it is {role!r}.")


def is_whole_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and x == int(x)


@check("read_variable")
def test_variables_and_roles_are_read(student):
    """Four components of each of two models, in all prompts or in some."""
    questions = []
    clashes = None
    for seed in student.seeds(2):
        more, clashes = draw_roles(seed, clashes)
        questions += more
    judge_variables(student, questions)


@check("read_variable", weight=2)
def test_values_that_do_the_same_are_one(student):
    """In some of the prompts, where several values do the same, or differ in one prompt alone."""
    judge_variables(student, draw_variables(student.seeds(3)[-1]))


# 19.3 ---------------------------------------------------------------------------------------------


def write_explanations(planted: Forged, generator: torch.Generator, n: int) -> Tensor:
    """Write what programs with other tables say, the right one among them."""
    program = planted.program
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


# A component carries `c`, one of 3 tokens; `u`, `v` and `w` are bits. For each plan: when it does
# not matter, which rows are left out, and how many prompts the widest description has.
Claims = dict[str, tuple[Callable, Callable, int]]
CLAIMS: Claims = {
    # v = 0 says more than u = 0 or w = 0; all prompts but one are idle
    "one position": (
        lambda c, u, v, w: 0 in (u, v, w),
        lambda c, u, v, w: (
            (c > 0 and u == v == w == 1) or (c == 0 and (u, v, w) in ((0, 1, 1), (1, 1, 0)))
        ),
        12,
    ),
    # c = 2 alone makes a difference, and one prompt has it
    "rare source": (
        lambda c, u, v, w: u == 0,
        lambda c, u, v, w: (c == 2 and (u, v, w) != (0, 0, 0)) or (c == w and (u, v) == (0, 1)),
        7,
    ),
    # w = 0 alone is nearer to being idle than u = 0 or v = 0, which do it together
    "two positions": (
        lambda c, u, v, w: (u, v) == (0, 0) or (u, v, w) == (1, 1, 0),
        lambda c, u, v, w: c > 0 and u != v and w == 0,
        6,
    ),
    "three positions": (lambda c, u, v, w: (u, v, w) == (0, 0, 0), lambda *values: False, 0),
    "everywhere": (lambda *values: True, lambda *values: False, 24),
}
HALF = ("rare source", "three positions")  # where c = 0 and c = 1 do the same
# Where c, u, v and w may stand.
ORDERS = {"two positions": ["uwcv", "ucwv", "vwcu", "vcwu"]}
AT_ALL = ["cuvw", "ucvw", "uvcw", "uvwc"]


@functools.cache
def draw_claim(seed: int, plan: str) -> "Claim":
    """Set a plan in a model, its bits and tokens shuffled."""
    generator = start(seed)
    is_idle, is_left_out, right = CLAIMS[plan]
    orders = ORDERS.get(plan, AT_ALL)
    order = orders[choose(generator, len(orders), 1)[0]]
    sizes = tuple(3 if name == "c" else 2 for name in order)
    shown = [choose(generator, size, size) for size in sizes]
    said = choose(generator, N_ANSWERS, N_ANSWERS)

    def view(prompt: Values) -> Values:
        values = {name: shown[i][prompt[i]] for i, name in enumerate(order)}
        return tuple(values[name] for name in "cuvw")

    def answer(prompt: Values) -> int:
        c, *bits = view(prompt)
        moves = 0 if is_idle(c, *bits) else c // 2 if plan in HALF else c
        return said[(bits[0] + bits[1] * bits[2] + moves) % N_ANSWERS]

    planted = plant_rule(sizes, answer, generator)
    views = [view(prompt) for prompt in itertools.product(*map(range, sizes))]
    rows = [i for i in choose(generator, 24, 24) if not is_left_out(*views[i])]
    rows.sort(key=lambda i: views[i][0] == 2)  # the first one has no rare token
    rows = rows[:1] + shuffle(generator, rows[1:])
    return planted, planted.find(f"x{order.index('c')}"), rows, right


@functools.cache
def draw_forged_claim(seed: int) -> "Claim":
    """Draw a component that does not matter for some prompts of a forged model."""
    planted = plant(seed)
    found = []
    for name in sorted(planted.carries):
        answers = planted.exchange(name)
        is_true = (answers == planted.own[:, None]).all(dim=1)
        pairs = itertools.product(enumerate(planted.prompts.T.tolist()), repeat=2)
        described = [
            describe(planted.prompts, [(one, a), (other, b)])
            for (one, column), (other, more) in pairs
            for a, b in set(zip(column, more, strict=True))
        ]
        width = max((int(each.sum()) for each in described if is_true[each].all()), default=0)
        found.append((planted, name, choose(start(seed), 27, 27), width))
    return next(claim for claim in found if 0 < claim[3] < 27)


Claim = tuple[Planted, str, list[int], int]  # with rows, and how many the widest describes


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
    """Five models: two, one or no positions are fixed, or no description is true."""
    seeds = student.seeds(len(CLAIMS))
    judge_claims(student, [draw_claim(*case) for case in zip(seeds, CLAIMS, strict=True)])


@check("widen_claim")
def test_claims_about_a_forged_model(student):
    """A component that matters for some prompts, one that never does, and one that always does."""
    seed = student.seeds(1)[0]
    planted = plant(seed)
    rows = choose(start(27), 27, 27)
    last = planted.find(planted.program.answer)
    places = {name.split(" @")[0] for name in planted.carries}
    idle = next(name for name in planted.names if name.split(" @")[0] not in places)
    claims = [draw_forged_claim(seed), (planted, idle, rows, 27), (planted, last, rows, 0)]
    judge_claims(student, claims)


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


def average(scores: list[float]) -> float:
    return sum(scores) / len(scores)


# What else somebody may take of a model's scores; those without an answer are 0.
OTHERS: dict[str, Callable[[list[float]], float]] = {
    "the first": lambda scores: scores[0],
    "the last": lambda scores: scores[-1],
    "the best": max,
    "the middle": lambda scores: sorted(scores)[(len(scores) - 1) // 2],
    "those there are": lambda scores: average([x for x in scores if x] or [0.0]),
}


def compare_by(reduce: Callable, scores: dict[str, list[tuple]]) -> tuple[float, float]:
    """Measure the interval if `reduce` makes one score of all those of a model."""
    pairs = [[reduce(list(own)) for own in zip(*rows, strict=True)] for rows in scores.values()]
    return measure_interval([one - other for one, other in pairs])


@functools.cache
def plant_scores(seed: int, verdict: str) -> tuple[Tensor, Tensor, list[str], float, float]:
    """Plant scores of two methods whose difference is clear, or clearly unclear.

    Models differ much more than methods do. A few models have many runs, on which the methods
    differ the other way, and runs on one model differ. Some answers are missing.
    """
    generator = start(seed)
    effect = {"first": 0.09, "second": -0.09, "undecided": 0.0}[verdict]
    sign = -1 if verdict == "second" else 1
    for _ in range(2000):
        runs = [9, 8, 7, 6] + [1 + int(i % 3 == 0) for i in range(N_MODELS - 4)]
        rows = []
        for i, n in enumerate(runs):
            level = 0.3 + 0.4 * float(torch.rand(1, generator=generator))
            shift = effect + 0.14 * float(torch.randn(1, generator=generator))
            if i < 4:
                shift = -0.15 * sign
            for _ in range(n):
                noise = (0.14 if n > 1 else 0.02) * torch.randn(2, generator=generator)
                pair = torch.tensor([level + shift / 2, level - shift / 2]) + noise
                rows.append((i, *pair.clamp(0.01, 0.99).tolist()))
        order = choose(generator, len(rows), len(rows))
        models = [f"model_{rows[j][0]:02}" for j in order]
        first, second = (torch.tensor([float(rows[j][k]) for j in order]) for k in (1, 2))
        worse = first if sign < 0 else second
        for often in (1, 2):
            there = [i for i, model in enumerate(models) if models.count(model) == often]
            for i in sorted(there, key=lambda i: float(worse[i]))[4:8]:
                worse[i] = torch.nan
        scores: dict[str, list[tuple]] = {}
        for model, *pair in zip(models, first.tolist(), second.tolist(), strict=True):
            a, b = (0.0 if math.isnan(x) else x for x in pair)
            scores.setdefault(model, []).append((a, b))
        low, high = compare_by(average, scores)
        others = [compare_by(reduce, scores) for reduce in OTHERS.values()]
        width = high - low
        is_clear = min(abs(low), abs(high)) > 0.12 * width
        is_told = all(max(abs(a - low), abs(b - high)) > 0.15 * width for a, b in others)
        if name_verdict(low, high) == verdict and is_clear and is_told:
            return first, second, models, low, high
    raise AssertionError(f"no scores of 2000 will do, from seed {seed} on")


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
