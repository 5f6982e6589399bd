"""Train a transformer to have the circuit of a program.

`python -m mini_transformer.forge.twin_training add 0` trains one and writes its checkpoint. The
teacher is a model that is set by hand to run the program. Each step draws pairs of prompts, sets of
edges and positions, and gives the edges that are off the corrupt prompt's values (at some
positions, or all) in both models. The twin must answer what the teacher answers. With everything
on that is the task; with an edge of the circuit off it is interchange intervention training; where
edges outside the circuit are off, the teacher does not change, and so the twin must not.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.checkpoints import save
from mini_transformer.edges import Edge, list_edges, list_writers, mask_of, run_edges, write_outputs
from mini_transformer.forge.building import (
    STRENGTH,
    Build,
    Head,
    Part,
    build,
    list_parts,
    make_stream,
    place_steps,
)
from mini_transformer.forge.case import SLACKS, make_task
from mini_transformer.forge.program import Program
from mini_transformer.forge.proving import prove
from mini_transformer.forge.twins import FOLDER, PROGRAMS, Plan
from mini_transformer.model import Config, Transformer
from mini_transformer.train import Recipe, Trained, train

__all__ = ["RECIPE", "make_plan", "train_twin"]

N_LAYERS, N_HEADS = 3, 3
RECIPE = Recipe(
    steps=1200,
    lr=5e-3,
    batch=32,
    warm_up=50,
    cool_down=800,
    betas=(0.9, 0.98),
    weight_decay=0.0,
    clip=1.0,
)
N_MASKS = 8  # sets of edges per step
CLEAR = 0.8  # the teacher's least margin; other rows teach nothing


def train_twin(name: str, seed: int = 0, progress: bool = False) -> tuple[Trained, Plan]:
    """Train a twin of one of `PROGRAMS` on one thread; the same seed gives the same weights."""
    program = PROGRAMS[name]
    teacher, plan = make_plan(program, seed)
    config = Config(
        d_vocab=program.layout.d_vocab,
        n_ctx=program.layout.length,
        d_model=32,
        d_head=8,
        d_mlp=64,
        n_layers=N_LAYERS,
        n_heads=N_HEADS,
        biases=True,
    )
    objective = make_objective(program, teacher, plan, RECIPE.batch)
    recipe = Recipe(**{**vars(RECIPE), "seed": seed})
    model = Transformer(config, seed)
    return train(model, objective, recipe, progress=progress, threads=1), plan


def make_plan(program: Program, seed: int) -> tuple[Transformer, Plan]:
    """Draw which head and MLP does what, and set a model by hand that runs the program so."""
    rng = random.Random(f"twin {seed}")
    while True:
        placement = place_steps(program, rng, most=N_LAYERS - 1, marks=False)
        stream = make_stream([program], [placement])
        parts = list_parts(program, placement, stream, 0, strength=12.0)
        heads = [(part.layer, part.at) for part in parts if isinstance(part, Head)]
        # No two heads of a layer write at one position: what they write could not be told apart.
        if placement.n_layers <= N_LAYERS and len(set(heads)) == len(heads):
            break
    made = build(parts, stream, program, n_layers=N_LAYERS, n_heads=N_HEADS, rng=rng)
    everything = make_task(program, torch.arange(program.layout.d_vocab)).everything
    assert everything is not None
    (circuit,) = prove(made.model, everything(), "resample", SLACKS).circuits
    return made.model, describe_plan(program, parts, made, [switch.edge for switch in circuit])


def describe_plan(program: Program, parts: list[Part], made: Build, circuit: list[str]) -> Plan:
    """Write down where each step is done."""
    keys = program.layout.keys
    steps = [*(["previous"] if keys else []), *program.steps]
    nodes = {
        step: made.node(part, slot)
        for step, part, slot in zip(steps, parts, made.slots, strict=True)
    }
    at: dict[str, tuple[int, ...]] = {name: (step.at,) for name, step in program.steps.items()}
    if keys:
        at["previous"] = tuple(range(2, 2 * keys + 1, 2))
    by_role: dict[str, list[str]] = {}
    for part, node in zip(parts, nodes.values(), strict=True):
        by_role.setdefault(part.role, []).append(node)
    others = [node for node in list_writers(made.model)[1:] if node not in nodes.values()]
    roles = {
        f"{role} {i}": node
        for role, own in {**by_role, "decoy": others}.items()
        for i, node in enumerate(dict.fromkeys(own))
    }
    order = list_edges(made.model)
    return Plan(tuple(sorted(circuit, key=order.index)), nodes, at, roles)


def make_objective(
    program: Program, teacher: Transformer, plan: Plan, n_pairs: int
) -> Callable[[Any, torch.Generator], tuple[Tensor, Tensor]]:
    """Make the objective: squared distance from 4 at the teacher's answer, and 0 elsewhere."""
    prompts = program.prompts
    draw_masks = make_draw(teacher, plan)
    n_writers = len(list_writers(teacher))

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        clean, corrupt = prompts[torch.randint(len(prompts), (2, n_pairs), generator=generator)]
        masks = draw_masks(N_MASKS, generator)
        shape = (n_writers, *clean.shape, 1)
        share = torch.rand(1, n_pairs, 1, 1, generator=generator) * 2  # half move everywhere
        moved = torch.rand(shape, generator=generator) < share

        def answer(model: Transformer) -> Float[Tensor, "mask pair vocab"]:
            off = torch.where(moved, write_outputs(model, corrupt), write_outputs(model, clean))
            return run_edges(model, clean, masks, off)[:, :, -1]

        with torch.no_grad():
            best, tokens = answer(teacher).topk(2)
            said = tokens[..., 0]
            clear = (best[..., 0] - best[..., 1] > CLEAR) & (said < program.layout.n)
        logits = answer(model)[clear]
        wanted = STRENGTH * F.one_hot(said[clear], logits.shape[1])
        accuracy = (logits.argmax(dim=1) == said[clear]).float().mean()
        return (logits - wanted).square().mean(), accuracy

    return objective


