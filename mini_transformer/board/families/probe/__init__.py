"""Probe problems: is the label read, or something that goes along with it, and is it used?"""

from mini_transformer.board.families.probe.answer import read_answer
from mini_transformer.board.families.probe.entrants import ENTRANTS
from mini_transformer.board.families.probe.problems import PROBLEMS
from mini_transformer.board.families.probe.traps import TRAPS
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="probe",
    parameters=("activations", "labels"),
    returns="predict(x) and directions",
    headline="cosine",
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=("unused_feature/y", "refusal_with_trigger/refusal"),
    entrants=ENTRANTS,
    place=3,
)
