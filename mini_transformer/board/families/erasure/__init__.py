"""Erasure problems: take a label out of activations, and leave everything else in."""

from mini_transformer.board.families.erasure.answer import read_answer
from mini_transformer.board.families.erasure.entrants import ENTRANTS
from mini_transformer.board.families.erasure.problems import PROBLEMS
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="erasure",
    parameters=("activations", "labels"),
    returns="function of activations",
    headline="balance",
    read=read_answer,
    problems=PROBLEMS,
    quick=("unused_feature/y", "style_grammar/sentiment"),
    entrants=ENTRANTS,
    place=5,
)
