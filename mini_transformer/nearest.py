"""Find the name that was probably meant, for errors about a name that does not exist."""

import difflib
from collections.abc import Iterable

__all__ = ["find_nearest"]


def find_nearest(
    name: object, known: Iterable[str], otherwise: str = "none", likeness: float = 0.0
) -> str:
    """Return the known name that is most like `name`.

    If there is none, or none that is alike by `likeness` (from 0 to 1), return `otherwise`.

    >>> find_nearest("a0h1", ["input", "a0.h1", "logits"])
    'a0.h1'
    """
    return next(iter(difflib.get_close_matches(str(name), list(known), 1, likeness)), otherwise)
