"""Put stubs back and reveal solutions, without losing what the learner has written."""

import shutil
from pathlib import Path

from mini_transformer.course.exercises import BEGIN, END, Exercise, find_functions, read_stub
from mini_transformer.course.grading.pieces import NOT_COMPILED, locate_functions
from mini_transformer.course.grading.sources import read_source
from mini_transformer.course.material import CourseError, Material, write_file


def read_answer(material: Material, exercise: Exercise) -> str:
    """Read the shipped solution of one exercise.

    Its docstring is left out, because the stub has the same one.
    """
    source = (material.solutions / f"ex{exercise.key}.py").read_text(encoding="utf-8")
    lines = source.split("\n")
    docstring = find_functions(source)[exercise.name].body[0]
    del lines[docstring.lineno - 1 : docstring.end_lineno]

    answer = lines[locate_function("\n".join(lines), exercise.name)]
    return "\n".join(line for line in answer if line.strip() not in (BEGIN, END))


def put_back_stub(material: Material, path: Path, exercise: Exercise) -> Path:
    """Replace the learner's function by its stub, and return a copy of the file as it was.

    The rest of the file stays. Raise CourseError if the file cannot be read as Python, or if
    it has no such function: the lesson's whole file can still be reset.
    """
    content = read_content(path)
    try:
        text = read_source(path.name, content)[0].decode()
        old = locate_function(text, exercise.name)
    except (KeyError, *NOT_COMPILED):
        raise CourseError(
            f"no function {exercise.name} can be found in {path.name}: "
            f"`minilab reset {exercise.key[:2]}` puts the whole file back, "
            "and keeps a copy of yours"
        ) from None

    handed_out = read_stub(material, exercise.key)
    stub = handed_out.split("\n")[locate_function(handed_out, exercise.name)]
    lines = text.split("\n")
    lines[old] = stub

    copy = keep_copy(path)
    write_file(path, "\n".join(lines))
    return copy


def put_back_file(material: Material, path: Path, key: str) -> Path | None:
    """Replace a lesson's exercise file by its stubs, and return a copy of the old file.

    Return None if there was no file.
    """
    copy = keep_copy(path) if path.exists() else None
    write_file(path, read_stub(material, key))
    return copy


def keep_copy(path: Path) -> Path:
    """Copy a file to a free name beside it, such as `ex01_topic.before-reset-1.py`.

    Raise CourseError if the copy cannot be written.
    """
    names = (path.with_name(f"{path.stem}.before-reset-{n}.py") for n in range(1, 10_000))
    copy = next(name for name in names if not name.exists())
    try:
        shutil.copy2(path, copy)
    except OSError as error:
        raise CourseError(
            f"{copy} cannot be written, so nothing was reset: {error.strerror or error}"
        ) from None
    return copy


def read_content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error}") from None


def read_learner_text(path: Path) -> str:
    """Read a learner's file as all commands read it. Raise SourceError if it has no source."""
    return read_source(path.name, read_content(path))[0].decode()


def locate_function(source: str, name: str) -> slice:
    """Find the lines of a top-level function, with its decorators.

    Raise KeyError if there is no function of this name.
    """
    return locate_functions(source)[name]
