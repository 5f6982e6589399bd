"""Where the course's files are, and the key `NN_topic` that names a lesson, its exercises, solutions and grader."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path


class CourseError(ValueError):
    """Something a learner can put right, in one sentence: what was given, what fits, what to do."""


@dataclass(frozen=True)
class Material:
    """The four folders a course is made of."""

    lessons: Path
    exercises: Path
    solutions: Path
    graders: Path

    def list_keys(self) -> list[str]:
        """Every `NN_topic` that has exercises, in course order."""
        return sorted(path.stem.removeprefix("ex") for path in self.solutions.glob("ex[0-9][0-9]_*.toml"))

    def list_lessons(self) -> list[str]:
        """Every `NN_topic` that has a lesson, in course order."""
        return sorted(path.stem for path in self.lessons.glob("[0-9][0-9]_*.py"))


def find_material() -> Material:
    """The folders inside the installed package, or else those at the top of the clone it is run from."""
    shipped = Path(__file__).parent / "material"
    if shipped.is_dir():
        return Material(*(shipped / name for name in ("lessons", "exercises", "solutions", "graders")))
    top = Path(__file__).parents[2]
    if not (top / "solutions").is_dir():
        raise CourseError(f"the course's files are neither in {shipped} nor in {top}: install mini-transformer again")
    return Material(top / "lessons", top / "exercises", top / "solutions", top / "tests" / "exercises")


def find_key(given: str, keys: list[str]) -> str:
    """The key that `1`, `01`, `ex01`, `01_topic` or `ex01_topic.py` means.

    >>> find_key("1", ["01_residual_stream", "02_hooks"]), find_key("ex02_hooks.py", ["01_residual_stream", "02_hooks"])
    ('01_residual_stream', '02_hooks')
    """
    bare = Path(given).name.removeprefix("ex").removesuffix(".py").removesuffix(".ipynb")
    number = re.fullmatch(r"\d+", bare)
    for key in keys:
        if key == bare or (number and int(key[:2]) == int(bare)):
            return key
    near = difflib.get_close_matches(bare, keys, n=1, cutoff=0.4)
    hint = f"; nearest: {near[0]}" if near else ""
    raise CourseError(f"no lesson is called {given!r}{hint}; there are {', '.join(keys) or 'none yet'}")
