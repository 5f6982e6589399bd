"""From a seed to a case: draw a program, prove its circuits, add decoys, disguise."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mini_transformer.edges import Ablation, Edge, Node, Switch
from mini_transformer.forge import decoys as decoy
from mini_transformer.forge.building import (
    STRENGTH,
    Build,
    Head,
    Neurons,
    Part,
    build,
    find_places,
    list_parts,
    make_stream,
    place_steps,
)
from mini_transformer.forge.disguise import Disguise, disguise, measure_share
from mini_transformer.forge.program import Program, draw_layout, draw_program, refuse
from mini_transformer.forge.proving import Proof, Undecided, measure_margin, prove
from mini_transformer.model import Transformer
from mini_transformer.toys.ablated_accuracy import draw_prompts, measure_accuracy
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth, Variable

ABLATIONS: tuple[Ablation, ...] = ("zero", "mean", "resample")
SLACKS = tuple(
    STRENGTH * share for share in (0.22, 0.16, 0.1)
)  # that a proof is tried with; decoys get what is left of it
ROUNDING = 0.02
EQUAL = 1e-4  # the largest difference of a logit that the disguise may make
MOST_LAYERS = {size: 5 + size // 2 for size in range(1, 9)}


@dataclass(frozen=True)
class Knobs:
    """What kind of model is forged; None draws by the seed.

    `size`: steps of the program. `decoys`: heads per layer that serve no task, at least; None for a
    model without decoys of any kind. `tasks`: other programs in the same model. `redundancy`:
    "none", "second way" or "backup". `saturation`: attention score of a match. `positions`:
    "fixed", or "drawn" per prompt. `skew`: how far variables are from orthogonal (as in
    superposition). `hidden`: whether the weights are disguised.
    """

    size: int = 3
    decoys: int | None = 2
    tasks: int = 2
    redundancy: str | None = None
    saturation: float | int = 12.0
    positions: str | None = None
    skew: float | int = 0.0
    hidden: bool = True

    def __post_init__(self) -> None:
        if self.size not in MOST_LAYERS:
            raise ValueError(f"size is {self.size!r}, but must be a whole number from 1 to 8")
        choices = {
            "redundancy": (None, "none", "second way", "backup"),
            "positions": (None, "fixed", "drawn"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be one of {allowed}")
        if not 0 <= self.tasks <= 5:
            raise ValueError(f"tasks is {self.tasks!r}, but must be from 0 to 5")
        if self.decoys is not None and not 0 <= self.decoys <= 8:
            raise ValueError(f"decoys is {self.decoys!r}, but must be from 0 to 8, or None")
        if not 0 <= self.skew <= 0.6:
            raise ValueError(f"skew is {self.skew!r}, but must be from 0 to 0.6")
        if not 5 <= self.saturation <= 40:
            raise ValueError(f"saturation is {self.saturation!r}, but must be from 5 to 40")


@dataclass(frozen=True, repr=False)
class ForgedCase(Case):
    """A case with the program that the model runs, and the knobs that it was made with."""

    program: Program | None = None
    knobs: Knobs = field(default_factory=Knobs)


def make(seed: int, size: int = 3, **knobs: Any) -> ForgedCase:
    """Forge an unseen model of about `size` steps with an exact truth; see `Knobs` for the rest.

    The same arguments give the same case. Raise ValueError for impossible knobs, and if no program
    of this kind was found.

    >>> case = make(seed=0, size=1)
    >>> case.task.everything().accuracy(case.model)
    1.0
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is {seed!r}, but must be a whole number from 0")
    chosen = Knobs(size=size, **knobs)
    rng = random.Random(f"forge {seed}")
    for _ in range(300):
        program, drawn = _draw(rng, chosen)
        if refuse(program):
            continue
        try:
            return _Forge(program, drawn, seed, rng).make_case()
        except Undecided:
            continue
    raise ValueError(f"300 programs were drawn for {chosen}, but none could be built: loosen it")


