"""Run a learner's source so that a failing statement costs only what depends on it.

Python runs a file until the first statement that fails. Here the failure is noted, and the
statements after it are run. Source that is not Python as a whole is run as IPython would run it,
or cell by cell, if it has cells.
"""

import ast
import contextlib
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from mini_transformer.course.grading.notebooks import (
    AWAITING,
    HEADER,
    compile_quietly,
    run_code,
    translate,
)
from mini_transformer.course.grading.pieces import (
    NOT_COMPILED,
    cut_before,
    divide,
    does_nothing,
    explain_syntax,
    find_error_line,
    find_flags,
    find_made,
    find_start,
    guess_made,
    keep_definitions,
    raises_not_implemented,
    replace_by_pass,
)
from mini_transformer.isolation.explaining import summarize
from mini_transformer.isolation.limits import OutOfTime, limited_time

# After so many statements that ran out of time, only definitions are run; after twice as many,
# nothing is.
LOOPS = 2


@dataclass(frozen=True)
class Failure:
    """A statement or cell that failed while the file was run.

    `line` is 0 where it is unknown. `names` are those that the failure leaves unmade.
    """

    line: int
    why: str
    names: frozenset[str]


@dataclass
class Run:
    """Run a file, or its cells one after the other, and keep what was noticed."""

    name: str  # of the file, as tracebacks have it
    seconds: float  # that a statement may take
    failures: list[Failure] = field(default_factory=list)
    unwritten: set[str] = field(default_factory=set)  # functions that are still stubs
    leftovers: dict[str, int] = field(default_factory=dict)  # function -> line of a leftover raise
    cells: list[int] = field(default_factory=list)  # the lines above the cells of a notebook
    flags: int = 0  # of the `from __future__` statements so far
    loops: int = 0

    def run_file(self, text: str, names: dict[str, Any]) -> None:
        """Run a whole file.

        Raise SyntaxError, or what else Python raises, if nothing of it compiles.
        """
        for piece in divide(text):
            self.run_piece(piece, names)

    def run_cell(self, text: str, names: dict[str, Any], name: str, line: int) -> None:
        """Run a cell whose text begins on this line.

        The program that holds the cells calls this.
        """
        self.cells.append(line)
        self.run_piece("\n" * (line - 1) + translate(text), names, inside=True)

    def run_piece(self, text: str, names: dict[str, Any], inside: bool = False) -> None:
        """Run statements in order, and go on after one that fails.

        `inside` means inside another piece, which counts the time.
        """
        try:
            tree = compile_quietly(text, self.name, self.flags | AWAITING | ast.PyCF_ONLY_AST)
            compile_quietly(text, self.name, self.flags | AWAITING)
        except NOT_COMPILED as error:
            first = text[: len(text) - len(text.lstrip())].count("\n") + 1
            line = find_error_line(error) or first
            lost = frozenset(guess_made(text))
            self.failures.append(Failure(line, explain_syntax(error, text), lost))
            return

        text = self.drop_leftover_raises(text, tree)
        body = tree.body
        if self.loops >= LOOPS and not text.startswith(HEADER):
            text, body = keep_definitions(text, body)

        late: OutOfTime | None = None
        while body and self.loops < 2 * LOOPS:
            code = compile_quietly(cut_before(text, body[0]), self.name, self.flags | AWAITING)
            self.flags |= find_flags(body)
            try:
                with contextlib.nullcontext() if inside else limited_time(self.seconds):
                    run_code(code, names)
                break
            except KeyboardInterrupt:
                raise
            except OutOfTime as error:
                failed, rest = split_failed(error, code, body)
                known = hasattr(error, "known")
                error.known = True  # type: ignore[attr-defined]
                self.loops += not known
                if inside or (self.loops >= LOOPS and not text.startswith(HEADER)):
                    text, body = keep_definitions(text, rest)
                else:
                    body = rest
                late = error
                if not known:
                    dropped = [statement for statement in rest if statement not in body]
                    self.note(error, [failed, *dropped])
            except BaseException as error:
                failed, body = split_failed(error, code, body)
                self.note(error, [failed])

        # The time of the whole program is over, and begins anew with the next cell.
        if inside and late is not None:
            raise late

    def note(self, error: BaseException, lost: Iterable[ast.stmt]) -> None:
        """Note a failure, and the names that the lost statements would have made."""
        made = frozenset(name for statement in lost for name in find_made(statement))
        self.failures.append(Failure(find_line(error, self.name), self.explain(error), made))

    def explain(self, error: BaseException) -> str:
        if isinstance(error, OutOfTime):
            loop = "is there an endless loop outside the functions?"
            return f"runs for more than {self.seconds:g} s when it is imported: {loop}"
        if isinstance(error, SystemExit):
            return "stops Python (exit) when it is imported"
        return f"fails when it is imported: {summarize(error)}"

    def drop_leftover_raises(self, text: str, tree: ast.Module) -> str:
        """Find the stubs, and delete a stub's `raise NotImplementedError` beside other code."""
        for function in tree.body:
            if not isinstance(function, ast.FunctionDef):
                continue
            self.unwritten.discard(function.name)  # of two definitions the later one counts
            self.leftovers.pop(function.name, None)
            body = [statement for statement in function.body if not does_nothing(statement)]
            found = [statement for statement in body if raises_not_implemented(statement)]
            if found and len(found) == len(body):
                self.unwritten.add(function.name)
            elif found:
                self.leftovers[function.name] = found[0].lineno
                for statement in found:
                    text = replace_by_pass(text, statement)
        return text

    def locate(self, line: int) -> str:
        """Return ` line 12`, or ` cell 3 line 2` in a notebook, or an empty string."""
        before = [start for start in self.cells if start < line]
        if not before:
            return f" line {line}" if line else ""
        return f" cell {len(before)} line {line - before[-1]}"


def split_failed(
    error: BaseException, code: CodeType, body: list[ast.stmt]
) -> tuple[ast.stmt, list[ast.stmt]]:
    """Return the statement in which this code was when it failed, and those after it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    if trace is None:
        return body[0], body[1:]
    line, _, column, _ = list(code.co_positions())[trace.tb_lasti // 2]
    place = (line or trace.tb_lineno, sys.maxsize if column is None else column)
    failed = sum(find_start(statement) <= place for statement in body[1:])
    return body[failed], body[failed + 1 :]


def find_line(error: BaseException, name: str) -> int:
    """Find the innermost line of the file of this name in a traceback; 0 if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == name]
    return (lines[-1] or 0) if lines else 0
