"""Compiled programs as cases: what their parts do is what Tracr compiled them to do.

Prompts are strings between a first token that says nothing and padding, and are answered at each
symbol. A component's role is the variable that it writes, and each variable has directions of its
own, so that roles and variables are read off the weights. Circuits are found by trying all sets.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mini_transformer.edges import Node
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import accuracy_without, draw_prompts, measure_accuracy
from mini_transformer.toys.tracr.circuits import NOTES, list_circuits
from mini_transformer.toys.tracr.compiled import BOS, PAD, Compiled, find_file, load_compiled
from mini_transformer.toys.tracr.programs import PROGRAMS, Program, list_strings
from mini_transformer.toys.truth import Batch, Case, Signature, Task, Truth, Variable

EMBEDDED = ("one", "indices", "tokens")  # directions that the embedding writes
NOTHING = -1  # number of a variable's value where there is no symbol
Numbered = dict[str, list[int]]


class Strings:
    """All strings of a program as prompts, with what each calls for."""

    def __init__(self, program: Program, compiled: Compiled) -> None:
        strings = list_strings(program)
        name = {symbol: i for i, symbol in enumerate(compiled.tokens)}
        padding = [program.longest - len(string) for string in strings]
        self.prompts = torch.tensor(
            [
                [name[BOS], *(name[str(symbol)] for symbol in string), *[name[PAD]] * more]
                for string, more in zip(strings, padding, strict=True)
            ]
        )
        self.last = torch.tensor([len(string) - 1 for string in strings])
        said = [program.run(string)[program.output] for string in strings]
        values = compiled.values[program.output]
        numbers = is_number(compiled, program.output)
        self.answers = torch.tensor(
            [
                [float(x) if numbers else values.index(str(x)) for x in [*own, *own[-1:] * more]]
                for own, more in zip(said, padding, strict=True)
            ]
        )
        # Strings of one length with the same answers have the same number.
        told_apart = torch.cat([self.answers, self.last[:, None]], dim=1)
        self.kind = told_apart.unique(dim=0, return_inverse=True)[1]

    def pair(self, clean: Int[Tensor, "batch"], corrupt: Int[Tensor, "batch"]) -> Batch:
        """Make a batch of prompts given by their numbers.

        A prompt with fewer symbols than the longest repeats its last answer.
        """
        slot = torch.arange(self.answers.shape[1]).minimum(self.last[clean, None])
        return Batch(
            self.prompts[clean],
            self.prompts[corrupt],
            self.answers[clean],
            self.answers[corrupt].gather(1, slot),
            1 + slot,
        )

    def list_pairs(self, corrupt: str) -> Int[Tensor, "2 pair"]:
        """List all pairs of a prompt and a corrupt one: any other, or one that is an edit away.

        An edit replaces one symbol, or adds or drops one at the end.
        """
        differing = (self.prompts[:, None] != self.prompts).sum(dim=-1)
        return (differing == 1 if corrupt == "edit" else differing > 0).nonzero().T

    def draw(self, n: int, generator: torch.Generator, corrupt: str) -> Batch:
        """Draw prompts, every answer equally often, and one of the corrupt ones for each."""
        clean, other = self.list_pairs(corrupt)
        kind = self.kind[clean]
        weight = 1 / kind.bincount()[kind]
        chosen = torch.multinomial(weight, n, replacement=True, generator=generator)
        return self.pair(clean[chosen], other[chosen])


def make_task(program: Program, compiled: Compiled) -> Task:
    strings = cache(lambda: Strings(program, compiled))  # once it is needed
    is_share = is_number(compiled, program.output)
    names = {BOS: "|", PAD: "."}
    return Task(
        description=program.description,
        sample=lambda n, generator, corrupt: strings().draw(n, generator, corrupt),
        token_names=tuple(names.get(token, token) for token in compiled.tokens),
        corruptions=("edit", "any"),
        everything=lambda: strings().pair(*strings().list_pairs("edit")),
        output_names=("number",) if is_share else compiled.values[program.output],
    )


def find_writers(compiled: Compiled) -> dict[str, Node]:
    """Find the first component that writes along each variable's directions."""
    model = compiled.model
    found: dict[str, Node] = {}
    for name, rows in compiled.directions.items():
        if name not in EMBEDDED:
            heads = (model.W_O @ rows.T).flatten(2).any(dim=2).nonzero().tolist()
            mlps = (model.W_out @ rows.T).flatten(1).any(dim=1).nonzero().tolist()
            writers = [Node("head", *place) for place in heads]
            writers += [Node("mlp", *place) for place in mlps]
            found[name] = min(writers, key=lambda node: (node.layer, node.kind))
    return found


