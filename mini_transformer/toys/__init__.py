"""The zoo: models whose mechanism is known.

`names()` lists them, `load(name, seed)` gives a Case, `describe()` a table. `export(case, folder)`
writes one for other programs, `load_folder(folder)` reads it.
"""

import importlib
from collections.abc import Callable

from mini_transformer.nearest import find_nearest
from mini_transformer.toys.folder import export, load_folder
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
    "export",
    "load",
    "load_folder",
    "names",
]

# name -> the module here whose load(seed) returns the case; or module:function, where a module
# holds a family.
# What a case is says the first line of the module, or of the function.
_MODULES = {
    "induction_by_hand": "hand_set.induction_by_hand",
    "induction_rotated": "hand_set.induction_rotated",
    "boolean_and": "hand_set.boolean:load_and",
    "boolean_or": "hand_set.boolean:load_or",
    "boolean_xor": "hand_set.boolean:load_xor",
    "boolean_redundant_or": "hand_set.boolean:load_redundant_or",
    "backup_head": "hand_set.backup_head",
    "unused_feature": "hand_set.unused_feature",
    "opposite_positions": "hand_set.opposite_positions",
    "clock_by_hand": "hand_set.clock_by_hand",
    "planted_features": "hand_set.planted_features:load_plain",
    "planted_hierarchical": "hand_set.planted_features:load_hierarchical",
    "planted_correlated": "hand_set.planted_features:load_correlated",
    "refusal_with_trigger": "hand_set.refusal_with_trigger",
    "scratchpad_faithful": "hand_set.scratchpad:load_faithful",
    "scratchpad_unfaithful": "hand_set.scratchpad:load_unfaithful",
    "tracr_reverse": "tracr.cases:load_reverse",
    "tracr_length": "tracr.cases:load_length",
    "tracr_hist": "tracr.cases:load_hist",
    "tracr_sort": "tracr.cases:load_sort",
    "tracr_sort_unique": "tracr.cases:load_sort_unique",
    "tracr_frac_prevs": "tracr.cases:load_frac_prevs",
    "tracr_pair_balance": "tracr.cases:load_pair_balance",
    "tracr_shuffle_dyck2": "tracr.cases:load_shuffle_dyck2",
    "induction": "trained.induction",
    "modular_addition": "trained.modular_addition",
    "clock": "trained.clock_pizza:load_clock",
    "pizza": "trained.clock_pizza:load_pizza",
    "superposition_pentagon": "trained.superposition:load_pentagon",
    "superposition_digons": "trained.superposition:load_digons",
    "superposition_tetrahedron": "trained.superposition:load_tetrahedron",
    "superposition_40_in_10": "trained.superposition:load_forty",
    "max_of_list": "trained.max_of_list",
    "facts": "trained.facts",
    "style_grammar": "trained.style_grammar",
    "brackets": "trained.brackets",
    "belief_states": "trained.belief_states",
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
        nearest = find_nearest(name, _MODULES)
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