def many(n: int, seed: int = 0, **knobs: Any) -> Iterator[ForgedCase]:
    """Forge `n` cases, with seeds that follow from `seed`."""
    for i in range(n):
        yield make(seed * 1_000_003 + i, **knobs)


def _draw(rng: random.Random, knobs: Knobs) -> tuple[Program, Knobs]:
    """Draw what the knobs leave open, and a program."""
    redundancy = knobs.redundancy or rng.choice(["none", "none", "second way", "backup"])
    positions = knobs.positions or rng.choice(["fixed"] * 4 + ["drawn"])
    drawn = replace(knobs, redundancy=redundancy, positions=positions)
    unused = 3
    layout = draw_layout(rng, knobs.size, positions, 1 + knobs.tasks, unused)
    twice = None if redundancy == "none" else redundancy
    return draw_program(rng, layout, knobs.size, twice), drawn


class _Forge:
    """Makes one case of a program."""

    def __init__(self, program: Program, knobs: Knobs, seed: int, rng: random.Random) -> None:
        self.program = program
        self.knobs = knobs
        self.seed = seed
        self.rng = rng
        self.generator = torch.Generator().manual_seed(rng.randrange(2**31))
        layout = program.layout
        self.programs = [program]
        self.programs += [draw_program(rng, layout, knobs.size) for _ in range(knobs.tasks)]
        self.placed = [place_steps(one, rng, most=min(4, 1 + knobs.size)) for one in self.programs]
        # Token i of the program is shown as token order[i].
        self.order = torch.arange(layout.d_vocab)
        if knobs.hidden:
            self.order = torch.randperm(layout.d_vocab, generator=self.generator)
        self.task = make_task(program, self.order)
        self.n_layers = max(placement.n_layers for placement in self.placed)
        if self.n_layers > MOST_LAYERS[knobs.size]:
            raise Undecided("there are too many layers")

    def make_case(self) -> ForgedCase:
        proofs, places, alone = self.prove()
        slack = min(proof.slack for proof in [*proofs.values(), *places.values()])
        parts, pair, whole = self.build_whole(slack)
        self.show_tokens(whole.model)
        found = self.hide(whole.model)
        # The program's parts come first in both models, in the same order.
        names = {"input": "input", "logits": "logits"}
        for part, small, large in zip(parts, alone.slots, whole.slots, strict=False):
            names[alone.node(part, small)] = found.rename(whole.node(part, large))
        truth = Truth(
            signatures=make_signatures(whole.model, self.knobs.hidden),
            circuits={ablation: state(proof, names) for ablation, proof in proofs.items()},
            variables=self.make_variables(whole, found),
            roles=make_roles(whole, parts, pair, found),
            by_position={ablation: state(proof, names) for ablation, proof in places.items()},
            notes=f"Decoys add less than {slack} to any difference of logits.",
        )
        roles = [f"    {role}: {node}" for role, node in truth.roles.items()]
        return ForgedCase(
            name=f"forged_{self.seed}",
            model=found.model,
            task=self.task,
            truth=truth,
            seed=self.seed,
            picture="\n".join([self.program.draw(), "  roles:", *roles]),
            program=self.program,
            knobs=self.knobs,
        )

    def hide(self, model: Transformer) -> Disguise:
        """Disguise the model so that no logit changes by more than rounding."""
        if not self.knobs.hidden:
            heads = tuple(range(model.config.n_heads))
            same = torch.eye(model.config.d_model)
            return Disguise(model, same, (heads,) * model.config.n_layers)
        tokens = self.order[self.program.prompts]
        for _ in range(5):
            found = disguise(model, self.generator, self.knobs.skew)
            with torch.no_grad():
                if (found.model(tokens) - model(tokens)).abs().max() < EQUAL:
                    return found
        raise Undecided("float32 is too coarse for this model")

    def prove(self) -> tuple[dict[str, Proof], dict[str, Proof], Build]:
        """Find the circuits, also by position, on a model that holds nothing but the program."""
        placed = self.placed[0]
        stream = make_stream([self.program], [placed])
        parts = list_parts(self.program, placed, stream, 0, self.knobs.saturation)
        alone = build(parts, stream, self.program, n_layers=placed.n_layers)
        batch = make_task(self.program, torch.arange(len(self.order))).everything()  # type: ignore
        proofs: dict[str, Proof] = {}
        by_position: dict[str, Proof] = {}
        for ablation in ABLATIONS:
            proofs[ablation] = prove(alone.model, batch, ablation, SLACKS)
            if not self.program.layout.keys:
                places = find_places(alone, parts)
                by_position[ablation] = prove(alone.model, batch, ablation, SLACKS, places)
        return proofs, by_position, alone

    def build_whole(self, slack: float) -> tuple[list[Part], tuple[int, ...], Build]:
        """Build the plain model with the other tasks and all decoys."""
        layout = self.program.layout
        strength = self.knobs.saturation
        extra = {} if self.knobs.decoys is None else decoy.list_groups(layout.n)
        stream = make_stream(self.programs, self.placed, **extra)
        parts: list[Part] = []
        for task, (program, placed) in enumerate(zip(self.programs, self.placed, strict=True)):
            own = list_parts(program, placed, stream, task, strength)
            parts += [replace(part, role="second task") for part in own] if task else own
        n_layers = self.n_layers
        if self.knobs.decoys is None:
            made = build(parts, stream, self.program, n_layers=n_layers, rng=self.rng)
            return parts, (), made
        answered = self.placed[0].layers[self.program.answer]
        if answered + 1 == n_layers and self.rng.random() < 0.5:
            n_layers += 1
        parts += decoy.draw_anti(stream, n_layers, answered, self.rng, strength)
        heads = [part.layer for part in parts if isinstance(part, Head)]
        n_heads = max(map(heads.count, range(n_layers))) + self.knobs.decoys
        free = [n_heads - heads.count(layer) for layer in range(n_layers)]
        spare = decoy.draw_heads(stream, layout, free, self.rng, strength)
        pair = tuple(which + len(parts) for which in decoy.draw_pair(spare, self.rng))
        parts += spare
        used = [0] * n_layers
        for part in parts:
            used[part.layer] += len(part.reads) if isinstance(part, Neurons) else 0
        made = build(
            parts,
            stream,
            self.program,
            n_layers=n_layers,
            d_mlp=max(used) + 2 * decoy.PAIRS + decoy.ASLEEP,
            room=decoy.ROOM,
            rng=self.rng,
        )
        twice = f"0:{self.program.twice}"
        taken = decoy.ANTI * STRENGTH * any(part.role == "anti" for part in parts)
        prompts = self.program.prompts
        filler = decoy.Filler(made, parts, layout, prompts, pair, twice, strength, self.generator)
        filler.fill(slack - taken - ROUNDING)
        return parts, pair, made

    @torch.no_grad()
    def show_tokens(self, model: Transformer) -> None:
        """Permute the tokens."""
        model.W_E[self.order] = model.W_E.clone()
        model.get_parameter("W_U")[:, self.order] = model.W_U.clone()
        bias = model.get_parameter("b_U")
        bias[self.order] = bias.clone()

    def make_variables(self, whole: Build, found: Disguise) -> dict[str, Variable]:
        """Describe the variables of the program's steps but the last."""
        placed = self.placed[0].layers
        back = self.order.argsort()

        def make_compute(name: str) -> Callable[[Tensor], Tensor]:
            return lambda tokens: self.program.run(back[tokens])[name]

        variables = {}
        for name, step in self.program.steps.items():
            if name != self.program.answer:
                layer = placed.get(f"{name}/2", placed[name])
                place = "mid" if step.op in ("fetch", "match") else "post"
                variables[name] = Variable(
                    compute=make_compute(name),
                    site=f"blocks.{layer}.hook_resid_{place}",
                    position=step.at,
                    subspace=whole.stream[f"0:{name}"] @ found.turn,
                    used=True,
                    how="construction",
                    note="row i of the subspace for value i",
                )
        return variables


