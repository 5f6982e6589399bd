"""Circuit problems: which edges (or nodes) do the task in a model that nobody has seen before?

The models are forged, or trained twins of forged programs; all are disguised, and beside the task
they do other things that reach the logits. The truth is a set of right circuits that depends on the
ablation.
"""

import dataclasses
import functools
import random
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mini_transformer import Transformer, forge
from mini_transformer.board.forged import draw_case, salt
from mini_transformer.board.metrics.circuit import score_circuit
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.edges import Ablation, Edge, list_edges, list_writers, mask_of
from mini_transformer.methods import measure_faithfulness_curve
from mini_transformer.toys.truth import Batch, Case

__all__ = [
    "PROBLEMS",
    "SHIPPED",
    "Names",
    "ask_forged",
    "ask_twin",
    "draw_batch",
    "draw_scores",
    "list_ends",
    "make_problem",
]

ABLATIONS: tuple[Ablation, ...] = ("zero", "mean", "resample")
N_PROMPTS = 16
MOST_EDGES = 1800  # a few models have more, and take long
SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of edges kept, and all

Names = frozenset[str]


def ask_forged(name: str, seed: int) -> Problem:
    """Ask for the circuit of a forged model under one ablation, `forge/ablation`.

    >>> problem = ask_forged("forge/zero", 0)
    >>> found = problem.measure(problem.oracle())
    >>> found["auprc_best"], found["f1_union"], found["distance_best"]
    (1.0, 1.0, 0.0)
    """
    rng = random.Random(salt("forge", seed))
    case = draw_case(
        "forge",
        seed,
        lambda case: len(list_edges(case.model)) <= MOST_EDGES,
        size=rng.choice((2, 3)),
        decoys=rng.choice((0, 1)),
        tasks=rng.choice((1, 2)),
        saturation=rng.uniform(6, 20),
    )
    return ask_case(name, seed, case, name.split("/")[1], faith=True)


def ask_twin(name: str, seed: int) -> Problem:
    """Ask for the circuit of a twin, turned by the seed."""
    kind, which = TWINS[seed % len(TWINS)]
    return ask_case(name, seed, hide_twin(kind, which, salt("twin", seed)), faith=True)


TWINS = forge.list_twins()
PROBLEMS: dict[str, Build] = {f"forge/{ablation}": ask_forged for ablation in ABLATIONS}
PROBLEMS["twin/resample"] = ask_twin
SHIPPED = {"twin/resample": len(TWINS)}


@functools.lru_cache(maxsize=4)
def hide_twin(kind: str, which: int, seed: int) -> Case:
    """Load a twin, and turn its weights."""
    case = forge.load_twin(kind, which)
    found = forge.disguise(case.model, torch.Generator().manual_seed(seed))
    known = case.truth.circuits["resample"]
    circuits = dataclasses.replace(
        known,
        edges=tuple(frozenset(map(found.rename, circuit)) for circuit in known.edges),
        nodes=tuple(frozenset(map(found.rename, circuit)) for circuit in known.nodes),
    )
    truth = dataclasses.replace(case.truth, circuits={"resample": circuits})
    return dataclasses.replace(case, model=found.model, truth=truth)


def ask_case(
    name: str, seed: int, case: Case, ablation: str = "resample", faith: bool = False
) -> Problem:
    """Ask for a case's own circuits under one ablation."""
    batch = draw_batch(case, ablation, seed)
    truth = read_truth(case, ablation)
    return make_problem(name, seed, case.model, batch, ablation, *truth, faith)


def read_truth(case: Case, ablation: str) -> tuple[Sequence[Names], Sequence[Names], str]:
    """Return the right circuits by edges and by nodes, and a note on them."""
    circuits = case.truth.circuits[ablation]
    how = f"{circuits.how.capitalize()}: {circuits.note}."
    if len(circuits.edges) > 1:
        how = f"{len(circuits.edges)} circuits are right. {how}"
    return circuits.edges, circuits.nodes, how


