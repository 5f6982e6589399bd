"""Twins: transformers that were trained, not set, to have the circuit of a forged program.

A twin has the layers, heads and MLPs of a model that is set by hand to run its program, and
learned from nothing to answer as that one does under every set of edges and positions that is
interchanged with another prompt (`twin_training`). So its circuit is known, although its weights
are those of training; and because training promises nothing, every truth is measured again, on the
shipped weights, by the signatures. Sources: interchange intervention training, Geiger et al. 2022
(2112.00826); with the loss that keeps the rest from mattering, Gupta et al. 2024 (2407.14494).
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import checkpoints
from mini_transformer.edges import (
    Edge,
    Node,
    list_edges,
    list_writers,
    mask_of,
    run_masks,
    write_outputs,
)
from mini_transformer.forge.case import ForgedCase, Knobs, make_task
from mini_transformer.forge.program import TABLES, Layout, Program, Step
from mini_transformer.model import Transformer
from mini_transformer.nearest import find_nearest
from mini_transformer.toys.ablated_accuracy import draw_prompts, measure_accuracy
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Truth, Variable

__all__ = ["PROGRAMS", "list_twins", "load_twin", "make_twin", "twins"]

FOLDER = Path(__file__).parent / "checkpoints"
N_PAIRS = 32  # of prompts, drawn for what takes many runs
N_SETS = 8  # of edges, drawn where all sets are meant
MOST_EFFECT = 0.02  # of anything outside the circuit
LEFT_OUT = 0.001  # of a variable's variance, by its subspace


def _table(op: str, n: int) -> tuple[int, ...]:
    return tuple(TABLES[op](x, y, n) for x in range(n) for y in range(n))


def _make_program(layout: Layout, **steps: tuple) -> Program:
    """Make a program of steps (op, position, reads); "v0_4" is the name of `v0` fetched to 4."""
    made = {
        name: Step(op, tuple(reads), at, _table(op, layout.n) if op in TABLES else ())
        for name, (op, at, *reads) in steps.items()
    }
    return Program(layout, made, where=layout.tokens | {name: s.at for name, s in made.items()})


PROGRAMS = {
    "add": _make_program(
        Layout(n=4, length=4, tokens={"x0": 0, "x1": 2}, n_unused=0),
        x0_3=("fetch", 3, "x0"),
        x1_3=("fetch", 3, "x1"),
        v0=("add", 3, "x0_3", "x1_3"),
    ),
    "chain": _make_program(
        Layout(n=3, length=5, tokens={"x0": 0, "x1": 1, "x2": 3}, n_unused=0),
        x0_1=("fetch", 1, "x0"),
        v0=("add", 1, "x0_1", "x1"),
        v0_4=("fetch", 4, "v0"),
        x2_4=("fetch", 4, "x2"),
        v1=("threshold", 4, "v0_4", "x2_4"),
    ),
    "join": _make_program(
        Layout(n=2, length=5, tokens={"x0": 0, "x1": 1, "x2": 2}, n_unused=0),
        x0_2=("fetch", 2, "x0"),
        v0=("xor", 2, "x0_2", "x2"),
        x1_4=("fetch", 4, "x1"),
        x2_4=("fetch", 4, "x2"),
        v1=("or", 4, "x1_4", "x2_4"),
        v0_4=("fetch", 4, "v0"),
        v2=("xor", 4, "v0_4", "v1"),
    ),
    "match": _make_program(
        Layout(n=3, length=7, tokens={"q0": 5}, keys=2, n_unused=0),
        m0=("match", 5, "q0"),
        m0_6=("fetch", 6, "m0"),
        v0=("copy", 6, "m0_6"),
    ),
    "match_xor": _make_program(
        Layout(n=2, length=8, tokens={"q0": 5, "x0": 6}, keys=2, n_unused=0),
        m0=("match", 5, "q0"),
        m0_7=("fetch", 7, "m0"),
        x0_7=("fetch", 7, "x0"),
        v0=("xor", 7, "m0_7", "x0_7"),
    ),
}


@dataclass(frozen=True)
class Plan:
    """Which parts of a twin do what: what is not listed is outside the circuit.

    `nodes` maps each step of the program (and "previous", for a match) to its node, `at` to the
    positions where it acts; `roles` say what nodes do.
    """

    circuit: tuple[str, ...]  # edges
    nodes: dict[str, str]
    at: dict[str, tuple[int, ...]]
    roles: dict[str, str]


def list_twins() -> list[tuple[str, int]]:
    """List the names and seeds of the twins that are shipped.

    >>> list_twins()[:3]
    [('add', 0), ('add', 1), ('add', 2)]
    """
    found = (path.stem.rpartition("-") for path in FOLDER.glob("twin_*-*.safetensors"))
    return sorted((name.removeprefix("twin_"), int(seed)) for name, _, seed in found)


def twins() -> Iterator[ForgedCase]:
    """Load every twin that is shipped."""
    for name, seed in list_twins():
        yield load_twin(name, seed)


def load_twin(name: str, seed: int = 0) -> ForgedCase:
    """Load a shipped twin of one of `PROGRAMS`; KeyError for another name or seed.

    >>> case = load_twin("add")
    >>> case.task.everything().accuracy(case.model)
    1.0
    """
    if name not in PROGRAMS:
        nearest = find_nearest(name, PROGRAMS)
        raise KeyError(f"no twin is called {name!r}; nearest: {nearest!r}")
    if (name, seed) not in list_twins():
        seeds = ", ".join(str(s) for n, s in list_twins() if n == name) or "none"
        raise KeyError(
            f"no twin {name} with seed {seed!r} is shipped (seeds: {seeds}): "
            f"python -m mini_transformer.forge.twin_training {name} {seed}"
        )
    found = checkpoints.load(FOLDER / f"twin_{name}-{seed}.safetensors")
    plan: dict[str, Any] = found.facts["plan"]
    at = {step: tuple(places) for step, places in plan["at"].items()}
    return make_twin(
        name, seed, found.model, Plan(tuple(plan["circuit"]), plan["nodes"], at, plan["roles"])
    )


def make_twin(name: str, seed: int, model: Transformer, plan: Plan) -> ForgedCase:
    """Make the case of a model that was trained after a plan."""
    program = PROGRAMS[name]
    task = make_task(program, torch.arange(program.layout.d_vocab))
    nodes = {str(end) for edge in map(Edge.parse, plan.circuit) for end in edge[:2]}
    circuits = Circuits(
        edges=(frozenset(plan.circuit),),
        nodes=(frozenset(nodes),),
        how="measured",
        complete=False,
        corrupt="any",
        note=f"alone it answers every prompt, and no edge of it can be spared, whatever else is "
        f"kept (of {N_SETS} sets); what is outside does at most {MOST_EFFECT:.0%}",
    )
    truth = Truth(
        signatures=_make_signatures(program, plan),
        circuits={"resample": circuits},
        variables=_make_variables(program, model, plan),
        roles=plan.roles,
        notes="Trained: true as far as measured. With zeros or means the circuit is not known.",
    )
    roles = [f"    {role}: {node}" for role, node in truth.roles.items()]
    return ForgedCase(
        name=f"twin_{name}",
        model=model,
        task=task,
        truth=truth,
        seed=seed,
        picture="\n".join([program.draw(), "  roles:", *roles]),
        program=program,
        knobs=Knobs(program.size, decoys=None, tasks=0, redundancy="none", hidden=False),
    )


# ---- variables


def find_hook(node: str) -> str:
    """Name the hook of what a node writes; a head's is that of all heads of its layer."""
    found = Node.parse(node)
    place = "hook_mlp_out" if found.kind == "mlp" else "attn.hook_result"
    return f"blocks.{found.layer}.{place}"


