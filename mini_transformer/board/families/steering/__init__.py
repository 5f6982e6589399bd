"""Steering problems: which vector, added where, changes one thing about the answer only?"""

from mini_transformer.board.families.steering.answer import read_answer
from mini_transformer.board.families.steering.entrants import ENTRANTS
from mini_transformer.board.families.steering.problems import PROBLEMS
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="steering",
    parameters=("positive", "negative"),
    returns="(vector, hook)",
    headline="specificity",
    read=read_answer,
    problems=PROBLEMS,
    quick=("refusal_with_trigger/refuse", "style_grammar/sentiment"),
    entrants=ENTRANTS,
    place=6,
)
