"""Circuit problems: each toy set by hand whose minimal circuits are known, per ablation.

The truth is a set of right circuits that depends on the ablation. The toys of planted features are
left out: their circuit is one head.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mini_transformer import Transformer, toys
from mini_transformer.board.metrics.circuit import score_circuit
from mini_transformer.board.problem import Build, Problem
from mini_transformer.edges import Edge, list_edges, list_writers, mask_of

__all__ = ["PROBLEMS", "Names", "build", "draw_batch", "draw_scores", "list_ends", "make_problem"]

CASES = (
    "induction_by_hand",
    "induction_rotated",
    "boolean_and",
    "boolean_or",
    "boolean_xor",
    "boolean_redundant_or",
    "backup_head",
    "unused_feature",
    "clock_by_hand",
    "refusal_with_trigger",
    "scratchpad_faithful",
    "scratchpad_unfaithful",
)
ABLATIONS = ("zero", "mean", "resample")
MOST = 32  # prompts
MOST_FOR_MEAN = 128

Names = frozenset[str]


def build(name: str, seed: int = 0) -> Problem:
    """Build the problem of a toy and an ablation, `toy/ablation`.

    >>> problem = build("boolean_and/zero")
    >>> sorted(set(problem.measure(problem.oracle()).values()))  # a distance of 0, all else 1
    [0.0, 1.0]
    """
    case_name, ablation = name.split("/")
    case = toys.load(case_name, seed)
    circuits = case.truth.circuits[ablation]
    several = (
        f"{len(circuits.edges)} circuits are right: "
        "compared with the best-matching, and with their union. "
    )
    return make_problem(
        name,
        seed,
        case.model,
        draw_batch(case, ablation, seed),
        ablation,
        circuits.edges,
        nodes=circuits.nodes,
        note=(
            f"{several if len(circuits.edges) > 1 else ''}Known by {circuits.how}. {circuits.note}"
        ).strip(),
    )


PROBLEMS: dict[str, Build] = {
    f"{case}/{ablation}": build for case in CASES for ablation in ABLATIONS
}


def make_problem(
    name: str,
    seed: int,
    model: Transformer,
    batch: toys.Batch,
    ablation: str,
    circuits: Sequence[Names],
    note: str,
    nodes: Sequence[Names] | None = None,
) -> Problem:
    """Make the problem of scoring this model's edges (or nodes).

    Right are `circuits`, sets of edges. For scores of nodes right are `nodes`; by default those at
    the ends of the edges. With ablation "zero", `batch.corrupt` is not used.
    """
    members = torch.stack([mask_of(model, circuit) for circuit in circuits]).bool()
    writers = list_writers(model)
    right_nodes = [list_ends(circuit) for circuit in circuits] if nodes is None else nodes
    node_members = torch.tensor([[writer in right for writer in writers] for right in right_nodes])

    def measure(answer: Tensor | dict[str, float]) -> dict[str, float]:
        if not isinstance(answer, dict):
            return score_circuit(answer, members)
        if node_members.any(dim=0).all():  # nothing can be ranked below the circuit
            return {}
        return score_circuit(torch.tensor([answer[writer] for writer in writers]), node_members)

    rest = (batch.clean, batch.corrupt, batch.logit_difference, ablation)
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


def list_ends(edges: Iterable[str]) -> Names:
    """List the nodes at both ends of edges.

    >>> sorted(list_ends(["input->a0.h1<q>"]))
    ['a0.h1', 'input']
    """
    return frozenset(str(end) for edge in map(Edge.parse, edges) for end in edge[:2])


def draw_batch(case: toys.Case, ablation: str, seed: int) -> toys.Batch:
    """Return all prompts if there are at most 32, otherwise a sample of 32.

    Mean ablation uses all prompts up to 128, because the mean of a sample differs from the mean
    over all. Without resampling the corrupt prompts are the clean ones in another order, so that
    their mean is that of the clean prompts, which the truth for mean ablation replaces by.
    """
    everything = case.task.everything() if case.task.everything else None
    if ablation == "resample":
        if everything is not None and len(everything.clean) <= MOST:
            return everything
        return case.task.draw(MOST, seed, case.truth.circuits[ablation].corrupt)

    most = MOST_FOR_MEAN if ablation == "mean" else MOST
    batch = everything.distinct() if everything is not None else None
    if batch is None or len(batch.clean) > most:
        batch = case.task.draw(MOST, seed)
    others = batch.clean.roll(1, dims=0)
    return toys.Batch(batch.clean, others, batch.answer, batch.wrong, batch.position)


def draw_scores(n: int, draw: int) -> Tensor:
    """Draw random scores.

    An odd draw is the one before it turned upside down, so that the mean AUROC of both is 1/2.
    """
    scores = torch.rand(n, generator=torch.Generator().manual_seed(draw // 2))
    return 1 - scores if draw % 2 else scores
