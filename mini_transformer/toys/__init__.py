"""The zoo: models whose mechanism is known.

`names()` lists them, `load(name, seed)` gives a Case, `describe()` a table.
"""

import difflib
import importlib
from collections.abc import Callable

from mini_transformer.toys.truth import (
    Batch,
    Case,
    Circuits,
    Features,
    Signature,
    Task,
    Truth,
    Variable,
)

__all__ = [
    "Batch",
    "Case",
    "Circuits",
    "Features",
    "Signature",
    "Task",
    "Truth",
    "Variable",
    "describe",
    "load",
    "names",
]

# name -> the module here whose load(seed) returns the case; or module:function, where a module
# holds a family.
# What a case is says the first line of the module, or of the function.
_MODULES = {
    "induction_by_hand": "induction_by_hand",
    "induction_rotated": "induction_rotated",
    "boolean_and": "boolean:load_and",
    "boolean_or": "boolean:load_or",
    "boolean_xor": "boolean:load_xor",
    "boolean_redundant_or": "boolean:load_redundant_or",
    "backup_head": "backup_head",
    "unused_feature": "unused_feature",
    "clock_by_hand": "clock_by_hand",
    "planted_features": "planted_features:load_plain",
    "planted_hierarchical": "planted_features:load_hierarchical",
    "planted_correlated": "planted_features:load_correlated",
    "refusal_with_trigger": "refusal_with_trigger",
    "scratchpad_faithful": "scratchpad:load_faithful",
    "scratchpad_unfaithful": "scratchpad:load_unfaithful",
    "induction": "induction",
    "modular_addition": "modular_addition",
    "clock": "clock_pizza:load_clock",
    "pizza": "clock_pizza:load_pizza",
    "superposition_pentagon": "superposition_shapes:load_pentagon",
    "superposition_digons": "superposition_shapes:load_digons",
    "superposition_tetrahedron": "superposition_shapes:load_tetrahedron",
    "superposition_40_in_10": "superposition_shapes:load_forty",
    "max_of_list": "max_of_list",
    "facts": "facts",
    "style_grammar": "style_grammar",
    "brackets": "brackets",
    "belief_states": "belief_states",
}


def names() -> list[str]:
    """List the names of all cases."""
    return list(_MODULES)


def load(name: str, seed: int = 0) -> Case:
    """Load the case of that name.

    Nothing is trained: trained models come from shipped checkpoints, one per seed. For the models
    set by hand, seed 0 is the plain construction; any other seed gives a variant with the same
    mechanism in other places (heads and tokens permuted), with its own truth. Raise KeyError for a
    name that does not exist, with the nearest one, and for a seed of which no checkpoint is
    shipped, with how to train it; ValueError for a seed that is not a whole number from 0.

    >>> load("induction_by_hand").truth.roles["match"]
    'a1.h0'
    """
    if name not in _MODULES:
        nearest = difflib.get_close_matches(str(name), _MODULES, n=1, cutoff=0.0)[0]
        raise KeyError(f"no toy is called {name!r}; nearest: {nearest!r}; toys.names() lists them")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is {seed!r}, but must be a whole number from 0")
    return _find_loader(name)[0](seed)


def describe() -> list[dict[str, str]]:
    """Return one row per case for tables: its name, and what it is in one line.

    >>> describe()[0]["name"]
    'induction_by_hand'
    """
    return [{"name": name, "what": _find_loader(name)[1].splitlines()[0]} for name in _MODULES]


def _find_loader(name: str) -> tuple[Callable[[int], Case], str]:
    """Find the function that loads a case, and the docstring that describes it."""
    module_name, _, function = _MODULES[name].partition(":")
    module = importlib.import_module(f"mini_transformer.toys.{module_name}")
    loader = getattr(module, function or "load")
    return loader, (loader if function else module).__doc__ or ""