def number_values(program: Program, compiled: Compiled) -> Callable[[tuple[int, ...]], Numbered]:
    """Make a function that numbers the values of all variables at each position of a prompt.

    Where there is no symbol it says -1. A number x, a share of up to five, is 60 (x + 1): whole.
    """
    symbols = {str(symbol): symbol for symbol in program.alphabet}

    def number(name: str, value: Any) -> int:
        if is_number(compiled, name):
            return int(60 * (value + 1))
        return compiled.values[name].index(str(value))

    @cache
    def number_all(prompt: tuple[int, ...]) -> Numbered:
        names = [compiled.tokens[token] for token in prompt]
        given = [symbols[name] for name in names if name in symbols]
        rest = len(prompt) - 1 - len(given)
        return {
            name: [NOTHING, *(number(name, value) for value in values), *[NOTHING] * rest]
            for name, values in {"tokens": given, **program.run(given)}.items()
        }

    return number_all


def is_number(compiled: Compiled, name: str) -> bool:
    """Tell whether a variable is a number along one direction, not one of several values."""
    return compiled.values[name] == ("",)


def make_variables(
    program: Program, compiled: Compiled, writers: dict[str, Node]
) -> dict[str, Variable]:
    """Describe the symbol and every variable that a component writes, at all positions."""
    number_all = number_values(program, compiled)

    def make_compute(name: str) -> Callable[[Tensor], Tensor]:
        return lambda tokens: torch.tensor([number_all(tuple(p))[name] for p in tokens.tolist()])

    def find_site(node: Node | None) -> str:
        if node is None:
            return "blocks.0.hook_resid_pre"
        return f"blocks.{node.layer}.hook_resid_{'mid' if node.kind == 'head' else 'post'}"

    return {
        name: Variable(
            compute=make_compute(name),
            site=find_site(writers.get(name)),
            position=None,
            subspace=compiled.directions[name],
            used=True,
            how="construction",
            note="value v is 60 (v + 1)" if is_number(compiled, name) else f"values: {values}",
        )
        for name, values in compiled.values.items()
        if name in ("tokens", *writers)
    }


def measure_error(case: Case, output: str) -> float:
    """Measure how far what is written differs from a variable's value, at most.

    It is the largest difference over all prompts and symbols, and all variables but the output,
    which padding may dilute.
    """
    tokens = draw_prompts(case).distinct().clean
    sites = [variable.site for variable in case.truth.variables.values()]
    with torch.no_grad():
        _, cache = case.model.run_with_cache(tokens, names_filter=sites)
    errors = []
    for name, variable in case.truth.variables.items():
        value = variable.compute(tokens)
        read = (cache[variable.site] @ variable.subspace.T)[value >= 0]
        value = value[value >= 0].unsqueeze(1)
        n_values = len(variable.subspace)
        meant = value / 60 - 1 if n_values == 1 else value == torch.arange(n_values)
        errors += [] if name == output else [(read - meant.float()).abs().max().item()]
    return max(errors)


