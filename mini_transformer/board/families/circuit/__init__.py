"""Circuit problems: which edges (or nodes) of this model do the task?"""

from mini_transformer.board.families.circuit.answer import read_answer
from mini_transformer.board.families.circuit.entrants import ENTRANTS
from mini_transformer.board.families.circuit.problems import PROBLEMS
from mini_transformer.board.families.circuit.traps import TRAPS
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="circuit",
    parameters=("model", "clean", "corrupt", "metric", "ablation"),
    returns="scores of edges: EdgeScores, Tensor (edge,), or dict",
    headline="auroc_best",
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=(
        "induction_by_hand/zero",
        "boolean_redundant_or/zero",
        "boolean_redundant_or/resample",
        "boolean_and/needed_by_resample",
    ),
    entrants=ENTRANTS,
    place=1,
)
