"""Circuit problems: every toy set by hand whose minimal circuits are known, under zero, mean and resample ablation.

The truth is a set of right circuits that depends on the ablation. The toys of planted features are
left out: their circuit is one head.
"""

import torch
from torch import Tensor

from mini_transformer import Transformer, toys
from mini_transformer.board.circuit_metrics import score_circuit
from mini_transformer.board.problem import Problem
from mini_transformer.edges import list_edges, list_writers, mask_of

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
NAMES = tuple(f"{case}/{ablation}" for case in CASES for ablation in ABLATIONS)
QUICK = ("induction_by_hand/zero", "boolean_redundant_or/zero", "boolean_redundant_or/resample")
MOST, MOST_FOR_MEAN = 32, 128  # prompts


def build(name: str, seed: int = 0) -> Problem:
    """Score the edges (or nodes) of this toy, `case/ablation`, with this seed; see `Problem`.

    >>> problem = build("boolean_and/zero")
    >>> sorted(set(problem.measure(problem.oracle()).values()))  # a distance of 0, all else 1
    [0.0, 1.0]
    """
    case_name, ablation = name.split("/")
    case = toys.load(case_name, seed)
    circuits, batch = case.truth.circuits[ablation], draw_batch(case, ablation, seed)
    members = torch.stack([mask_of(case.model, circuit) for circuit in circuits.edges]).bool()
    writers = list_writers(case.model)
    nodes = torch.tensor([[writer in circuit for writer in writers] for circuit in circuits.nodes])

    def measure(answer: Tensor | dict[str, float]) -> dict[str, float]:
        if not isinstance(answer, dict):
            return score_circuit(answer, members)
        if nodes.any(dim=0).all():  # nothing can be ranked below the circuit
            return {}
        return score_circuit(torch.tensor([answer[writer] for writer in writers]), nodes)

    rest = (batch.clean, batch.corrupt, batch.logit_difference, ablation)
    several = f"{len(members)} circuits are right: compared with the best-matching, and with their union. "
    return Problem(
        family="circuit",
        name=name,
        seed=seed,
        arguments=(case.model, *rest),
        untrained=(Transformer(case.model.config, seed=seed), *rest),
        measure=measure,
        oracle=lambda: (
            2.0 * members[0] + members.any(dim=0)
        ),  # one circuit first, then the rest of the union
        random=lambda draw: draw_scores(len(list_edges(case.model)), draw),
        n_prompts=len(batch.clean),
        note=f"{several if len(members) > 1 else ''}Known by {circuits.how}. {circuits.note}".strip(),
    )


def draw_batch(case: toys.Case, ablation: str, seed: int) -> toys.Batch:
    """Every prompt where they are few, else a sample; for mean ablation also where they are more, since a sample's mean is another.

    Without resampling the other prompts are the same ones in another order: their mean is that of the clean prompts, which is
    what the truth for mean ablation replaces by.
    """
    everything = case.task.everything() if case.task.everything else None
    if ablation == "resample":
        if everything is not None and len(everything.clean) <= MOST:
            return everything
        return case.task.draw(MOST, seed, case.truth.circuits[ablation].corrupt)
    distinct = everything.distinct() if everything is not None else None
    most = MOST_FOR_MEAN if ablation == "mean" else MOST
    batch = (
        distinct
        if distinct is not None and len(distinct.clean) <= most
        else case.task.draw(MOST, seed)
    )
    return toys.Batch(
        batch.clean, batch.clean.roll(1, dims=0), batch.answer, batch.wrong, batch.position
    )


def draw_scores(n: int, draw: int) -> Tensor:
    """Random scores; an odd draw is the one before it turned upside down, so that the mean AUROC of both is exactly 1/2."""
    scores = torch.rand(n, generator=torch.Generator().manual_seed(draw // 2))
    return 1 - scores if draw % 2 else scores
