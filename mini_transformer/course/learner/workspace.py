"""Make a learner's workspace: notebooks, stubs, a README and a progress file.

It is apart from the repository.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mini_transformer.course.exercises import read_stub
from mini_transformer.course.grading.pieces import NOT_COMPILED, locate_functions
from mini_transformer.course.grading.sources import read_source
from mini_transformer.course.learner.progress import FILE, Progress
from mini_transformer.course.material import CourseError, Material, write_file

README = """# Your mini-transformer workspace

    minilab lesson 00   # what this is about; then lesson 01, and so on
    minilab next        # what to do now, and where
    minilab grade 01    # check what you wrote in exercises/ex01_*.py
    minilab watch       # or leave this running: it checks whenever you save
    minilab hint        # stuck? three hints each, from a nudge to almost the answer
    minilab status      # the map: what is solved, what is next

`lessons/` holds the notebooks (folded cells check what the text says), \
`exercises/` is where you write, `progress.toml` remembers.
"""


@dataclass(frozen=True)
class Setup:
    """Say what making a workspace did: which files are new, and which were there and stay."""

    folder: Path
    added: tuple[str, ...]
    kept: tuple[str, ...]


def make_workspace(folder: Path, material: Material, base_seed: int = 0) -> Setup:
    """Fill `folder` with what is missing. Overwrite nothing.

    Raise CourseError if something cannot be written.
    """
    if folder.resolve() == material.solutions.resolve().parent:
        raise CourseError(f"{folder} is where the course itself is kept: give another folder")

    texts: dict[str, Callable[[], str]] = {"README.md": lambda: README}
    for key in material.list_keys():
        texts[f"exercises/ex{key}.py"] = partial(read_stub, material, key)
    for key in material.list_lessons():
        texts[f"lessons/{key}.ipynb"] = partial(make_notebook, material.lessons / f"{key}.py")

    kept = tuple(name for name in (*texts, FILE) if (folder / name).exists())
    try:
        for part in ("exercises", "lessons"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise CourseError(f"{folder} cannot be made into a workspace: {why}") from None

    for name, make_text in texts.items():
        if name not in kept:
            write_file(folder / name, make_text())
    if FILE not in kept:  # last, because it marks a complete workspace
        Progress(folder, base_seed).save()

    added = tuple(name for name in (*texts, FILE) if name not in kept)
    return Setup(folder, added, kept)


def make_notebook(lesson: Path) -> str:
    """Turn a lesson (py:percent) into the text of a notebook without outputs."""
    import jupytext  # slow to import, and only needed here

    notebook = jupytext.read(lesson, fmt="py:percent")
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    # jupytext draws random ids, but the same lesson must give the same notebook
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if "check" in cell.metadata.get("tags", []):  # asserts for us: folded, opened by a click
            cell.metadata["jupyter"] = {"source_hidden": True}
    return jupytext.writes(notebook, fmt="ipynb")


def find_line(path: Path, name: str) -> int:
    """Find the line on which the learner's file defines `name`.

    Return 1 if it does not, or if the file is not Python at the moment.
    """
    try:
        functions = locate_functions(read_source(path.name, path.read_bytes())[0].decode())
    except (OSError, *NOT_COMPILED):
        return 1
    return functions[name].start + 1 if name in functions else 1
