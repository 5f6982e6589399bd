"""Reading a learner's file: every way in which it can fail to load becomes one sentence with a line number."""

import contextlib
import difflib
import linecache
import os
import sys
import types
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mini_transformer.course.limits import Output, undisturbed
from mini_transformer.course.notebooks import Shell, display
from mini_transformer.course.pieces import NOT_COMPILED, explain_syntax, find_error_line
from mini_transformer.course.running import Run, find_line, summarize
from mini_transformer.course.sources import SourceError, read_source

RECURSION = 1000  # how deep a learner's calls may go, unless the file sets another limit
MOST_FAILURES = 5  # that are listed


class StudentError(Exception):
    """What is wrong with a learner's code, in one sentence."""


class NotWrittenError(StudentError):
    """The stub as it was handed out."""


@dataclass
class LearnerFile:
    """A learner's module after it ran once, with what was noticed on the way."""

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
        """The functions that are still stubs."""
        return self.run.unwritten

    @property
    def remarks(self) -> dict[str, str]:
        """By function: a raise that was left beside its answer, and where."""
        left = "still has `raise NotImplementedError`: delete it"
        return {name: f"{self.run.locate(line).strip()} {left}" for name, line in self.run.leftovers.items()}

    @property
    def said(self) -> list[str]:
        """What failed when the file was run, and the first lines that it printed."""
        hidden = len(self.failures) - MOST_FAILURES
        more = [f"... and {hidden} more statements fail"] if hidden > 0 else []
        return [*self.failures[:MOST_FAILURES], *more, *self.output.show()]

    @property
    def failures(self) -> list[str]:
        """A sentence for each statement that failed when the file was run."""
        return [f"{self.path.name}{self.run.locate(failure.line)} {failure.why}" for failure in self.run.failures]

    def find_reason(self, name: str) -> str:
        """Why there is no such name in the file, if a statement that failed would have made it; or nothing."""
        pairs = zip(self.run.failures, self.failures, strict=True)
        return next((sentence for failure, sentence in pairs if name in failure.names), "")

    def locate(self, error: BaseException) -> str:
        """` line 12`: the innermost line of the learner's file in a traceback, or nothing."""
        return self.run.locate(find_line(error, str(self.path)))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The learner's code runs here: its module is known by its name, and what it changes in the process is restored."""
        modules = {self.module.__name__: self.module} | self.stand_ins
        before = {name: sys.modules.get(name) for name in modules}
        with undisturbed(self.output, self.recursion), without_windows() if self.draws else contextlib.nullcontext():
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
    """Have matplotlib draw into memory: plt.show() opens no window that somebody would have to close."""
    os.environ["MPLBACKEND"] = "agg"
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        os.environ.pop(name, None)
    settings: Any = getattr(sys.modules.get("matplotlib"), "rcParams", {})
    before = dict.get(settings, "backend")  # asked for in the ordinary way, it would be looked for and chosen
    dict.update(settings, backend="agg")
    try:
        yield
    finally:
        dict.update(settings, backend=before)


def load_learner_file(path: Path, seconds: float = 10.0, wanted: Collection[str] = ()) -> LearnerFile:
    """Run the file once. What fails in it costs only what depends on it, if any of the `wanted` functions is there then.

    StudentError if the file cannot be read or compiled, or if something fails and none of the functions is there.
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
    loaded.stand_ins, loaded.draws = find_stand_ins(text, shell), "matplotlib" in text
    loaded.names.update(__file__=str(path), get_ipython=lambda: shell, display=display)
    lines = [f"{line}\n" for line in text.split("\n")]
    linecache.cache[str(path)] = (len(source), None, lines, str(path))  # as it was run, for inspect and torch.jit
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
    """Modules that work only in a notebook, with what stands in for them; nothing is imported that the text does not name."""
    found = {}
    with contextlib.suppress(ImportError):
        if "tqdm" in text and ("notebook" in text or "tqdm.auto" in text):
            import tqdm.std

            found["tqdm.notebook"] = tqdm.notebook = tqdm.std
        if "IPython" in text:
            import IPython

            found["IPython"] = types.ModuleType("IPython")
            vars(found["IPython"]).update(vars(IPython), get_ipython=lambda: shell)
    return found


def nearest_file(path: Path) -> str:
    there = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.0)
    return f"; nearest in its folder: {near[0]}" if near else ", and its folder holds no .py file"
