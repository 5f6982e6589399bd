"""Variables problems: in which subspace of a hook does the model carry this variable?"""

from mini_transformer.board.families.variables.answer import read_answer
from mini_transformer.board.families.variables.entrants import ENTRANTS
from mini_transformer.board.families.variables.problems import PROBLEMS, Pairs
from mini_transformer.board.families.variables.references import REFERENCES
from mini_transformer.board.families.variables.traps import TRAPS
from mini_transformer.board.problem import Family
from mini_transformer.methods import AlignmentMap

__all__ = ["FAMILY"]

FAMILY = Family(
    name="variables",
    parameters={
        "model": "a Transformer; its weights and its activations may be read",
        "hook": "the name of the hook whose activations carry the variable",
        "pairs": "prompts `base` and `source` (pair, pos), `answers` (pair) that follow the base "
        "had the variable the source's value, `position` of the activation, `answer_position`, "
        "and `dim`, how many directions carry the variable",
    },
    returns="Tensor (dim, d) of orthonormal rows, or an AlignmentMap",
    headline="overlap",
    metrics={
        "overlap": "squared cosines of principal angles, summed, over the larger dimension; "
        "random: dim / d",
        "largest_angle": "largest principal angle in degrees; lower is better",
        "interchange": "share of held-out pairs with the counterfactual answer after the swap",
        "cause": "the same where the variable differs: its value must arrive",
        "isolation": "the same where only other things differ: nothing may arrive",
        "cause_and_isolation": "mean of both",
        "dormant": "in a trap: share of a direction that no prompt uses",
        "interchange_untrained": "in a trap: interchange of the same search in random weights",
    },
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=("forge/brought", "dormant/x"),
    models=5,
    data=(Pairs, AlignmentMap),
    entrants=ENTRANTS,
    references=REFERENCES,
    place=4,
)