def make_draw(model: Transformer, plan: Plan):
    """Make what draws sets of edges.

    Of the edges outside all are on, none, or a random share; of the circuit all are on, all but
    those out of one node, or half of them.
    """
    inside = mask_of(model, plan.circuit).bool()
    writers = [str(Edge.parse(edge).writer) for edge in list_edges(model)]
    nodes = sorted({str(Edge.parse(edge).writer) for edge in plan.circuit})
    out_of = torch.tensor([[writer == node for writer in writers] for node in nodes])

    def draw(n: int, generator: torch.Generator) -> Float[Tensor, "mask edge"]:
        def draw_some(share: Tensor) -> Bool[Tensor, "mask edge"]:
            return torch.rand(n, len(inside), generator=generator) < share

        def choose(n_choices: int) -> Tensor:
            return torch.randint(n_choices, (n, 1), generator=generator)

        share = torch.rand(n, 1, generator=generator)
        outside = draw_some((choose(3) - 1 + share).clamp(0, 1))
        kind = choose(3)
        all_but_one = ~out_of[choose(len(nodes)).squeeze(1)]
        some = draw_some(torch.full((n, 1), 0.5))
        within = torch.where(kind == 0, True, torch.where(kind == 1, all_but_one, some))
        return torch.where(inside, within, outside).float()

    return draw


def write_twin(name: str, seed: int, folder: Path = FOLDER) -> Path:
    """Train a twin and write its checkpoint, by default where `load_twin` looks for it."""
    trained, plan = train_twin(name, seed)
    path = folder / f"twin_{name}-{seed}.safetensors"
    return save(path, trained.model, recipe=trained.recipe, seed=seed, plan=vars(plan))


if __name__ == "__main__":
    print(write_twin(sys.argv[1], int(sys.argv[2])))
