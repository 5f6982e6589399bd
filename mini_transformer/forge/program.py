"""Random programs: small graphs of variables that a transformer can be set to compute.

A prompt holds values 0 .. n-1 at some positions. Each step makes a variable at one position:
`fetch` brings a variable (or token) from an earlier position, `match` finds the pair whose key is
the query's and brings the value beside it, `copy` and the tables (`and`, `or`, `xor`, `add`,
`threshold`, `table`) compute from what stands at the same position. The answer is the last step's
variable, at the last position.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations, product
from types import MappingProxyType

import torch
from jaxtyping import Int
from torch import Tensor

MOST_PROMPTS = 36  # of a program: every pair of them is tried
TABLES = {
    "and": lambda x, y, n: x & y,
    "or": lambda x, y, n: x | y,
    "xor": lambda x, y, n: x ^ y,
    "add": lambda x, y, n: (x + y) % n,
    "threshold": lambda x, y, n: int(x + y >= n),
}


@dataclass(frozen=True)
class Layout:
    """Where tokens stand, and which token is which number.

    Tokens are numbered: the n values, the keys, the filler ".", one mark per task ("=" first), and
    tokens that no prompt holds.
    """

    n: int
    length: int
    tokens: dict[str, int]  # name -> position; queries are called q0, q1
    keys: int = 0  # pairs of key and value from position 1 on, in random order; 0: none
    n_tasks: int = 1
    n_unused: int = 3

    @property
    def filler(self) -> int:
        return self.n + self.keys

    @property
    def marks(self) -> range:
        return range(self.filler + 1, self.filler + 1 + self.n_tasks)

    @property
    def unused(self) -> list[int]:
        """Tokens that no prompt of the first task holds."""
        return list(range(self.marks[0] + 1, self.d_vocab))

    @property
    def d_vocab(self) -> int:
        return self.n + self.keys + 1 + self.n_tasks + self.n_unused

    @property
    def names(self) -> tuple[str, ...]:
        values = [str(value) for value in range(self.n)]
        unused = [f"u{i}" for i in range(self.n_unused)]
        return (*values, *"abcdefgh"[: self.keys], ".", *"=?!&%$"[: self.n_tasks], *unused)

    def list_prompts(self, task: int = 0) -> Int[Tensor, "prompt pos"]:
        """List every prompt of a task."""
        values = [name for name in self.tokens if not name.startswith("q")]
        queries = [name for name in self.tokens if name.startswith("q")]
        key_tokens = range(self.n, self.n + self.keys)
        prompts = []
        for given in product(range(self.n), repeat=len(values)):
            for asked in product(key_tokens, repeat=len(queries)):
                for order in permutations(key_tokens):
                    for paired in product(range(self.n), repeat=self.keys):
                        prompt = [self.filler] * (self.length - 1) + [self.marks[task]]
                        for i, (key, value) in enumerate(zip(order, paired, strict=True)):
                            prompt[1 + 2 * i : 3 + 2 * i] = key, value
                        for name, token in zip(values + queries, given + asked, strict=True):
                            prompt[self.tokens[name]] = token
                        prompts.append(prompt)
        return torch.tensor(prompts)


@dataclass(frozen=True)
class Step:
    """One step: what it does, the variables that it reads, and the position where it does so."""

    op: str
    reads: tuple[str, ...]
    at: int
    table: tuple[int, ...] = ()  # value for reads (0, 0), (0, 1), ...


@dataclass(frozen=True)
class Program:
    """Steps in an order in which they can be run; the last one gives the answer.

    `twice` names a step that is computed in two places, `how_twice` says whether the second one
    always acts ("second way"), or only where the first is silent ("backup").
    """

    layout: Layout
    steps: dict[str, Step]
    twice: str | None = None
    how_twice: str = ""
    where: dict[str, int] = field(default_factory=dict, compare=False)  # variable -> position

    @property
    def answer(self) -> str:
        return list(self.steps)[-1]

    @property
    def size(self) -> int:
        """The number of steps that compute something, `fetch` and `copy` not counted."""
        return sum(step.op not in ("fetch", "copy") for step in self.steps.values())

    @cached_property
    def prompts(self) -> Int[Tensor, "prompt pos"]:
        return self.layout.list_prompts()

    def run(
        self,
        tokens: Int[Tensor, "prompt pos"],
        given: Mapping[str, Int[Tensor, "prompt"]] = MappingProxyType({}),
    ) -> dict[str, Int[Tensor, "prompt"]]:
        """Return the value of every variable, tokens included, for prompts in plain numbers.

        Steps whose value is `given` are not computed: what would be, if they were so.
        """
        values = {name: tokens[:, position] for name, position in self.layout.tokens.items()}
        for name, step in self.steps.items():
            read = [values[source] for source in step.reads]
            if name in given:
                values[name] = given[name]
            elif step.op == "match":
                # Keys stand at odd positions from 1 on; nothing else there is a key of the pairs.
                pairs = tokens[:, 1 : 1 + 2 * self.layout.keys]
                at_key = (pairs[:, ::2] == read[0][:, None]).int().argmax(dim=1, keepdim=True)
                values[name] = pairs[:, 1::2].gather(1, at_key).squeeze(1)
            elif step.table:
                index = sum(x * self.layout.n**i for i, x in enumerate(reversed(read)))
                values[name] = torch.tensor(step.table)[index]
            else:
                values[name] = read[0]
        return values

    def compute(self, tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "prompt"]:
        """Return the answer, 0 .. n-1."""
        return self.run(tokens)[self.answer]

    def canonical(self) -> tuple:
        """Return what is left up to names: of inputs, of values, of variables and of positions.

        Two programs with equal forms compute the same function by the same arrangement of steps.
        """
        n = self.layout.n
        names = sorted(self.layout.tokens)
        steps = (self._arrange(self.answer), self.how_twice)
        if self.layout.keys:  # the order of pairs is drawn, so only values can be renamed
            answers = self.compute(self.prompts).tolist()
            return (n, self.layout.keys, steps, _name_by_first(answers))
        table = self.compute(self.prompts).view([n] * len(names))
        forms = (
            _name_by_first(table.permute(order)[_renamed(value, len(names))].flatten().tolist())
            for order in permutations(range(len(names)))
            for value in permutations(range(n))
        )
        return (n, 0, steps, min(forms))

    def _arrange(self, name: str) -> str:
        """Write how a variable is made, without names."""
        if name not in self.steps:
            return "token"
        step = self.steps[name]
        read = ", ".join(sorted(self._arrange(source) for source in step.reads))
        return f"{step.op}{'*' if name == self.twice else ''}({read})"

    def draw(self) -> str:
        """Draw the program as text, a line per step."""
        lines = []
        if self.layout.keys:
            lines.append(f"  pairs of key and value from position 1, {self.layout.keys} of them")
        lines += [f"  {name} = token {at}" for name, at in self.layout.tokens.items()]
        for name, step in self.steps.items():
            table = f" {''.join(map(str, step.table))}" if step.table else ""
            twice = f"  ({self.how_twice})" if name == self.twice else ""
            lines.append(
                f"  {name} = {step.op}{table}({', '.join(step.reads)}) at {step.at}{twice}"
            )
        return "\n".join(lines)


def _renamed(order: tuple[int, ...], n_axes: int) -> tuple[Tensor, ...]:
    """Index a table so that value i of every axis is now called order[i]."""
    return torch.meshgrid([torch.tensor(order)] * n_axes, indexing="ij")


def _name_by_first(values: list[int]) -> tuple[int, ...]:
    """Number values in the order in which they appear."""
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(value, len(seen)) for value in values)


def draw_layout(
    rng: random.Random, size: int, positions: str, n_tasks: int, n_unused: int
) -> Layout:
    """Draw how many values and tokens there are, and where they stand."""
    if positions == "drawn":
        # values, queries, other tokens: at most 36 prompts in all
        choices = [(2, 1, 0), (3, 1, 0), (2, 1, 1), (2, 2, 0)]
        allowed = {1: [0, 1], 2: [0, 1], 3: [2], 4: [3]}  # by size
        n, n_queries, n_others = choices[rng.choice(allowed[min(size, 4)])]
        names = [f"q{i}" for i in range(n_queries)] + [f"x{i}" for i in range(n_others)]
        places: list[str | None] = [*names, *[None] * rng.randint(0, 1)]
        rng.shuffle(places)
        tokens = {name: 5 + i for i, name in enumerate(places) if name}
        return Layout(n, 6 + len(places), dict(sorted(tokens.items())), 2, n_tasks, n_unused)
    if size == 1:
        n, k = rng.choice([(3, 2), (4, 2), (5, 2)])
    else:
        least = 3 if size < 5 else 4
        n, k = rng.choice([(2, k) for k in range(least, min(5, size + 1) + 1)] + [(3, 3)] * 2)
    places = [f"x{i}" for i in range(k)] + [None] * rng.randint(1, 2)
    rng.shuffle(places)
    tokens = {name: i for i, name in enumerate(places) if name}
    return Layout(n, len(places) + 1, dict(sorted(tokens.items())), 0, n_tasks, n_unused)


def draw_program(
    rng: random.Random, layout: Layout, size: int, redundancy: str | None = None
) -> Program:
    """Draw a program of about `size` steps; not every draw is worth building (see `refuse`)."""
    last = layout.length - 1
    steps: dict[str, Step] = {}
    where = dict(layout.tokens)
    unread = [name for name in where if not name.startswith("q")]
    for i, query in enumerate([name for name in where if name.startswith("q")]):
        steps[f"m{i}"] = Step("match", (query,), where[query])
        where[f"m{i}"] = where[query]
        unread.append(f"m{i}")
    rng.shuffle(unread)
    readable = list(unread)

    # A step that reads two unread variables leaves one fewer of them; the last leaves only itself.
    n_tables = max(len(unread) - 1, size - len(steps) - bool(steps))  # `previous` is a step, too
    if layout.keys and len(unread) == 1:
        n_tables = 0
    merges = set(rng.sample(range(n_tables - 1), len(unread) - 2)) if len(unread) > 2 else set()
    twice = None
    for i in range(n_tables):
        first = unread.pop(0)
        final = i == n_tables - 1
        merge = (i in merges or final) and unread
        second = unread.pop(0) if merge else rng.choice([v for v in readable if v != first])
        sources = (first, second)
        at = last if final else _choose_place(rng, layout, [where[name] for name in sources])
        reads = tuple(_bring(steps, where, name, at) for name in sources)
        op, table = _draw_table(rng, layout.n)
        name = f"v{i}"
        steps[name] = Step(op, reads, at, table)
        where[name] = at
        unread.append(name)
        readable.append(name)

    if redundancy and n_tables:
        twice = f"v{rng.randrange(n_tables)}"
        steps, where = _relay(steps, where, twice)
    elif not n_tables:
        steps["answer"] = Step("copy", (_bring(steps, where, unread[0], last),), last)
        where["answer"] = last
    return Program(layout, steps, twice, (redundancy or "") if twice else "", where)


def _choose_place(rng: random.Random, layout: Layout, at: list[int]) -> int:
    """Choose where a step that is not the last is computed: often at the last position."""
    earlier = list(range(max(at), layout.length - 1))
    return rng.choice(earlier) if earlier and rng.random() < 0.4 else layout.length - 1


def _bring(steps: dict[str, Step], where: dict[str, int], name: str, at: int) -> str:
    """Return the variable's name at position `at`, fetched there if it is not there yet."""
    if where[name] == at:
        return name
    fetched = f"{name}@{at}"
    if fetched not in steps:
        steps[fetched] = Step("fetch", (name,), at)
        where[fetched] = at
    return fetched


