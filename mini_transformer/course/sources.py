"""The bytes that a learner wrote as Python source: encodings, line ends, notebooks. All commands read learners' files here."""

import codecs
import io
import json
import re
import tokenize
from typing import Any

from mini_transformer.course.notebooks import join_cells

LARGEST = 2**20  # bytes of source
COOKIE = re.compile(r"\A((?:[ \t\f]*(?:#.*)?\n)?[ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+")
# Those that no editor writes; the time that Python takes to decode them grows with the square of the length.
NO_TEXT = {"idna", "punycode"}
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
         codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip


class SourceError(ValueError):
    """Why this is no source, in half a sentence that goes after the file's name."""


def read_source(name: str, content: bytes) -> tuple[bytes, list[str]]:
    """The source as UTF-8 with plain line ends, and remarks on what had to be changed. SourceError if there is none.

    >>> read_source("ex01.py", b"x = 1\\r\\n")
    (b'x = 1\\n', [])
    """
    if not content.strip():
        raise SourceError("is empty")
    text, remarks = decode_text(content, name)
    if "\0" in text:
        others = [letter for letter in text if not letter.isprintable() and letter not in "\0\t\n\f\r"]
        raise SourceError(
            "is not a text file" if others else "is not Python: source code string cannot contain null bytes"
        )
    cells = read_notebook(text) if name.lower().endswith(".ipynb") else find_notebook(text)
    if cells is not None:
        text = join_cells(cells)
        remarks.append("is a notebook; its code cells were graded")
    # the text is UTF-8 from here on, and has to say nothing else of itself
    source = COOKIE.sub(r"\1utf-8", unify_line_ends(text), count=1).encode(errors="replace")
    if len(source) > LARGEST:
        raise SourceError(f"has {len(source)} bytes of source, at most {LARGEST} are read")
    return source, remarks


def unify_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_text(content: bytes, name: str) -> tuple[str, list[str]]:
    """Text in the encoding that it begins with or declares, or else in UTF-8, or in that of old Windows programs."""
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding, errors="replace"), [f"is {encoding.upper()}; save it as UTF-8"]
    for encoding in (find_declared(content), "utf-8-sig"):
        try:
            text = content.decode(encoding)
        except (UnicodeError, LookupError):
            continue
        if encoding == "utf-8-sig" or COOKIE.search(
            unify_line_ends(text)
        ):  # two bytes a letter: it would declare nothing
            return text, []
    if codecs.BOM_UTF16_LE in content or codecs.BOM_UTF16_BE in content:  # pieces of different files, glued together
        raise SourceError(f"is not Python: invalid or missing encoding declaration for {name!r}")
    return content.decode("cp1252", errors="replace"), ["is not UTF-8; it was read as Windows-1252"]


def find_declared(content: bytes) -> str:
    """The encoding that stands in a comment on the first two lines, or UTF-8."""
    lines = content[:4096].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:2]
    # detect_encoding looks at letters, too; what it is asked for is plain ASCII
    plain = b"\n".join(lines).decode("ascii", errors="replace").replace("\ufffd", "?")
    if content.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(plain.encode()).readline)[0]
    except SyntaxError:  # Python does not know it
        return "utf-8-sig"
    return "utf-8-sig" if encoding == "utf-8" or codecs.lookup(encoding).name in NO_TEXT else encoding


def find_notebook(text: str) -> list[str] | None:
    """The code cells of a notebook that was saved under another ending; None if it is none."""
    if not text.lstrip().startswith("{") or '"cell_type"' not in text:
        return None
    try:
        return read_notebook(text)
    except SourceError:
        return None


def read_notebook(text: str) -> list[str]:
    """The code cells of a notebook, of any version of the format. SourceError if it is none."""
    try:
        data = json.loads(text)
        sheets = data.get("worksheets", [data])  # until version 3
        cells = [read_cell(cell) for sheet in sheets for cell in sheet["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SourceError("is not a notebook that can be read") from None
    sources = [cell for cell in cells if cell is not None]
    if not any(source.strip() for source in sources):
        raise SourceError("is a notebook without code")
    return sources


def read_cell(cell: Any) -> str | None:
    """The text of a code cell; None for cells of other kinds, and damaged ones."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return None
    source = cell.get("source", cell.get("input"))
    parts = source if isinstance(source, list) else [source]
    # no program may hold a null byte: with another letter that is none, only this cell is lost
    return "".join(part for part in parts if isinstance(part, str)).replace("\0", "\ufffd")
