"""Load a learner's file, and say in one sentence with a line number why it does not load."""

import contextlib
import linecache
import os
import sys
import traceback
import types
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mini_transformer.course.grading.effects import Effect
from mini_transformer.course.grading.notebooks import Shell, display
from mini_transformer.course.grading.pieces import NOT_COMPILED, explain_syntax, find_error_line
from mini_transformer.course.grading.running import Run, find_line
from mini_transformer.course.grading.sources import SourceError, read_source
from mini_transformer.isolation.explaining import summarize
from mini_transformer.isolation.limits import Output, undisturbed
from mini_transformer.nearest import find_nearest

RECURSION = 1000  # how deep a learner's calls may go, unless the file sets another limit
MOST_FAILURES = 5  # that are listed


class StudentError(Exception):
    """A learner's code is wrong; the message says why in one sentence.

    `effects` are what the call that failed left behind.
    """

    def __init__(self, message: str, effects: tuple[Effect, ...] = ()) -> None:
        super().__init__(message)
        self.effects = effects


class NotWrittenError(StudentError):
    """A function is still the stub that was handed out."""


@dataclass
class LearnerFile:
    """Hold a learner's module after it ran once, and what was noticed on the way."""

    path: Path
    module: types.ModuleType
    run: Run
    output: Output = field(default_factory=Output)
    recursion: int = RECURSION
    stand_ins: dict[str, Any] = field(default_factory=dict)  # for modules that need a notebook
    draws: bool = False

    @property
    def names(self) -> dict[str, Any]:
        return self.module.__dict__

    @property
    def unwritten(self) -> set[str]:
        """Return the functions that are still stubs."""
        return self.run.unwritten

    @property
    def remarks(self) -> dict[str, str]:
        """Map each function that still has a raise beside its answer to a remark on it."""
        left = "still has `raise NotImplementedError`: delete it"
        return {
            name: f"{self.run.locate(line).strip()} {left}"
            for name, line in self.run.leftovers.items()
        }

    @property
    def said(self) -> list[str]:
        """List what failed when the file was run, and the first lines that it printed."""
        hidden = len(self.failures) - MOST_FAILURES
        more = [f"... and {hidden} more statements fail"] if hidden > 0 else []
        return [*self.failures[:MOST_FAILURES], *more, *self.output.show()]

    @property
    def failures(self) -> list[str]:
        """List a sentence for each statement that failed when the file was run."""
        name = self.path.name
        return [f"{name}{self.run.locate(each.line)} {each.why}" for each in self.run.failures]

    def find_reason(self, name: str) -> str:
        """Find the failed statement that would have made this name, and return its sentence.

        Return an empty string if there is none.
        """
        pairs = zip(self.run.failures, self.failures, strict=True)
        return next((sentence for failure, sentence in pairs if name in failure.names), "")

    def locate(self, error: BaseException, function: str = "") -> str:
        """Return the innermost line of the learner's file in a traceback, such as ` line 12`.

        Say in which function it is, if that is another one of the file than `function`. Return an
        empty string if the file is not in the traceback.
        """
        frames = traceback.extract_tb(error.__traceback__)
        names = [frame.name for frame in frames if frame.filename == str(self.path)]
        inside = names[-1] if names else ""
        is_another = inside not in (function, "") and callable(self.names.get(inside))
        where = self.run.locate(find_line(error, str(self.path)))
        return f"{where} (in {inside})" if where and is_another else where

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the learner's code inside the block, and restore the process afterwards.

        The learner's module can be imported by its name inside the block.
        """
        modules = {self.module.__name__: self.module} | self.stand_ins
        before = {name: sys.modules.get(name) for name in modules}
        drawing = without_windows() if self.draws else contextlib.nullcontext()
        with undisturbed(self.output, self.recursion), drawing:
            sys.argv = [str(self.path)]
            limit = sys.getrecursionlimit()
            try:
                sys.modules.update(modules)
                yield
            finally:
                if sys.getrecursionlimit() != limit:  # the learner's code needs another
                    self.recursion = sys.getrecursionlimit()
                for name, module in before.items():
                    if module is None:
                        sys.modules.pop(name, None)
                    else:
                        sys.modules[name] = module


@contextlib.contextmanager
def without_windows() -> Iterator[None]:
    """Let matplotlib draw into memory, so that plt.show() opens no window."""
    os.environ["MPLBACKEND"] = "agg"
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        os.environ.pop(name, None)
    settings: Any = getattr(sys.modules.get("matplotlib"), "rcParams", {})
    before = dict.get(settings, "backend")  # settings["backend"] would choose and load one
    dict.update(settings, backend="agg")
    try:
        yield
    finally:
        dict.update(settings, backend=before)


def load_learner_file(
    path: Path, seconds: float = 10.0, wanted: Collection[str] = ()
) -> LearnerFile:
    """Run a learner's file once. What fails in it costs only what depends on it.

    Raise StudentError if the file cannot be read or compiled, or if something fails and none of the
    `wanted` functions is there.
    """
    try:
        content = path.read_bytes()
        source = read_source(path.name, content)[0] if content.strip() else b""
    except FileNotFoundError:
        raise StudentError(f"there is no file {path}{nearest_file(path)}") from None
    except OSError as error:
        raise StudentError(f"{path} cannot be read: {summarize(error)}") from None
    except SourceError as error:
        raise StudentError(f"{path.name} {error}") from None

    text = source.decode()
    loaded = LearnerFile(path, types.ModuleType(f"learner_{path.stem}"), Run(str(path), seconds))
    shell = Shell(loaded.run.run_cell)
    loaded.stand_ins = find_stand_ins(text, shell)
    loaded.draws = "matplotlib" in text
    loaded.names.update(__file__=str(path), get_ipython=lambda: shell, display=display)

    # inspect and torch.jit find here the text as it was run
    lines = [f"{line}\n" for line in text.split("\n")]
    linecache.cache[str(path)] = (len(source), None, lines, str(path))

    try:
        with loaded.running():
            loaded.run.run_file(text, loaded.names)
    except NOT_COMPILED as error:
        where = loaded.run.locate(find_error_line(error))
        raise StudentError(f"{path.name}{where} {explain_syntax(error, text)}") from None

    if loaded.failures and not any(name in loaded.names for name in wanted):
        raise StudentError(loaded.failures[0])
    return loaded


def find_stand_ins(text: str, shell: Shell) -> dict[str, types.ModuleType]:
    """Make stand-ins for modules that work only in a notebook.

    Nothing is imported that the text does not name.
    """
    found = {}
    with contextlib.suppress(ImportError):
        if "tqdm" in text and ("notebook" in text or "tqdm.auto" in text):
            import tqdm.std

            tqdm.notebook = tqdm.std
            found["tqdm.notebook"] = tqdm.std
        if "IPython" in text:
            import IPython

            found["IPython"] = types.ModuleType("IPython")
            vars(found["IPython"]).update(vars(IPython), get_ipython=lambda: shell)
    return found


def nearest_file(path: Path) -> str:
    there = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = find_nearest(path.name, there, "")
    return f"; nearest in its folder: {near}" if near else ", and its folder holds no .py file"
