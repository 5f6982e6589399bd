"""Docstrings of this package are plain text; Sphinx reads reStructuredText."""

import re

SPECIAL = re.compile(r"([*|_\\])")


def rewrite_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Change a docstring's lines in place, as autodoc's event asks for."""
    lines[:] = to_restructured("\n".join(lines)).split("\n")


def to_restructured(text: str) -> str:
    """Keep paragraphs, show `code` as code, and indented blocks and examples as they stand."""
    return "\n\n".join(map(rewrite_block, re.split(r"\n\s*\n", text.rstrip()))) + "\n"


def rewrite_block(block: str) -> str:
    """Set the examples and indented lines that end a block apart; bullets stand on their own."""
    lines = block.split("\n")
    first = next((i for i, line in enumerate(lines) if line.startswith((">>>", " ", "- "))), None)
    if first is None:
        return rewrite_prose(block)
    head = rewrite_prose("\n".join(lines[:first]))
    if lines[first].startswith("- "):
        rest = rewrite_prose("\n".join(lines[first:]))
    else:
        kind = "python" if lines[first].startswith(">>>") else "text"
        rest = f".. code-block:: {kind}\n\n" + "\n".join("    " + one for one in lines[first:])
    return f"{head}\n\n{rest}".lstrip()


def rewrite_prose(text: str) -> str:
    """Escape what would be markup, outside of `code`, which becomes a literal."""
    parts = re.split(r"``?([^`]+)``?", text)
    return "".join(
        f"``{part}``\\ " if i % 2 else SPECIAL.sub(r"\\\1", part) for i, part in enumerate(parts)
    )
