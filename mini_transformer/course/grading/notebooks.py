"""Stand in for IPython where a learner's code runs: cells, magics, `display`.

What a magic asks for is not done.
"""

import ast
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from inspect import CO_COROUTINE
from itertools import pairwise
from types import CodeType
from typing import Any

# Under these cell magics stands no Python of the notebook's own. Under all others it does:
# %%time, %%capture, %%wandb.
OTHER_CELLS = {
    "!", "R", "SVG", "bash", "bigquery", "cmd", "cython", "file", "html", "HTML", "javascript",
    "js", "julia", "latex", "markdown", "perl", "powershell", "pypy", "python", "python2",
    "python3", "ruby", "script", "sh", "shell", "sql", "svg", "sx", "system", "writefile",
}  # fmt: skip
RUNNING = ("time", "prun")  # line magics that run the code behind them
CELL_MAGIC = re.compile(r"\A(?P<before>(?:[ \t\f]*(?:#.*)?\n)*)[ \t]*%%[ \t]*(?P<name>[^\s]+).*")
MARKER = re.compile(r"^# ?%%|^# In ?\[|^# <codecell>|^# COMMAND -|^# \+(?: |$)|^# -$", re.MULTILINE)
# Colab comments out what stands under a cell magic when it exports a notebook.
COMMENTED_OUT = re.compile(
    r"^# Commented out IPython magic to ensure Python compatibility\.\n((?:#.*\n?)+)", re.MULTILINE
)
AWAITING = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
HEADER = (
    'if "get_ipython" not in globals(): '
    "from mini_transformer.course.grading.notebooks import display, get_ipython\n"
)


def join_cells(cells: list[str]) -> str:
    """Join cells into one program that runs each cell's text by itself.

    So a cell that is not Python costs the others nothing.

    >>> print(join_cells(["x = 1"]).split("\\n", 1)[1])
    get_ipython().run_cell(r'''
    x = 1
    ''')
    <BLANKLINE>
    """
    return HEADER + "".join(f"get_ipython().run_cell({quote(cell)})\n" for cell in cells)


def quote(cell: str) -> str:
    """Write a cell as a string literal with a line of the program for each line of the cell."""
    if "'''" not in cell:
        return f"r'''\n{cell}\n'''"
    escaped = cell.replace("\\", "\\\\").replace("'", "\\'")
    return f"'''\n{escaped}\n'''"


def split_cells(text: str) -> list[str]:
    """Split an exported script into its cells.

    Each cell gets so many empty lines above it that its lines keep their numbers.
    """
    starts = sorted({0, *(marker.start() for marker in MARKER.finditer(text)), len(text)})
    return ["\n" * text.count("\n", 0, start) + text[start:end] for start, end in pairwise(starts)]


def restore_commented(text: str) -> str:
    """Restore the cells that Colab commented out of an exported script.

    The lines keep their numbers.
    """

    def restore(found: re.Match) -> str:
        cell = re.sub(r"^# ?", "", found[1], flags=re.MULTILINE)
        magic = CELL_MAGIC.match(cell)
        if magic is None or magic["name"] in OTHER_CELLS:
            return found[0]
        return "\n" + blank_magic(cell, magic)

    return COMMENTED_OUT.sub(restore, text)


def blank_magic(cell: str, magic: re.Match) -> str:
    return magic["before"] + cell[magic.end() :]


def translate(cell: str) -> str:
    """Translate a cell into Python with as many lines.

    What only IPython understands becomes calls of `get_ipython()`.

    >>> print(translate("%matplotlib inline\\nfiles = !ls"), end="")
    get_ipython().run_line_magic('matplotlib', 'inline')
    files = get_ipython().getoutput('ls')
    >>> translate("%%time\\nx = 1"), translate("%%bash\\nls")
    ('\\nx = 1', '')
    """
    inside = cell
    while magic := CELL_MAGIC.match(inside):
        if magic["name"] in OTHER_CELLS:
            return ""
        inside = blank_magic(inside, magic)

    python = inside if is_python(inside) else replace_magics(inside)
    had_magic = inside != cell
    return "" if had_magic and not is_python(python) else python


