"""Which problems there are in each family, and building one.

A problem's name is `case/variant`. The modules of a family each offer `NAMES` (all, in the order of the report), `QUICK` (those of a
first look), `build(name, seed) -> Problem`, and, where only some seeds exist (trained toys), `list_seeds(name) -> list[int]`.
"""

import difflib
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType

from mini_transformer.board.problem import Problem
from mini_transformer.board.traps import attach

# A later module of a family adds to it, such as its traps.
MODULES: dict[str, tuple[str, ...]] = {
    "circuit": ("problems_circuits", "traps_circuits"),
    "features": ("problems_features", "traps_features"),
    "probe": ("problems_probes", "traps_probes"),
    "variables": ("problems_variables", "traps_variables"),
    "erasure": ("problems_erasure",),
    "steering": ("problems_steering",),
}


def list_problems(
    family: str, cases: str | Sequence[str] | None = None, quick: bool = False
) -> list[str]:
    """The names of a family's problems: all, those of a `quick` look, or those of the `cases` given (case, or case/variant).

    One case may be given as a string. KeyError for a family that does not exist. A case that this family does not have gives
    nothing, see `check_cases`.

    >>> list_problems("circuit", cases=["boolean_xor"])
    ['boolean_xor/zero', 'boolean_xor/mean', 'boolean_xor/resample']
    """
    modules = _load_modules(family)
    names = [
        name
        for module in modules
        for name in (module.QUICK if quick and not cases else module.NAMES)
    ]
    if cases is None:
        return names
    wanted = list_cases(cases)
    return [name for name in names if name in wanted or name.split("/")[0] in wanted]


def list_cases(cases: str | Sequence[str]) -> list[str]:
    """The cases as a list: a string is one case, not a sequence of letters."""
    return [cases] if isinstance(cases, str) else list(cases)


def check_cases(families: Iterable[str], cases: str | Sequence[str] | None) -> None:
    """Raise KeyError, with the nearest one, for a case that none of these families has.

    >>> check_cases(["circuit"], ["boolean_xor/zero", "boolean_xorr"])
    Traceback (most recent call last):
    KeyError: "no case of these families is called 'boolean_xorr'; nearest: 'boolean_xor'"
    """
    names = [name for family in families for name in list_problems(family)]
    known = dict.fromkeys([*(name.split("/")[0] for name in names), *names])
    for case in list_cases(cases or []):
        if case not in known:
            nearest = difflib.get_close_matches(str(case), known, n=1, cutoff=0.0)
            raise KeyError(f"no case of these families is called {case!r}; nearest: {nearest[0]!r}")


def list_seeds(family: str, name: str, seeds: int) -> list[int]:
    """The seeds to run a problem with: 0, 1, ... as many as asked for; of a trained toy at most those that are shipped."""
    module = _find_module(family, name)
    return module.list_seeds(name)[:seeds] if hasattr(module, "list_seeds") else list(range(seeds))


def build(family: str, name: str, seed: int = 0) -> Problem:
    """The problem of that name; KeyError, with the nearest one, if there is none.

    >>> build("circuit", "boolean_and/zero").note != ""
    True
    """
    return attach(_find_module(family, name).build(name, seed))


def _load_modules(family: str) -> list[ModuleType]:
    if family not in MODULES:
        raise KeyError(f"no family is called {family!r}; there are {', '.join(MODULES)}")
    return [import_module(f"mini_transformer.board.{module}") for module in MODULES[family]]


def _find_module(family: str, name: str) -> ModuleType:
    modules = _load_modules(family)
    for module in modules:
        if name in module.NAMES:
            return module
    nearest = difflib.get_close_matches(
        name, [n for module in modules for n in module.NAMES], n=1, cutoff=0.0
    )
    raise KeyError(f"the family {family!r} has no problem {name!r}; nearest: {nearest[0]!r}")
