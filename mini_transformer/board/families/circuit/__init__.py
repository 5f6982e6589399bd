"""Circuit problems: which edges (or nodes) of this model do the task?"""

from mini_transformer.board.families.circuit.answer import read_answer
from mini_transformer.board.families.circuit.entrants import ENTRANTS
from mini_transformer.board.families.circuit.problems import PROBLEMS, SHIPPED
from mini_transformer.board.families.circuit.references import REFERENCES
from mini_transformer.board.families.circuit.traps import TRAPS
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

EACH = {
    "auroc": "chance that an edge of the circuit scores higher than one outside; random: 1/2",
    "auprc": "average precision over all thresholds; random: the circuit's share of edges",
    "precision": "of the highest scores, as many as the circuit has edges: share that is in it",
    "recall": "share of the circuit that is among them",
    "f1": "harmonic mean of both",
    "distance": "edges to add or remove; lower is better",
}

FAMILY = Family(
    name="circuit",
    parameters={
        "model": "a Transformer; its weights and its activations may be read",
        "clean": "prompts, tokens (b, t), that the model answers",
        "corrupt": "others of the same shape; with zero ablation they say nothing",
        "metric": "logits (b, t, v) to the logit difference of right and wrong answer, (b)",
        "ablation": "what an edge carries that is off: nothing ('zero'), its writer's mean over "
        "`corrupt` ('mean'), or what it writes on the same row of it ('resample')",
    },
    returns="scores of edges: EdgeScores, Tensor (edge,), or dict from edge (or node) to number",
    headline="auprc_best",
    metrics={
        **{f"{name}_best": f"{what}; the best-fitting circuit" for name, what in EACH.items()},
        **{f"{name}_union": f"{what}; all circuits as one" for name, what in EACH.items()},
        "cpr": "area under faithfulness over ten sizes of circuit, bounded (Mueller et al. 2025)",
        "cmd": "area between faithfulness and 1, bounded; lower is better",
        "told_apart": "in traps: chance that what is hidden scores higher than what is idle",
    },
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=("forge/resample", "backup/zero"),
    models=8,
    shipped=SHIPPED,
    level=lambda scores: "nodes" if isinstance(scores, dict) else "edges",
    entrants=ENTRANTS,
    references=REFERENCES,
    place=1,
)