def is_python(text: str) -> bool:
    try:
        compile_quietly(text, "cell", AWAITING | ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def compile_quietly(text: str, name: str, flags: int = 0) -> Any:
    """Compile without this module's flags and without warnings.

    Warnings come again when the code is run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(text, name, "exec", flags, dont_inherit=True)


def replace_magics(cell: str) -> str:
    """Replace magics by IPython's own rules.

    A command over several lines becomes one line, and empty lines keep the numbers of those below.
    """
    # importing this takes 60 ms, and few files need it
    from IPython.core.inputtransformer2 import TransformerManager

    class Transformer(TransformerManager):
        def do_one_token_transform(self, lines: list[str]) -> tuple[bool, list[str]]:
            changed, after = super().do_one_token_transform(lines)
            pairs = enumerate(zip(lines, after, strict=False))
            first = next((i for i, (old, new) in pairs if old != new), len(after))
            joined = ["\n"] * (len(lines) - len(after))
            return changed, [*after[: first + 1], *joined, *after[first + 1 :]]

    manager = Transformer()
    lines = io.StringIO(cell if cell.endswith("\n") else f"{cell}\n").readlines()
    try:
        changed = lines
        for transform in manager.cleanup_transforms:
            changed = transform(changed)
        changed = ["\n"] * (len(lines) - len(changed)) + changed  # empty lines above are cut
        return "".join(manager.do_token_transforms(changed))
    except Exception:  # IPython expects what a person types, and this may be anything
        return cell


class Nothing:
    """What a magic returns: each of its attributes, calls and entries is nothing, too."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Nothing":
        return self

    def __getattr__(self, name: str) -> "Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> "Nothing":
        return self

    def __iter__(self) -> Iterator:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return ""

    def __format__(self, spec: str) -> str:
        return ""

    def __enter__(self) -> "Nothing":
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Shell(Nothing):
    """What `get_ipython()` returns: it runs code where it was called from, and nothing else."""

    def __init__(self, run: Callable[[str, dict[str, Any], str, int], None] | None = None) -> None:
        self.run = run or run_plainly

    def run_cell(self, text: str, *args: Any, **kwargs: Any) -> Nothing:
        """Run a cell in the place of the code that calls this."""
        return self._run_here(text)

    def run_cell_magic(self, name: str, line: str, cell: str) -> Nothing:
        return Nothing() if name in OTHER_CELLS else self._run_here(f"\n{cell}")

    def run_line_magic(self, name: str, line: str = "", *args: Any) -> Nothing:
        return self._run_here(line) if name in RUNNING else Nothing()

    def magic(self, line: str) -> Nothing:
        name, _, code = line.lstrip("%").partition(" ")
        return self._run_here(code) if name in RUNNING else Nothing()

    def _run_here(self, text: str) -> Nothing:
        frame = sys._getframe(1)
        while frame.f_back:
            knows_shell = "get_ipython" in frame.f_globals
            if knows_shell and frame.f_globals is not globals():  # the learner's code
                break
            frame = frame.f_back
        self.run(text, frame.f_globals, frame.f_code.co_filename, frame.f_lineno)
        return Nothing()


def run_plainly(text: str, names: dict[str, Any], name: str, line: int) -> None:
    """Run a cell of a program that nobody watches.

    As in a notebook, an error is printed, and the next cell is run.
    """
    try:
        program = "\n" * (line - 1) + translate(text)
        run_code(compile_quietly(program, name, AWAITING), names)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)


def run_code(code: CodeType, names: dict[str, Any]) -> None:
    """Run compiled code. With `await` outside of functions it is a coroutine; wait for it."""
    if code.co_flags & CO_COROUTINE:
        import asyncio

        asyncio.run(eval(code, names))
    else:
        exec(code, names)


def get_ipython() -> Shell:
    return Shell()


def display(*values: Any, **options: Any) -> None:
    """Print values, as a notebook shows them."""
    for value in values:
        print(repr(value))
