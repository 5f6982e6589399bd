"""Reading a learner's file: every way in which it can fail to load becomes one sentence with a line number."""

import ast
import difflib
import tokenize
import traceback
import types
from dataclasses import dataclass, field
from pathlib import Path

from mini_transformer.course.limits import OutOfTime, Output, limited_time, undisturbed


class StudentError(Exception):
    """What is wrong with a learner's code, in one sentence."""


class NotWrittenError(StudentError):
    """The stub as it was handed out."""


@dataclass
class LearnerFile:
    """A learner's module after it ran once, with what was noticed on the way."""

    path: Path
    names: dict[str, object]
    unwritten: set[str] = field(default_factory=set)  # functions that are still stubs
    remarks: dict[str, str] = field(default_factory=dict)  # function -> leftover raise, and where
    output: Output = field(default_factory=Output)


def load_learner_file(path: Path, seconds: float = 10.0) -> LearnerFile:
    """Run the file once, outside sys.modules. Raises StudentError."""
    tree = parse(path)
    unwritten, remarks = drop_leftover_raises(tree)
    module = types.ModuleType(f"learner_{path.stem}")
    module.__file__ = str(path)
    loaded = LearnerFile(path, module.__dict__, unwritten, remarks)
    try:
        with undisturbed(loaded.output), limited_time(seconds):
            exec(compile(tree, str(path), "exec"), module.__dict__)
    except OutOfTime as error:
        raise StudentError(
            f"{path.name}{line_of(error, path)} runs for more than {seconds:g} s when it is imported: "
            "is there an endless loop outside the functions?"
        ) from None
    except SystemExit as error:
        raise StudentError(f"{path.name}{line_of(error, path)} stops Python (exit) when it is imported") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise StudentError(f"{path.name}{line_of(error, path)} fails when it is imported: {summarize(error)}") from None
    return loaded


def parse(path: Path) -> ast.Module:
    try:
        with tokenize.open(path) as file:  # honours an encoding declared in the file
            source = file.read()
        compile(source, str(path), "exec")  # finds more than ast.parse: a `return` outside a function
        return ast.parse(source, str(path))
    except FileNotFoundError:
        raise StudentError(f"there is no file {path}{nearest_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudentError(f"{path} cannot be read: {summarize(error)}") from None
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        text = (error.text or "").strip() if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise StudentError(
            f"{path.name}{line} is not Python: {reason}" + (f", at `{text[:80]}`" if text else "")
        ) from None


def nearest_file(path: Path) -> str:
    there = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.0)
    return f"; nearest in its folder: {near[0]}" if near else ", and its folder holds no .py file"


def drop_leftover_raises(tree: ast.Module) -> tuple[set[str], dict[str, str]]:
    """Find the stubs; where other code stands beside a stub's `raise NotImplementedError`, delete the raise."""
    unwritten: set[str] = set()
    remarks: dict[str, str] = {}
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        unwritten.discard(function.name)  # of two definitions the later one counts
        remarks.pop(function.name, None)
        body = [statement for statement in function.body if not does_nothing(statement)]
        leftovers = [statement for statement in body if raises_not_implemented(statement)]
        if leftovers and len(leftovers) == len(body):
            unwritten.add(function.name)
        elif leftovers:
            function.body = [statement for statement in function.body if statement not in leftovers]
            remarks[function.name] = f"line {leftovers[0].lineno} still has `raise NotImplementedError`: delete it"
    return unwritten, remarks


def does_nothing(statement: ast.stmt) -> bool:
    """A docstring, `...` or `pass`."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def raises_not_implemented(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Raise):
        return False
    raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def line_of(error: BaseException, path: Path) -> str:
    """` line 12`: the innermost line of the learner's file in a traceback, or nothing."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" line {lines[-1]}" if lines else ""


def summarize(error: BaseException) -> str:
    """`TypeError: unsupported operand`: kind and first line, not a traceback."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
