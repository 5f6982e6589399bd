"""A learner's file as the grader meets it: written to a folder, then loaded."""

from pathlib import Path

from mini_transformer.course.grading.sources import read_source
from mini_transformer.course.grading.student import InProcessStudent

ANSWER = "def f(x):\n    return 2 * x\n"


def write(folder: Path, source: str | bytes, name: str = "ex01.py") -> Path:
    path = folder / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return path


def load(folder: Path, source: str | bytes, **options) -> InProcessStudent:
    return InProcessStudent(write(folder, source), parameters={"f": "x"}, **options)


def load_notebook(folder: Path, content: bytes, **options) -> InProcessStudent:
    """Load a notebook as a class is graded: its source in a script."""
    return load(folder, read_source("ex01.ipynb", content)[0], **options)