def _select(value: Tensor, node: str, position: int) -> Float[Tensor, "batch d_model"]:
    """Select what a node writes at a position, as a view."""
    here = value[:, position]
    return here if value.ndim == 3 else here[:, Node.parse(node).place[1]]


def interchange(
    model: Transformer, clean: Tensor, corrupt: Tensor, node: str, position: int
) -> Float[Tensor, "batch pos vocab"]:
    """Run the clean prompts with what a node writes at a position in the corrupt ones."""
    hook = find_hook(node)
    with torch.no_grad():
        _, cache = model.run_with_cache(corrupt, names_filter=[hook])

        def put(value: Tensor, hook: object) -> None:
            _select(value, node, position)[:] = _select(cache[name], node, position)

        name = hook
        return model.run_with_hooks(clean, fwd_hooks=[(hook, put)])


def _make_variables(program: Program, model: Transformer, plan: Plan) -> dict[str, Variable]:
    """Describe each step but the last: in which directions its node writes at its position."""
    prompts = program.prompts
    names = [name for name in program.steps if name != program.answer]
    hooks = [find_hook(plan.nodes[name]) for name in names]
    with torch.no_grad():
        _, cache = model.run_with_cache(prompts, names_filter=hooks)

    def make_compute(name: str) -> Callable[[Tensor], Tensor]:
        return lambda tokens: program.run(tokens)[name]

    found = {}
    for name, hook in zip(names, hooks, strict=True):
        position = program.steps[name].at
        written = _select(cache[hook], plan.nodes[name], position)
        _, sizes, directions = torch.linalg.svd(written - written.mean(dim=0))
        shares = sizes.square().cumsum(0) / sizes.square().sum()
        found[name] = Variable(
            compute=make_compute(name),
            site=hook.replace("attn.hook_result", "hook_attn_out"),
            position=position,
            subspace=directions[: int((shares < 1 - LEFT_OUT).sum()) + 1],
            used=True,
            how="measured",
            note=f"all but {LEFT_OUT:.1%} of how {plan.nodes[name]} varies there",
        )
    return found


