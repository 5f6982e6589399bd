"""The forge: unlimited unseen models, each with an exact truth.

`make(seed)` forges one case, `many(n, seed)` a stream of them.
"""

from mini_transformer.forge.case import ForgedCase, ForgedTruth, Knobs, make, many
from mini_transformer.forge.disguise import Disguise, disguise
from mini_transformer.forge.program import Program

__all__ = ["Disguise", "ForgedCase", "ForgedTruth", "Knobs", "Program", "disguise", "make", "many"]