def state(proof: Proof, names: dict[str, str]) -> Circuits:
    """Write a proof as a truth about the whole model, whose nodes have other names."""

    def rename(switch: Switch) -> tuple[str, frozenset[str]]:
        edge = Edge.parse(switch.edge)
        writer, reader = names[str(edge.writer)], names[str(edge.reader)]
        renamed = Edge(Node.parse(writer), Node.parse(reader), edge.part)
        return str(switch._replace(edge=str(renamed))), frozenset({writer, reader})

    edges = [frozenset(rename(switch)[0] for switch in circuit) for circuit in proof.circuits]
    nodes = {frozenset().union(*(rename(s)[1] for s in one)) for one in proof.circuits}
    smallest = [one for one in nodes if not any(other < one for other in nodes)]
    return Circuits(
        tuple(sorted(edges, key=lambda one: (len(one), sorted(one)))),
        tuple(sorted(smallest, key=lambda one: (len(one), sorted(one)))),
        "enumeration",
        complete=True,
        corrupt="any",
        note="by all sets of the program's edges; decoys add less than any verdict is clear by",
    )


def make_roles(
    whole: Build, parts: list[Part], pair: tuple[int, ...], found: Disguise
) -> dict[str, str]:
    """Name what each component does, numbered where several do the same."""
    nodes: dict[str, list[str]] = {}
    for i, (part, slot) in enumerate(zip(parts, whole.slots, strict=True)):
        own = nodes.setdefault("constant pair" if i in pair else part.role, [])
        node = found.rename(whole.node(part, slot))
        if node not in own:
            own.append(node)
    return {f"{role} {i}": node for role, own in nodes.items() for i, node in enumerate(own)}