# ---- what is measured


def _make_signatures(program: Program, plan: Plan) -> dict[str, Signature]:
    """List what a twin must show."""
    inner = [name for name in program.steps if name != program.answer]
    found = {
        "accuracy": Signature("on all prompts", measure_accuracy, low=1.0),
        "distance of logits": Signature(
            "root mean square at the answer, from 4 for the answer and 0 for the rest",
            _measure_distance,
            high=0.01,
        ),
        "accuracy of the circuit alone": Signature(
            "all other edges resampled, all pairs of prompts",
            lambda case: _measure_alone(case, plan),
            low=1.0,
        ),
        "answers lost with an edge of the circuit": Signature(
            f"the least of any edge, in {N_SETS} random sets of the others",
            lambda case: _measure_needed(case, plan),
            low=0.1,
        ),
        "effect of edges outside": Signature(
            "resampled one by one, all, and in random sets: the largest mean change of the logit "
            "difference as a share of its mean, or share of answers lost",
            lambda case: _weigh(measure_edges_outside(case, plan)),
            high=MOST_EFFECT,
        ),
        "effect of nodes outside": Signature(
            "the same, of any node at any position where it does not act for the program",
            lambda case: _weigh(measure_nodes_outside(case, plan)),
            high=MOST_EFFECT,
        ),
    }
    for name in inner:
        found[f"interchange accuracy of {name}"] = Signature(
            f"all pairs of prompts; {plan.nodes[name]} at {program.steps[name].at}",
            functools.partial(measure_interchange, program=program, plan=plan, name=name),
            low=0.99,
        )
    return found


def measure_interchange(case: Case, program: Program, plan: Plan, name: str) -> float:
    """Measure how often the answer changes as the program's does if a variable is interchanged."""
    prompts = program.prompts
    clean = prompts.repeat_interleave(len(prompts), dim=0)
    corrupt = prompts.repeat(len(prompts), 1)
    node = plan.nodes[name]
    logits = interchange(case.model, clean, corrupt, node, program.steps[name].at)
    expected = program.run(clean, {name: program.run(corrupt)[name]})[program.answer]
    return (logits[:, -1].argmax(dim=1) == expected).float().mean().item()


def _draw_pairs(case: Case) -> tuple[Batch, torch.Generator]:
    generator = case.make_generator(1)
    return case.task.sample(N_PAIRS, generator, case.task.corruptions[0]), generator


