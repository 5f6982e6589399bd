"""Variables problems: in which subspace of a hook does the model carry this variable?"""

from mini_transformer.board.families.variables.answer import read_answer
from mini_transformer.board.families.variables.entrants import ENTRANTS
from mini_transformer.board.families.variables.problems import PROBLEMS
from mini_transformer.board.families.variables.traps import TRAPS
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="variables",
    parameters=("model", "hook", "pairs"),
    returns="Tensor (dim, d)",
    headline="overlap",
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=("unused_feature/x", "refusal_with_trigger/harm", "dormant/x"),
    entrants=ENTRANTS,
    place=4,
)
