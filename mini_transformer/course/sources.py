"""The bytes that a student handed in as Python source: encodings, line ends, notebooks."""

import codecs
import json
import re

LARGEST = 2**20  # bytes of source
COOKIE = re.compile(r"\A((?:.*\n)?[ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+")
MAGIC = re.compile(r"^(\s*)([%!?]{1,2}[A-Za-z].*)$", re.MULTILINE)
HARMLESS_CELLS = ("time", "timeit", "capture", "prun")  # cell magics under which Python stands


class SourceError(ValueError):
    """Why this is no source, in half a sentence that goes after the file's name."""


def read_source(name: str, content: bytes) -> tuple[bytes, list[str]]:
    """The source as UTF-8 with plain line ends, and remarks on what had to be changed. SourceError if there is none.

    >>> read_source("ex01.py", b"x = 1\\r\\n")
    (b'x = 1\\n', [])
    """
    if not content.strip():
        raise SourceError("is empty")
    text, remarks = decode_text(content)
    if "\0" in text:
        raise SourceError("is not a text file")
    if name.lower().endswith(".ipynb"):
        text = read_notebook(text)
        remarks.append("is a notebook; its code cells were graded")
    # the text is UTF-8 from here on, and has to say nothing else of itself
    source = COOKIE.sub(r"\1utf-8", text.replace("\r\n", "\n").replace("\r", "\n"), count=1).encode(errors="replace")
    if len(source) > LARGEST:
        raise SourceError(f"has {len(source)} bytes of source, at most {LARGEST} are read")
    return source, remarks


def decode_text(content: bytes) -> tuple[str, list[str]]:
    """Text in UTF-8, or UTF-16 if it begins so, or else in the encoding of old Windows programs."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace"), ["is UTF-16; save it as UTF-8"]
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        return text, ["is not UTF-8; it was read as Windows-1252"]


def read_notebook(text: str) -> str:
    """The code cells of a notebook, one after the other. SourceError if it is none."""
    try:
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SourceError("is not a notebook that can be read") from None
    if not any(source.strip() for source in sources):
        raise SourceError("is a notebook without code")
    return "\n\n".join(comment_magics(source) for source in sources) + "\n"


def comment_magics(cell: str) -> str:
    """A cell without what only a notebook understands; nothing of it if it is written in another language.

    >>> comment_magics("%matplotlib inline\\nif gpu:\\n    !pip list\\nx = 7 % y")
    'pass  # %matplotlib inline\\nif gpu:\\n    pass  # !pip list\\nx = 7 % y'
    >>> comment_magics("%%bash\\nls")
    '# a cell in another language: %%bash'
    """
    first = cell.lstrip().split("\n", 1)[0]
    if first.startswith("%%") and first[2:].split()[:1] not in [[magic] for magic in HARMLESS_CELLS]:
        return f"# a cell in another language: {first}"
    return MAGIC.sub(r"\1pass  # \2", cell)
