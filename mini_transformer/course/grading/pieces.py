"""Take a learner's text apart: what compiles, where functions stand, what is cut out.

Whatever is cut out, all lines keep their numbers. Nothing is run here.
"""

import __future__

import ast
import re

from mini_transformer.course.grading.notebooks import (
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
    """Divide a file into pieces of Python that run one after the other: one, or a cell each.

    Raise what Python raises if there are no cells and the file does not compile.
    """
    restored = restore_commented(text)
    whole = restored if is_python(restored) else replace_magics(restored)
    cells = split_cells(restored)
    try:
        compile_quietly(whole, "file", AWAITING)
    except NOT_COMPILED:
        if len(cells) == 1:
            raise
        return [translate(cell) for cell in cells]
    return [whole]


def locate_functions(text: str) -> dict[str, slice]:
    """Find the lines of each top-level function, as `run_file` sees them.

    Decorators belong to their function.
    """
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
    """Find the line and column (in bytes) where a statement, or its first decorator, begins."""
    parts = [statement, *getattr(statement, "decorator_list", [])]
    first = min(parts, key=lambda node: node.lineno)
    return first.lineno, first.col_offset - (first is not statement)


def cut_before(text: str, statement: ast.stmt) -> str:
    """Keep the text from a statement on; all lines keep their numbers."""
    line, column = find_start(statement)
    lines = text.encode().split(b"\n")[line - 1 :]
    if column:  # something stood before it on its line
        lines[0] = b"0".ljust(column - 1) + b";" + lines[0][column:]
    return "\n" * (line - 1) + b"\n".join(lines).decode()


def keep_definitions(text: str, body: list[ast.stmt]) -> tuple[str, list[ast.stmt]]:
    """Keep only the imports, functions and classes among these statements.

    Return the text with all other lines empty, and the statements that are left.
    """
    lines = text.split("\n")
    kept = [""] * len(lines)
    definitions: list[ast.stmt] = [each for each in body if isinstance(each, DEFINITIONS)]
    for statement in definitions:
        place = slice(find_start(statement)[0] - 1, statement.end_lineno)
        kept[place] = lines[place]
    return "\n".join(kept), definitions


def replace_by_pass(text: str, statement: ast.stmt) -> str:
    """Put `pass` in a statement's place; all lines keep their numbers."""
    lines = text.encode().split(b"\n")
    first = statement.lineno - 1
    last = (statement.end_lineno or statement.lineno) - 1
    rest = lines[last][statement.end_col_offset :]
    lines[first] = lines[first][: statement.col_offset] + b"pass" + rest
    lines[first + 1 : last + 1] = [b""] * (last - first)
    return b"\n".join(lines).decode()


def find_flags(body: list[ast.stmt]) -> int:
    """Find the compiler flags that `from __future__ import ...` asks for."""
    flags = 0
    for statement in body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            for alias in statement.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    return flags


def find_made(statement: ast.stmt) -> set[str]:
    """Find the names that a statement gives to something."""
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
    """Guess the names that text which does not compile gives to something."""
    return {name for pair in MADE.findall(text) for name in pair if name}


def does_nothing(statement: ast.stmt) -> bool:
    """Say whether a statement is a docstring, `...` or `pass`."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def raises_not_implemented(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Raise):
        return False
    raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def explain_syntax(error: BaseException, source: str) -> str:
    """Explain why this source does not compile, and quote the line where Python noticed it."""
    if isinstance(error, (RecursionError, MemoryError)):
        return (
            "is nested too deeply for Python, such as a sum of thousands of terms: "
            "use a loop, or a list and sum()"
        )
    if not isinstance(error, SyntaxError):
        return f"is not Python: {error}"

    lines = source.split("\n")[error.lineno - 1 :] if error.lineno else []
    text = lines[0].strip() if lines else ""
    return f"is not Python: {error.msg}" + (f", at `{text[:80]}`" if text else "")


def find_error_line(error: BaseException) -> int:
    return (error.lineno or 0) if isinstance(error, SyntaxError) else 0
