"""Say what went wrong, or what came back, in a few words."""

from typing import Any


def summarize(error: BaseException) -> str:
    """Name an exception's kind and the first line of its message, without a traceback.

    >>> summarize(TypeError("unsupported operand"))
    'TypeError: unsupported operand'
    """
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def describe_kind(value: Any) -> str:
    """Name a value's type with its article.

    >>> describe_kind(1), describe_kind("a"), describe_kind(None)
    ('an int', 'a str', 'None')
    """
    kind = type(value).__name__
    return "None" if value is None else f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
