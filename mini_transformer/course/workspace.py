"""A learner's workspace: notebooks, exercise stubs, a README and the progress file, apart from the repository."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mini_transformer.course.exercises import read_stub
from mini_transformer.course.material import CourseError, Material
from mini_transformer.course.pieces import NOT_COMPILED, locate_functions
from mini_transformer.course.progress import FILE, Progress, write_atomically
from mini_transformer.course.sources import read_source

README = """# Your mini-transformer workspace

    minilab next        # what to do now, and where
    minilab grade 01    # check what you wrote in exercises/ex01_*.py
    minilab watch       # or leave this running: it checks whenever you save
    minilab hint        # stuck? three hints each, from a nudge to almost the answer
    minilab status      # the map: what is solved, what is next

`lessons/` holds the notebooks (`minilab lesson 01` opens one), `exercises/` is where you write, `progress.toml` remembers.
"""


@dataclass(frozen=True)
class Setup:
    """What making a workspace did: files that are new, and files that were there and stay as they were."""

    folder: Path
    added: tuple[str, ...]
    kept: tuple[str, ...]


def make_workspace(folder: Path, material: Material, base_seed: int = 0) -> Setup:
    """Fill `folder` with what is missing; nothing that is there is overwritten. CourseError if it cannot be written."""
    if folder.resolve() == material.solutions.resolve().parent:
        raise CourseError(f"{folder} is where the course itself is kept: give another folder")
    texts: dict[str, Callable[[], str]] = {"README.md": lambda: README}
    texts |= {f"exercises/ex{key}.py": partial(read_stub, material, key) for key in material.list_keys()}
    texts |= {
        f"lessons/{key}.ipynb": partial(make_notebook, material.lessons / f"{key}.py")
        for key in material.list_lessons()
    }
    kept = tuple(name for name in (*texts, FILE) if (folder / name).exists())
    try:
        for part in ("exercises", "lessons"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(f"{folder} cannot be made into a workspace: {error.strerror or error}") from None
    for name, make_text in texts.items():
        if name not in kept:
            write_atomically(folder / name, make_text())
    if FILE not in kept:  # last, because it marks a complete workspace
        Progress(folder, base_seed).save()
    return Setup(folder, tuple(name for name in (*texts, FILE) if name not in kept), kept)


def make_notebook(lesson: Path) -> str:
    """A lesson (py:percent) as the text of a notebook without outputs."""
    import jupytext  # slow to import, and only needed here

    notebook = jupytext.read(lesson, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, cell in enumerate(notebook.cells):  # jupytext draws random ids; the same lesson is the same notebook
        cell["id"] = f"cell-{number}"
    return jupytext.writes(notebook, fmt="ipynb")


def find_line(path: Path, name: str) -> int:
    """The line on which the learner's file defines `name`; 1 if it does not, or is not Python at the moment."""
    try:
        functions = locate_functions(read_source(path.name, path.read_bytes())[0].decode())
    except (OSError, *NOT_COMPILED):
        return 1
    return functions[name].start + 1 if name in functions else 1
