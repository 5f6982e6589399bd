"""Read the bytes of a learner's file as Python source, as all commands do.

Encodings, line ends and notebooks are handled here.
"""

import codecs
import io
import json
import re
import tokenize
from typing import Any

from mini_transformer.course.grading.notebooks import join_cells

LARGEST = 2**20  # bytes of source
COOKIE = re.compile(r"\A((?:[ \t\f]*(?:#.*)?\n)?[ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+")
# No editor writes these encodings, and Python decodes them in time quadratic in the length.
NO_TEXT = {"idna", "punycode"}
MARKS = {  # the longer ones first: a mark of UTF-32 begins with one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class SourceError(ValueError):
    """This is no source; the message says why, in half a sentence after the file's name."""


def read_source(name: str, content: bytes) -> tuple[bytes, list[str]]:
    """Return the source as UTF-8 with plain line ends, and remarks on what was changed.

    Raise SourceError if there is no source.

    >>> read_source("ex01.py", b"x = 1\\r\\n")
    (b'x = 1\\n', [])
    """
    if not content.strip():
        raise SourceError("is empty")

    text, remarks = decode_text(content, name)
    if "\0" in text:
        if any(not letter.isprintable() and letter not in "\0\t\n\f\r" for letter in text):
            raise SourceError("is not a text file")
        raise SourceError("is not Python: source code string cannot contain null bytes")

    cells = read_notebook(text) if name.lower().endswith(".ipynb") else find_notebook(text)
    if cells is not None:
        text = join_cells(cells)
        remarks.append("is a notebook; its code cells were graded")

    # The text is UTF-8 from here on, and must not declare another encoding.
    source = COOKIE.sub(r"\1utf-8", unify_line_ends(text), count=1).encode(errors="replace")
    if len(source) > LARGEST:
        raise SourceError(f"has {len(source)} bytes of source, at most {LARGEST} are read")
    return source, remarks


def unify_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_text(content: bytes, name: str) -> tuple[str, list[str]]:
    """Decode text in the encoding that it begins with or declares, and remark on a rare one.

    Otherwise decode it as UTF-8, or else as old Windows programs write it.
    """
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            text = content.decode(encoding, errors="replace")
            return text, [f"is {encoding.upper()}; save it as UTF-8"]

    for encoding in (find_declared(content), "utf-8-sig"):
        try:
            text = content.decode(encoding)
        except (UnicodeError, LookupError):
            continue
        # Text with two bytes a letter cannot have made the declaration that was found.
        if encoding == "utf-8-sig" or COOKIE.search(unify_line_ends(text)):
            return text, []

    # A mark inside the text: pieces of different files were glued together.
    if codecs.BOM_UTF16_LE in content or codecs.BOM_UTF16_BE in content:
        raise SourceError(f"is not Python: invalid or missing encoding declaration for {name!r}")
    return content.decode("cp1252", errors="replace"), ["is not UTF-8; it was read as Windows-1252"]


def find_declared(content: bytes) -> str:
    """Find the encoding declared in a comment on the first two lines, or else UTF-8."""
    if content.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"

    # detect_encoding also fails on letters that are not UTF-8; a declaration is plain ASCII.
    lines = content[:4096].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:2]
    plain = b"\n".join(lines).decode("ascii", errors="replace").replace("\ufffd", "?")
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(plain.encode()).readline)[0]
    except SyntaxError:  # Python does not know it
        return "utf-8-sig"
    if encoding == "utf-8" or codecs.lookup(encoding).name in NO_TEXT:
        return "utf-8-sig"
    return encoding


def find_notebook(text: str) -> list[str] | None:
    """Read the code cells of a notebook saved under another ending; None if it is none."""
    if not text.lstrip().startswith("{") or '"cell_type"' not in text:
        return None
    try:
        return read_notebook(text)
    except SourceError:
        return None


def read_notebook(text: str) -> list[str]:
    """Read the code cells of a notebook, of any version of the format.

    Raise SourceError if the text is no notebook, or has no code.
    """
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
    """Return the text of a code cell, or None for other kinds of cells and damaged ones."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return None
    source = cell.get("source", cell.get("input"))
    parts = source if isinstance(source, list) else [source]
    # A null byte would spoil the whole program; another letter in its place spoils only this cell.
    return "".join(part for part in parts if isinstance(part, str)).replace("\0", "\ufffd")
