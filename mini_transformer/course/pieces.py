"""A learner's text as pieces of Python: what can be compiled of it, where its functions stand, and parts of it cut out.

Whatever is cut out, all lines keep their numbers. Nothing is run here.
"""

import __future__

import ast
import re

from mini_transformer.course.notebooks import (
    AWAITING,
    compile_quietly,
    is_python,
    replace_magics,
    restore_commented,
    split_cells,
    translate,
)

NOT_COMPILED = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
MADE = re.compile(r"^(?:(?:async )?def|class) +(\w+)|^(\w+) *=(?!=)", re.MULTILINE)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def divide(text: str) -> list[str]:
    """A file in pieces of Python that are run one after the other: one piece, or a cell each."""
    whole = restore_commented(text)
    whole = whole if is_python(whole) else replace_magics(whole)
    cells = split_cells(restore_commented(text))
    try:
        compile_quietly(whole, "file", AWAITING)
    except NOT_COMPILED:
        if len(cells) == 1:
            raise
        return [translate(cell) for cell in cells]
    return [whole]


def locate_functions(text: str) -> dict[str, slice]:
    """The lines of each function at the top of a learner's file, decorators included, as `run_file` sees them."""
    found = {}
    for piece in divide(text):
        try:
            tree = compile_quietly(piece, "file", AWAITING | ast.PyCF_ONLY_AST)
        except NOT_COMPILED:
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = slice(find_start(node)[0] - 1, node.end_lineno)
    return found


def find_start(statement: ast.stmt) -> tuple[int, int]:
    """Line and column (in bytes) at which a statement begins, with its decorators."""
    first = min([statement, *getattr(statement, "decorator_list", [])], key=lambda node: node.lineno)
    return first.lineno, first.col_offset - (first is not statement)


def cut_before(text: str, statement: ast.stmt) -> str:
    """The text from a statement on; all lines keep their numbers."""
    line, column = find_start(statement)
    lines = text.encode().split(b"\n")[line - 1 :]
    if column:  # something stood before it on its line
        lines[0] = b"0".ljust(column - 1) + b";" + lines[0][column:]
    return "\n" * (line - 1) + b"\n".join(lines).decode()


def keep_definitions(text: str, body: list[ast.stmt]) -> tuple[str, list[ast.stmt]]:
    """Only imports, functions and classes among these statements."""
    lines = text.split("\n")
    kept = [""] * len(lines)
    definitions: list[ast.stmt] = [statement for statement in body if isinstance(statement, DEFINITIONS)]
    for statement in definitions:
        place = slice(find_start(statement)[0] - 1, statement.end_lineno)
        kept[place] = lines[place]
    return "\n".join(kept), definitions


def replace_by_pass(text: str, statement: ast.stmt) -> str:
    """The text with `pass` in a statement's place; all lines keep their numbers."""
    lines = text.encode().split(b"\n")
    first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
    rest = lines[last][statement.end_col_offset :]
    lines[first] = lines[first][: statement.col_offset] + b"pass" + rest
    lines[first + 1 : last + 1] = [b""] * (last - first)
    return b"\n".join(lines).decode()


def find_flags(body: list[ast.stmt]) -> int:
    """What `from __future__ import ...` asks of the compiler."""
    flags = 0
    for statement in body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            for alias in statement.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    return flags


def find_made(statement: ast.stmt) -> set[str]:
    """The names that a statement gives to something."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    made = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            made.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            made.add(node.name)
    return made


def guess_made(text: str) -> set[str]:
    """The names that text which cannot be compiled seems to give to something."""
    return {name for pair in MADE.findall(text) for name in pair if name}


def does_nothing(statement: ast.stmt) -> bool:
    """A docstring, `...` or `pass`."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def raises_not_implemented(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Raise):
        return False
    raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def explain_syntax(error: BaseException, source: str) -> str:
    """Why this source cannot be compiled, with the line at which it is noticed."""
    if isinstance(error, (RecursionError, MemoryError)):
        return "is nested too deeply for Python, such as a sum of thousands of terms: use a loop, or a list and sum()"
    if not isinstance(error, SyntaxError):
        return f"is not Python: {error}"
    line = source.split("\n")[(error.lineno or 1) - 1 :][:1] if error.lineno else []
    text = "".join(line).strip()
    return f"is not Python: {error.msg}" + (f", at `{text[:80]}`" if text else "")


def find_error_line(error: BaseException) -> int:
    return (error.lineno or 0) if isinstance(error, SyntaxError) else 0
