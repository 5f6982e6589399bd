"""The forge: unlimited unseen models, each with an exact truth.

`make(seed)` forges one case, `many(n, seed)` a stream of them. `twins()` are models that were
trained to have a forged program's circuit. `write_blind` writes models without their truth,
`read_blind` reads them, `score_blind` scores answers.
"""

from mini_transformer.forge.blind import read_blind, write_blind
from mini_transformer.forge.case import ForgedCase, Knobs, make, many
from mini_transformer.forge.disguise import Disguise, disguise
from mini_transformer.forge.program import Program
from mini_transformer.forge.scoring import BlindScore, score_blind
from mini_transformer.forge.twins import list_twins, load_twin, twins

__all__ = [
    "BlindScore",
    "Disguise",
    "ForgedCase",
    "Knobs",
    "Program",
    "disguise",
    "list_twins",
    "load_twin",
    "make",
    "many",
    "read_blind",
    "score_blind",
    "twins",
    "write_blind",
]