def make_problem(
    name: str,
    seed: int,
    model: Transformer,
    batch: Batch,
    ablation: str,
    circuits: Sequence[Names],
    nodes: Sequence[Names] | None = None,
    note: str = "",
    faith: bool = False,
) -> Problem:
    """Make the problem of scoring this model's edges (or nodes).

    Right are `circuits`, sets of edges. For scores of nodes right are `nodes`; by default those at
    the ends of the edges. With ablation "zero", `batch.corrupt` is not used. `faith` adds the
    faithfulness of what edges score highest.
    """
    members = torch.stack([mask_of(model, circuit) for circuit in circuits]).bool()
    writers = list_writers(model)
    right_nodes = [list_ends(circuit) for circuit in circuits] if nodes is None else nodes
    node_members = torch.tensor([[writer in right for writer in writers] for right in right_nodes])
    rest = (batch.clean, batch.corrupt, batch.logit_difference, ablation)

    def measure(answer: Tensor | dict[str, float]) -> Metrics:
        if not isinstance(answer, dict):
            more = measure_faith(model, rest, answer) if faith else {}
            return score_circuit(answer, members) | more
        if node_members.any(dim=0).all():  # nothing can be ranked below the circuit
            return {}
        return score_circuit(torch.tensor([answer[writer] for writer in writers]), node_members)

    return Problem(
        "circuit",
        name,
        seed,
        arguments=(model, *rest),
        untrained=(Transformer(model.config, seed=seed), *rest),
        measure=measure,
        oracle=lambda: 2.0 * members[0] + members.any(dim=0),  # one circuit, then the others
        random=lambda draw: draw_scores(len(list_edges(model)), draw),
        n_prompts=len(batch.clean),
        note=note,
    )


def measure_faith(model: Transformer, runs: tuple, scores: Tensor) -> Metrics:
    """Measure CPR and CMD over circuits of a few sizes; edges that score alike come in together."""
    n = len(scores)
    above = (scores[:, None] < scores).sum(dim=1)
    sizes = torch.tensor([max(1, round(share * n)) for share in SIZES])
    places = torch.bucketize(above, sizes, right=True)
    clean, corrupt, metric, ablation = runs
    try:
        curve = measure_faithfulness_curve(model, clean, corrupt, metric, -places, ablation)
    except ValueError:  # the metric is the same with all edges on and off
        return {}
    return {"cpr": curve.cpr(), "cmd": curve.cmd()}


def list_ends(edges: Iterable[str]) -> Names:
    """List the nodes at both ends of edges.

    >>> sorted(list_ends(["input->a0.h1<q>"]))
    ['a0.h1', 'input']
    """
    return frozenset(str(end) for edge in map(Edge.parse, edges) for end in edge[:2])


def draw_batch(case: Case, ablation: str, seed: int) -> Batch:
    """Draw a few prompts; for mean ablation take all, since the mean of a sample is another.

    Without resampling the corrupt prompts are the clean ones in another order, so that their mean
    is that of the clean prompts, which the truth for mean ablation replaces by.
    """
    if ablation == "resample":
        return case.task.draw(N_PROMPTS, seed)
    assert case.task.everything is not None
    batch = case.task.everything().distinct()
    if ablation == "zero":
        generator = torch.Generator().manual_seed(seed)
        batch = batch.take(torch.randperm(len(batch.clean), generator=generator)[:N_PROMPTS])
    return dataclasses.replace(batch, corrupt=batch.clean.roll(1, dims=0))


def draw_scores(n: int, draw: int) -> Tensor:
    """Draw random scores.

    An odd draw is the one before it turned upside down, so that the mean AUROC of both is 1/2.
    """
    scores = torch.rand(n, generator=torch.Generator().manual_seed(draw // 2))
    return 1 - scores if draw % 2 else scores