def _relay(
    steps: dict[str, Step], where: dict[str, int], twice: str
) -> tuple[dict[str, Step], dict[str, int]]:
    """Add a copy behind a step that is computed twice; what read the step reads the copy."""
    relay = f"{twice}c"
    changed: dict[str, Step] = {}
    for name, step in steps.items():
        reads = tuple(relay if read == twice else read for read in step.reads)
        changed[name] = Step(step.op, reads, step.at, step.table)
        if name == twice:
            changed[relay] = Step("copy", (twice,), step.at)
    return changed, where | {relay: where[twice]}


def _draw_table(rng: random.Random, n: int) -> tuple[str, tuple[int, ...]]:
    """Draw a named table, or a random one that depends on both of its inputs."""
    named = ["and", "or", "xor"] if n == 2 else ["add", "threshold"]
    op = rng.choice([*named, "table", "table"])
    if op in TABLES:
        return op, tuple(TABLES[op](x, y, n) for x, y in product(range(n), repeat=2))
    while True:
        table = tuple(rng.randrange(n) for _ in range(n * n))
        rows = {table[i * n : (i + 1) * n] for i in range(n)}
        columns = {table[i::n] for i in range(n)}
        if len(rows) > 1 and len(columns) > 1:
            return op, table


def refuse(program: Program) -> str | None:
    """Say why a program is not worth building, or return None.

    It is refused if it is constant, ignores an input, can be answered in fewer steps, or if a sum
    of functions of single inputs says the answer (then no table is needed).
    """
    values = program.run(program.prompts)
    answer = values[program.answer]
    if len(answer.unique()) < 2:
        return "constant"
    if program.layout.keys and answer.bincount().max() > 0.75 * len(answer):
        return "nearly constant"
    for name in program.layout.tokens:
        others = [values[other] for other in program.layout.tokens if other != name]
        rest = torch.stack([*others, *_list_paired(program)]) if others else None
        if rest is None and not program.layout.keys:
            continue
        if rest is not None and _tells(rest, answer):
            return f"ignores {name}"
    if _is_shorter_known(program, values):
        return "equals a shorter one"
    if not program.layout.keys and _is_sum(program, answer):
        return "a sum of single inputs"
    return None


