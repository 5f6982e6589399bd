"""Find the course's files, and the key `NN_topic` that names all files of a lesson."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mini_transformer.isolation.files import write_atomically
from mini_transformer.nearest import find_nearest


class CourseError(ValueError):
    """A learner can put this right: one sentence says what was given, what fits, what to do."""


@dataclass(frozen=True)
class Material:
    """The four folders that a course is made of."""

    lessons: Path
    exercises: Path
    solutions: Path
    graders: Path

    def list_keys(self) -> list[str]:
        """List every `NN_topic` that has exercises, in course order."""
        paths = self.solutions.glob("ex[0-9][0-9]_*.toml")
        return sorted(path.stem.removeprefix("ex") for path in paths)

    def list_lessons(self) -> list[str]:
        """List every `NN_topic` that has a lesson, in course order."""
        return sorted(path.stem for path in self.lessons.glob("[0-9][0-9]_*.py"))


def find_material() -> Material:
    """Find the folders in the installed package, or else at the top of the clone."""
    shipped = Path(__file__).parent / "material"
    if shipped.is_dir():
        names = ("lessons", "exercises", "solutions", "graders")
        return Material(*(shipped / name for name in names))

    top = Path(__file__).parents[2]
    if not (top / "solutions").is_dir():
        raise CourseError(
            f"the course's files are neither in {shipped} nor in {top}: "
            "install mini-transformer again"
        )
    graders = top / "tests" / "exercises"
    return Material(top / "lessons", top / "exercises", top / "solutions", graders)


def load_module(path: Path) -> ModuleType:
    """Run a grader, or a file of mutants, by its path and outside sys.modules."""
    spec = importlib.util.spec_from_file_location(f"minilab_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find_key(given: str, keys: list[str]) -> str:
    """Find the key that `1`, `01`, `ex01`, `01_topic` or `ex01_topic.py` means.

    Raise CourseError if there is none.

    >>> keys = ["01_residual_stream", "02_hooks"]
    >>> find_key("1", keys), find_key("ex02_hooks.py", keys)
    ('01_residual_stream', '02_hooks')
    """
    bare = Path(given).name.removeprefix("ex").removesuffix(".py").removesuffix(".ipynb")
    number = re.fullmatch(r"\d+", bare)
    for key in keys:
        if key == bare or (number and int(key[:2]) == int(bare)):
            return key
    near = find_nearest(bare, keys, "", likeness=0.5)
    hint = f"; nearest: {near}" if near else ""
    raise CourseError(
        f"no lesson is called {given!r}{hint}; there are {', '.join(keys) or 'none yet'}"
    )


def write_file(path: Path, text: str) -> None:
    """Write a learner's or lecturer's file, whole or not at all.

    Raise CourseError if it cannot be written.
    """
    try:
        write_atomically(path, text)
    except OSError as error:
        raise CourseError(f"{path} cannot be written: {error.strerror or error}") from None
