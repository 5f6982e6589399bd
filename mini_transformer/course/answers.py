"""Going back to a stub, and looking at the answer: both keep what the learner has written."""

import shutil
from pathlib import Path

from mini_transformer.course.exercises import BEGIN, END, Exercise, find_functions, read_stub
from mini_transformer.course.material import CourseError, Material
from mini_transformer.course.pieces import NOT_COMPILED, locate_functions
from mini_transformer.course.progress import write_atomically
from mini_transformer.course.sources import read_source


def read_answer(material: Material, exercise: Exercise) -> str:
    """The shipped solution of one exercise, without its docstring, which the stub has, too."""
    source = (material.solutions / f"ex{exercise.key}.py").read_text(encoding="utf-8")
    docstring, lines = find_functions(source)[exercise.name].body[0], source.split("\n")
    del lines[docstring.lineno - 1 : docstring.end_lineno]
    lines = lines[locate_function("\n".join(lines), exercise.name)]
    return "\n".join(line for line in lines if line.strip() not in (BEGIN, END))


def put_back_stub(material: Material, path: Path, exercise: Exercise) -> Path:
    """Replace the learner's function by the stub, the rest of the file stays; returns the copy of the file as it was.

    CourseError if the file cannot be read as Python, or has no such function: the lesson's whole file can still be reset.
    """
    content = read_content(path)
    try:
        text = read_source(path.name, content)[0].decode()
        old = locate_function(text, exercise.name)
    except (KeyError, *NOT_COMPILED):
        raise CourseError(
            f"no function {exercise.name} can be found in {path.name}: `minilab reset {exercise.key[:2]}` puts the "
            "whole file back, and keeps a copy of yours"
        ) from None
    copy = keep_copy(path)
    handed_out, lines = read_stub(material, exercise.key), text.split("\n")
    lines[old] = handed_out.split("\n")[locate_function(handed_out, exercise.name)]
    write_atomically(path, "\n".join(lines))
    return copy


def put_back_file(material: Material, path: Path, key: str) -> Path | None:
    """Replace a lesson's exercise file by its stubs; returns the copy of what was there, if there was anything."""
    copy = keep_copy(path) if path.exists() else None
    write_atomically(path, read_stub(material, key))
    return copy


def keep_copy(path: Path) -> Path:
    """A copy beside the file under a name that is free: `ex01_topic.before-reset-1.py`."""
    names = (path.with_name(f"{path.stem}.before-reset-{n}.py") for n in range(1, 10_000))
    copy = next(name for name in names if not name.exists())
    try:
        shutil.copy2(path, copy)
    except OSError as error:
        raise CourseError(f"{copy} cannot be written, so nothing was reset: {error.strerror or error}") from None
    return copy


def read_content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error}") from None


def read_learner_text(path: Path) -> str:
    """The text of a learner's file, read as all commands read it. SourceError if there is none."""
    return read_source(path.name, read_content(path))[0].decode()


def locate_function(source: str, name: str) -> slice:
    """The lines of a top-level function, decorators included; KeyError if there is none of this name."""
    return locate_functions(source)[name]