def _list_paired(program: Program) -> list[Tensor]:
    """List what stands at the positions of the pairs."""
    return list(program.prompts[:, 1 : 1 + 2 * program.layout.keys].T)


def _tells(read: Int[Tensor, "variable prompt"], answer: Int[Tensor, "prompt"]) -> bool:
    """Tell whether these variables determine the answer."""
    _, group = read.unique(dim=1, return_inverse=True)
    both = torch.stack([group, answer]).unique(dim=1)
    return both.shape[1] == len(group.unique())


def _is_shorter_known(program: Program, values: dict[str, Tensor]) -> bool:
    """Tell whether a step is told by one or two variables that take fewer steps than it has."""
    needs: dict[str, frozenset[str]] = {name: frozenset() for name in program.layout.tokens}
    for name, step in program.steps.items():
        own = {name} if step.op not in ("fetch", "copy") else set()
        needs[name] = frozenset().union(own, *(needs[read] for read in step.reads))
    known = [name for name in values if not name.startswith("q")]
    for name, step in program.steps.items():
        if step.op in ("fetch", "copy", "match"):
            continue
        for first, second in product(known, repeat=2):
            needed = needs[first] | needs[second]
            shorter = len(needed) + (first != second) < len(needs[name]) and name not in needed
            read = torch.stack([values[first], values[second]])
            if shorter and _tells(read, values[name]):
                return True
    return False


def _is_sum(program: Program, answer: Int[Tensor, "prompt"]) -> bool:
    """Tell whether argmax over a of sum_i f_i,a(token i) can be the answer: a linear programme."""
    from scipy.optimize import linprog

    n = program.layout.n
    tokens = program.prompts[:, sorted(program.layout.tokens.values())]
    inputs = torch.nn.functional.one_hot(tokens, n).flatten(1)  # prompt, (token value)
    rows = []
    for row, right in zip(inputs, answer.tolist(), strict=True):
        for other in set(answer.tolist()) - {right}:
            weights = torch.zeros(n, inputs.shape[1])
            weights[right] -= row
            weights[other] += row
            rows.append(weights.flatten())
    bounds = torch.stack(rows).numpy()
    found = linprog([0.0] * bounds.shape[1], bounds, [-1.0] * len(bounds), bounds=(None, None))
    return bool(found.success)