def make_signatures(program: Program, nodes: set[str], needed: set[str]) -> dict[str, Signature]:
    """List the signatures: accuracy, values on the way, and losses without each component."""
    signatures = {
        "accuracy": Signature("right at each symbol, on all prompts", measure_accuracy, low=1.0),
        "error of the variables": Signature(
            "of what is written, on all prompts",
            lambda case: measure_error(case, program.output),
            high=1e-5,
        ),
    }
    for node in sorted(nodes):
        measure = accuracy_without(node)
        signatures[f"accuracy without {node}"] = (
            Signature("zero-ablating it breaks some prompt", measure, high=0.99)
            if node in needed
            else Signature("zeros do in its place", measure, low=1.0)
        )
    return signatures


def move(compiled: Compiled, order: Int[Tensor, "token"], places: list[list[int]]) -> Compiled:
    """Show token i as token order[i], and move head h of a layer to places[layer][h]."""
    model = compiled.model
    with torch.no_grad():
        model.W_E[order] = model.W_E.clone()
        for block, heads in zip(model.blocks, places, strict=True):
            for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O):
                W[heads] = W.clone()
    tokens = tuple(compiled.tokens[i] for i in order.argsort().tolist())
    return replace(compiled, tokens=tokens)


def make_case(name: str, seed: int) -> Case:
    """Make the case of a program; other seeds than 0 permute heads within layers, and tokens."""
    program = PROGRAMS[name]
    compiled = load_compiled(find_file(name))
    config = compiled.model.config
    places = by_hand.place_heads(seed, config.n_layers, config.n_heads)
    compiled = move(compiled, by_hand.shuffle(config.d_vocab, seed), places)
    writers = find_writers(compiled)
    roles = {variable: str(node) for variable, node in writers.items()}
    circuits = list_circuits(name, places)
    truth = Truth(
        signatures=make_signatures(program, set(roles.values()), set(*circuits["zero"].nodes)),
        circuits={str(ablation): own for ablation, own in circuits.items()},
        variables=make_variables(program, compiled, writers),
        roles=roles,
        notes=NOTES.get(name, ""),
    )
    task = make_task(program, compiled)
    return Case(f"tracr_{name}", compiled.model, task, truth, seed, draw_picture(roles))


def draw_picture(roles: dict[str, str]) -> str:
    """Write what each component computes, in the order of computation."""
    nodes = sorted(set(roles.values()), key=lambda name: (Node.parse(name).layer, name))
    lines = [", ".join(what for what, own in roles.items() if own == node) for node in nodes]
    return "\n".join(f"  {node} --> {line}" for node, line in zip(nodes, lines, strict=True))


def load_reverse(seed: int = 0) -> Case:
    """Tracr's `reverse`: a head fetches the symbol at length - index, which MLPs look up."""
    return make_case("reverse", seed)


def load_length(seed: int = 0) -> Case:
    """Tracr's `length`: a head looks at all symbols and the first token, whose share is 1/(n+1)."""
    return make_case("length", seed)


def load_hist(seed: int = 0) -> Case:
    """Tracr's `hist`: how often a symbol occurs, by a head that looks at equal symbols."""
    return make_case("hist", seed)


def load_sort(seed: int = 0) -> Case:
    """Tracr's `sort`: an MLP makes all numbers different, a head counts the smaller ones."""
    return make_case("sort", seed)


def load_sort_unique(seed: int = 0) -> Case:
    """Tracr's `sort_unique`: different numbers go to the place that counts the smaller ones."""
    return make_case("sort_unique", seed)


def load_frac_prevs(seed: int = 0) -> Case:
    """Tracr's `frac_prevs`: the share of x among the symbols so far, as a number."""
    return make_case("frac_prevs", seed)


def load_pair_balance(seed: int = 0) -> Case:
    """Tracr's `pair_balance`: the share of ( less that of ) so far, by two heads, as a number."""
    return make_case("pair_balance", seed)


def load_shuffle_dyck2(seed: int = 0) -> Case:
    """Tracr's `shuffle_dyck2`: two kinds of brackets, each balanced by itself; eight layers."""
    return make_case("shuffle_dyck2", seed)
