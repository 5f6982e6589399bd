"""Hook points as torch modules, for libraries that reach into a model by its modules.

nnsight and pyvene see a module's input and output and nothing between. The model's own hook points
are no modules, since calling one takes longer: a forward of 8 prompts through two layers of width
16 took 1.15 times as long with them. So they are turned into modules where a library asks for it.
"""

import copy
from typing import Any

from torch import nn

from mini_transformer.hooks import HookPoint
from mini_transformer.model import Transformer

__all__ = ["ModulePoint", "as_modules"]


class ModulePoint(nn.Module, HookPoint):
    """A hook point that is a module. Its output is its input, unless somebody edits it."""

    forward = HookPoint.__call__
    on = True  # it cannot see who listens, so what is computed on demand is always computed

    def __init__(self, name: str, on_demand: bool) -> None:
        nn.Module.__init__(self)
        HookPoint.__init__(self, on_demand)
        self.name = name


def as_modules(model: Transformer) -> Transformer:
    """Return a model with the same weights whose hook points are modules.

    `model.blocks[0].attn.hook_z.output` in nnsight and `"blocks[0].attn.hook_z.output"` in pyvene
    are then what `cache["z", 0]` is. Weights are shared, not copied: who trains one trains both.

    >>> from mini_transformer import toys
    >>> model = as_modules(toys.load("induction_by_hand").model)
    >>> model.blocks[0].attn.hook_z
    ModulePoint()
    """
    shared: dict[int, Any] = {id(one): one for one in (*model.parameters(), *model.buffers())}
    own = copy.deepcopy(model, shared)
    vars(own)["device"] = model.W_E.device  # pyvene asks for it
    for name, point in own.hook_points.items():
        place, _, attribute = name.rpartition(".")
        holder = own.get_submodule(place)
        delattr(holder, attribute)
        holder.add_module(attribute, ModulePoint(name, point.on_demand))
        own.hook_points[name] = getattr(holder, attribute)
    return own
