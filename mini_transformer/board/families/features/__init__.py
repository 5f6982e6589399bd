"""Features problems: which directions are these activations sums of?"""

from mini_transformer.board.families.features.answer import read_answer
from mini_transformer.board.families.features.entrants import ENTRANTS
from mini_transformer.board.families.features.problems import PROBLEMS
from mini_transformer.board.families.features.traps import TRAPS
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="features",
    parameters=("activations", "n_features"),
    returns="encode(x) and W_dec",
    headline="f1",
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=("planted_features/plain",),
    entrants=ENTRANTS,
    place=2,
)
