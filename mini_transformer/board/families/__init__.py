"""The families of the board, and how families, problems and methods are found by name.

Every folder here is a family and offers its record as `FAMILY`, see `board.problem.Family`. To add
a family, add a folder; the program needs no other file. A family may import `board.problem`,
`board.answers`, `board.planted`, `board.metrics` and what stands below the board; never
another family, `board.running` or `board.report`.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points

from mini_transformer.board.problem import Family, Method, list_cases
from mini_transformer.nearest import find_nearest

__all__ = [
    "GROUP",
    "check_cases",
    "find_entrant",
    "find_family",
    "import_method",
    "infer_family",
    "list_entrants",
    "load_families",
]

GROUP = "mini_transformer.board"  # of entry points, by which installed packages offer methods


@functools.cache
def load_families() -> dict[str, Family]:
    """Import every folder here, and return the families by name in the order of the report.

    >>> list(load_families())
    ['circuit', 'features', 'probe', 'variables', 'erasure', 'steering']
    """
    folders = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    found = [importlib.import_module(f"{__name__}.{folder}").FAMILY for folder in folders]
    return {family.name: family for family in sorted(found, key=lambda f: (f.place, f.name))}


def find_family(name: str) -> Family:
    """Return the family of that name. Raise KeyError if there is none."""
    families = load_families()
    if name not in families:
        raise KeyError(f"no family is called {name!r}; there are {', '.join(families)}")
    return families[name]


def infer_family(method: Method) -> str:
    """Name the family that has the parameters of this function.

    Raise ValueError if none fits, or several.

    >>> infer_family(lambda activations, n_features: None)
    'features'
    """
    parameters = inspect.signature(method).parameters.values()
    names = [parameter.name for parameter in parameters]
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    families = load_families().values()
    fits = [
        family.name
        for family in families
        if names[: len(family.parameters)] == list(family.parameters)
        and set(needed) <= {*family.parameters, *family.options}
    ]
    given = f"{getattr(method, '__name__', repr(method))}({', '.join(names)})"
    if len(fits) > 1:
        raise ValueError(f"{given} can be of family {' or '.join(fits)}: say which by `family`")
    if not fits:
        known = "; ".join(f"{family.name} ({', '.join(family.parameters)})" for family in families)
        raise ValueError(f"{given} has the parameters of no family: give `family`, one of {known}")
    return fits[0]


def check_cases(families: Iterable[str], cases: str | Sequence[str] | None) -> None:
    """Raise KeyError, with the nearest one, for a case that none of these families has.

    >>> check_cases(["circuit"], ["forge/zero", "forgee"])
    Traceback (most recent call last):
    KeyError: "no case of these families is called 'forgee'; nearest: 'forge'"
    """
    names = [name for family in families for name in find_family(family).names]
    known = dict.fromkeys([*(name.split("/")[0] for name in names), *names])
    for case in list_cases(cases or []):
        if case not in known:
            nearest = find_nearest(case, known)
            raise KeyError(f"no case of these families is called {case!r}; nearest: {nearest!r}")


def list_entrants(family: str, references: bool = False) -> list[str]:
    """List the built-in methods of a family, and those that installed packages offer for it.

    A package offers one as an entry point of the group `mini_transformer.board`, called
    `family.name`. With `references`, list the trivial methods, too.

    >>> list_entrants("erasure")[0]
    'leace'
    """
    prefix = f"{family}."
    points = sorted(point.name for point in entry_points(group=GROUP))
    offered = [name.removeprefix(prefix) for name in points if name.startswith(prefix)]
    record = find_family(family)
    return [*record.entrants, *offered, *(record.references if references else ())]


def find_entrant(family: str, name: str) -> Method:
    """Return the method of that name, or the one that `module:function` names.

    Raise KeyError or ValueError, with one sentence, if there is none.

    >>> find_entrant("probe", "collections:Counter")
    <class 'collections.Counter'>
    """
    if ":" in name:
        return import_method(name)
    record = find_family(family)
    built_in = {**record.entrants, **record.references}
    if name in built_in:
        return built_in[name]
    for point in entry_points(group=GROUP, name=f"{family}.{name}"):
        return point.load()
    nearest = find_nearest(name, list_entrants(family, references=True))
    raise KeyError(
        f"the family {family!r} has no method {name!r}; nearest: {nearest!r}; "
        "your own is module:function"
    )


def import_method(name: str) -> Method:
    """Import what `module:function` names. Raise ValueError, with one sentence, if it fails."""
    module_name, _, function = name.partition(":")
    try:
        found = functools.reduce(getattr, function.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ValueError(f"{name} cannot be imported: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise ValueError(f"{name} is no function, but {type(found).__name__}")
    return found