@torch.no_grad()
def _run(case: Case, batch: Batch, masks: Tensor) -> Float[Tensor, "mask batch vocab"]:
    off = write_outputs(case.model, batch.corrupt)
    runs = run_masks(case.model, batch.clean, masks, off)
    return torch.cat([batch.at_answer(logits) for logits in runs])


def _measure_alone(case: Case, plan: Plan) -> float:
    batch = draw_prompts(case)
    logits = _run(case, batch, mask_of(case.model, plan.circuit)[None])
    return (logits.argmax(dim=-1) == batch.answer).float().mean().item()


def _measure_needed(case: Case, plan: Plan) -> float:
    batch, generator = _draw_pairs(case)
    inside = mask_of(case.model, plan.circuit).bool()
    masks = []
    for column in inside.nonzero().flatten().tolist():
        kept = torch.rand(N_SETS, len(inside), generator=generator) < 0.5
        kept[0] = True
        kept[1] = False
        kept[:, inside] = True
        kept[:, column] = False
        masks.append(kept)
    logits = _run(case, batch, torch.cat(masks).float())
    return (logits.argmax(dim=-1) != batch.answer).float().mean(dim=1).min().item()


def measure_effects(batch: Batch, changed: Tensor, own: Tensor) -> dict[str, float]:
    """Measure what runs do, the largest of all: to a logit difference, and to how many answers.

    Differences are shares of the mean difference of the whole model: "mean" over the pairs, and
    "largest" of any pair.
    """
    rows = torch.arange(len(batch.answer))
    difference, whole = (
        logits[..., rows, batch.answer] - logits[..., rows, batch.wrong]
        for logits in (changed, own)
    )
    change = (difference - whole).abs() / whole.mean()
    wrong = (changed.argmax(dim=-1) != batch.answer).float().mean(dim=-1)
    return {
        "mean": change.mean(dim=-1).max().item(),
        "largest": change.max().item(),
        "answers": wrong.max().item(),
    }


def _weigh(effects: dict[str, float]) -> float:
    return max(effects["mean"], effects["answers"])


def measure_edges_outside(case: Case, plan: Plan) -> dict[str, float]:
    """Resample each edge outside the circuit, all of them, and random sets of them."""
    batch, generator = _draw_pairs(case)
    inside = mask_of(case.model, plan.circuit).bool()
    outside = (~inside).nonzero().flatten()
    masks = torch.ones(len(outside), len(inside))
    masks[torch.arange(len(outside)), outside] = 0.0
    some = torch.rand(N_SETS, len(inside), generator=generator) < 0.5
    both = torch.stack([inside.float(), torch.ones(len(inside))])
    logits = _run(case, batch, torch.cat([masks, (some | inside).float(), both]))
    return measure_effects(batch, logits[:-1], logits[-1])


def measure_nodes_outside(case: Case, plan: Plan) -> dict[str, float]:
    """Interchange each node at each position where no step of the program needs it."""
    batch, _ = _draw_pairs(case)
    inside = {(plan.nodes[step], at) for step, places in plan.at.items() for at in places}
    writer = [str(Edge.parse(edge).writer) for edge in list_edges(case.model)]
    found = []
    with torch.no_grad():
        clean, corrupt = (write_outputs(case.model, x) for x in (batch.clean, batch.corrupt))
        for position in range(batch.clean.shape[1]):
            nodes = [n for n in list_writers(case.model)[1:] if (n, position) not in inside]
            masks = torch.tensor([[float(w != node) for w in writer] for node in nodes])
            off = clean.clone()
            off[:, :, position] = corrupt[:, :, position]
            runs = run_masks(case.model, batch.clean, masks, off)
            found += [batch.at_answer(logits) for logits in runs]
        return measure_effects(batch, torch.cat(found), batch.at_answer(case.model(batch.clean)))


def _measure_distance(case: Case) -> float:
    batch = draw_prompts(case).distinct()
    with torch.no_grad():
        logits = batch.at_answer(case.model(batch.clean))
    wanted = 4.0 * torch.nn.functional.one_hot(batch.answer, logits.shape[1])
    return (logits - wanted).square().mean().sqrt().item()