def make_signatures(plain: Transformer, hidden: bool) -> dict[str, Signature]:
    """List what the model must show; damage to any part of it changes the third."""

    def measure_difference(case: Case) -> float:
        tokens = draw_prompts(case).distinct().clean
        with torch.no_grad():
            return (case.model(tokens) - plain(tokens)).abs().max().item()

    def measure_least_margin(case: Case) -> float:
        batch = draw_prompts(case).distinct()
        with torch.no_grad():
            logits = batch.at_answer(case.model(batch.clean))
        return measure_margin(logits, batch.answer).min().item()

    return {
        "accuracy": Signature("on all prompts", measure_accuracy, low=1.0),
        "least margin": Signature(
            "of the answer's logit over all others", measure_least_margin, low=0.1
        ),
        "difference from the plain construction": Signature(
            "largest, of any logit; logits go up to 4", measure_difference, high=2 * EQUAL
        ),
        "share of weights in use": Signature(
            "larger than 1/1000 of the largest in their matrix",
            lambda case: measure_share(case.model),
            low=0.95 if hidden else 0.0,
        ),
    }


def make_task(program: Program, order: Int[Tensor, "token"]) -> Task:
    """Make the task of a program whose token i is shown as order[i]."""
    layout = program.layout
    prompts = order[program.prompts]
    answers = order[program.compute(program.prompts)]
    differ = answers[:, None] != answers
    names = [layout.names[token] for token in order.argsort().tolist()]

    def pair(clean: Tensor, corrupt: Tensor) -> Batch:
        last = torch.full_like(clean, layout.length - 1)
        return Batch(prompts[clean], prompts[corrupt], answers[clean], answers[corrupt], last)

    def sample(n: int, generator: torch.Generator, corrupt: str) -> Batch:
        clean = torch.randint(len(prompts), (n,), generator=generator)
        other = torch.multinomial(differ[clean].float(), 1, generator=generator).squeeze(1)
        return pair(clean, other)

    return Task(
        f"{layout.length} tokens, the last is =; say the value of {program.answer}",
        sample,
        tuple(names),
        ("any",),
        lambda: pair(*differ.nonzero().T),
    )
